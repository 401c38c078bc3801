"""What a field of a settings class says about itself: its meaning, its range, its variables.

The configuration reads it to check values, `config.example.yaml` and `serve --help` to explain
them: what a key means is written once, beside its type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from typing import Any, Final, Literal, TypeVar

import attrs
from attrs import validators as v

#: A check of a value that has the right type. Its ValueError says what is wrong with the value; if
#: that begins with `must be`, what was given is added to it.
Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]

_T = TypeVar("_T")
_MARK: Final = "setting"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//")


@attrs.frozen(kw_only=True)
class About:
    """What is known of a field."""

    default: object = None
    #: Sentences for who writes a configuration. A line break stands only before an item (`- `).
    meaning: str
    #: Environment variables that give the key, the strongest last.
    variables: tuple[str, ...] = ()
    #: Further names of its command-line flag, with the dashes before them.
    flags: tuple[str, ...] = ()
    #: It has no default and must be given; such a value looks like this.
    needed: str | None = None
    #: `>= 0`: bounds of a number.
    bounds: tuple[str, ...] = ()
    #: A running relay takes a new value over; otherwise it must be started again.
    live: bool = False
    #: No message, repr or command may show the value.
    secret: bool = False
    #: The text is a URL, hence may hold a password: no message repeats it, and it is shown without.
    url: bool = False
    #: The text names a place on this machine; a relative one counts from the file that names it.
    path: Literal["file", "folder"] | None = None
    #: A single text counts as a list of one.
    one_will_do: bool = False
    #: The class whose keys every entry of a mapping has.
    entries: type[attrs.AttrsInstance] | None = None


def setting(
    default: _T,
    meaning: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    check: Check | None = None,
    converter: Callable[[Any], Any] | None = None,
    variables: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
    needed: str | None = None,
    live: bool = False,
    secret: bool = False,
    url: bool = False,
    path: Literal["file", "folder"] | None = None,
    one_will_do: bool = False,
    entries: type[attrs.AttrsInstance] | None = None,
) -> _T:
    """Declare a field that is a key.

    `at_least`, `above` and `at_most` bound a number; None passes them, where the type takes it. The
    other arguments are those of `About`.
    """
    told, validators = _bounds(at_least=at_least, above=above, at_most=at_most)
    if check is not None:
        validators.append(check)
    about = About(
        default=default,
        meaning=_joined(meaning),
        variables=variables,
        flags=flags,
        needed=needed,
        bounds=told,
        live=live,
        secret=secret,
        url=url,
        path=path,
        one_will_do=one_will_do,
        entries=entries,
    )
    field: _T = attrs.field(
        default=attrs.Factory(default.copy) if isinstance(default, dict) else default,
        validator=v.optional(v.and_(*validators)) if validators else None,
        converter=converter,
        repr=_masked if secret else _url_masked if url else True,
        metadata={_MARK: about},
    )
    return field


def without_login(url: str) -> str:
    """Return a URL without its user and password.

    They may be written in no way that a URL allows, and what reads URLs finds them elsewhere then:
    everything between the scheme, or the start where there is none, and the last `@` is left out.
    """
    before, at, host = url.rpartition("@")
    scheme = _SCHEME.match(before)
    return f"{scheme[0] if scheme else ''}…@{host}" if at else url


def section(settings: type[_T], meaning: str, *, variables: tuple[str, ...] = ()) -> _T:
    """Declare a field that holds keys or other sections.

    A variable of a section is a JSON object with some of its keys.
    """
    about = About(meaning=_joined(meaning), variables=variables)
    field: _T = attrs.field(factory=settings, metadata={_MARK: about})
    return field


def about(field: attrs.Attribute[Any]) -> About | None:
    """Return what a field says about itself; None for one that is no key."""
    said: About | None = field.metadata.get(_MARK)
    return said


def _bounds(
    *, at_least: float | None, above: float | None, at_most: float | None
) -> tuple[tuple[str, ...], list[Check]]:
    bounds: Mapping[str, tuple[float | None, Callable[[Any], Check]]] = {
        ">=": (at_least, v.ge),
        ">": (above, v.gt),
        "<=": (at_most, v.le),
    }
    given = {sign: (bound, of) for sign, (bound, of) in bounds.items() if bound is not None}
    return (
        tuple(f"{sign} {bound}" for sign, (bound, _) in given.items()),
        [of(bound) for bound, of in given.values()],
    )


def _joined(text: str) -> str:
    """Undo the line breaks of the source, but for those before an item."""
    lines = (line.strip() for line in text.strip().splitlines())
    return "".join(("\n" if line.startswith("- ") else " ") + line for line in lines).strip()


def _url_masked(url: str | None) -> str:
    return repr(url if url is None else without_login(url))


def _masked(secrets: Sized) -> str:
    return f"<{len(secrets)} hidden>"
