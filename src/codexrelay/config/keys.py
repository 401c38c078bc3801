"""All keys of the configuration as one flat table, drawn from the settings classes."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, get_type_hints

import attrs

from codexrelay.config.settings import SECRET, Settings
from codexrelay.config.values import conform, shown, without_login
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

KeyPath: TypeAlias = tuple[str, ...]

#: Parts of a path that would only make flags longer while there is one backend.
_NOT_IN_FLAGS: Final = frozenset({"server", "backends", "openai_codex", "extra", "codex"})


@attrs.frozen(kw_only=True)
class Key:
    """One setting."""

    path: KeyPath
    #: The annotation of its field, resolved.
    wanted: object
    field: attrs.Attribute[object]

    @property
    def name(self) -> str:
        """The full key path, `server.port`."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The command-line flag, `--managed-oauth-storage-path`."""
        parts = (part.replace("_", "-") for part in self.path if part not in _NOT_IN_FLAGS)
        return "--" + "-".join(parts)

    def check(self, value: object) -> object:
        """Return `value` as the settings class takes it.

        Raises:
            ValueError: it is of the wrong type or out of range. The text says what is allowed, and
                what was given unless that is secret.
        """
        try:
            conformed = conform(value, self.wanted)
            self._check_range(conformed)
        except ValueError as error:
            given = "" if self.field.metadata.get(SECRET) else f", not {shown(value)}"
            raise ValueError(without_login(f"{error}{given}")) from None
        return conformed

    def _check_range(self, value: object) -> None:
        if self.field.validator is None:
            return
        try:
            self.field.validator(None, self.field, value)
        except ValueError as error:
            # attrs words it `'port' must be <= 65535: 70000`; name and value are said elsewhere.
            what = str(error.args[0])
            name_first, value_last = f"'{self.field.name}' ", f": {value}"
            raise ValueError(what.removeprefix(name_first).removesuffix(value_last)) from None


@attrs.frozen(kw_only=True)
class Given:
    """The value that one source gives for one key, as it stands there."""

    key: Key
    value: object
    #: What a message calls the place: the key and its line, the variable, or the flag.
    where: str
    #: What a relative path counts from; None is the working directory.
    folder: Path | None = None


@attrs.frozen(kw_only=True)
class Reading:
    """What one source says."""

    #: In the order of the source.
    found: tuple[Given | Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def keys_of(settings: type[attrs.AttrsInstance], path: KeyPath = ()) -> Iterator[Key]:
    """Yield the keys of a settings class and of the classes inside it."""
    annotations = get_type_hints(settings)
    for field in attrs.fields(settings):
        here, wanted = (*path, field.name), annotations[field.name]
        if isinstance(wanted, type) and attrs.has(wanted):
            yield from keys_of(wanted, here)
        else:
            yield Key(path=here, wanted=wanted, field=field)


def _sections(paths: Iterable[KeyPath]) -> dict[KeyPath, list[str]]:
    sections: dict[KeyPath, list[str]] = {}
    for path in paths:
        for depth, name in enumerate(path):
            names = sections.setdefault(path[:depth], [])
            if name not in names:
                names.append(name)
    return sections


KEYS: Final[Mapping[KeyPath, Key]] = {key.path: key for key in keys_of(Settings)}
#: What holds keys or other sections -> the names inside.
SECTIONS: Final[Mapping[KeyPath, Sequence[str]]] = _sections(KEYS)


def key_named(name: str) -> Key:
    """Return the key with this full key path, `server.port`; raises KeyError when there is none."""
    return KEYS[tuple(name.split("."))]


def unknown_key(path: KeyPath) -> str:
    """Return what to say about a key that does not exist, in a section that does."""
    *section, name = path
    beside = SECTIONS[tuple(section)]
    if alike := difflib.get_close_matches(name, beside, n=1):
        return f"unknown key; did you mean {'.'.join((*section, alike[0]))}?"
    for key in KEYS.values():
        if key.path[-1] == name:
            return f"unknown key; did you mean {key.name}?"
    return f"unknown key; known here: {', '.join(beside)}"
