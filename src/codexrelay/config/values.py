"""Which values an annotation of a settings class takes, in code and in words.

Own code rather than cattrs: cattrs converts where we refuse (`"8787"` to a number, a text to a list
of its letters), and what it says about a value must be put into our words in any case.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Final, Literal, Union, get_args, get_origin

import attrs

from codexrelay.setting import without_login

_WORDS: Final[Mapping[object, str]] = {
    bool: "true, yes, on, false, no or off",
    int: "a whole number",
    float: "a number",
    str: "non-empty text",
    NoneType: "null",
}
#: What YAML 1.1 takes for a boolean, and digits, since the environment has no other numbers.
_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
#: What YAML makes a boolean of, and may be a word as well.
_SWITCH: Final[Mapping[bool, str]] = {True: "on", False: "off"}
#: Characters of a text that a message repeats: prompts are long.
_SHOWN: Final = 100
#: Where a longer text has a URL with a login in it.
_URL_LOGIN: Final = re.compile(r"//\S*@")
#: Beyond it a whole number is no figure that anything here reckons with.
_LARGEST: Final = 2**63 - 1
_HALF: Final = re.compile("[\ud800-\udfff]")
#: Levels that lists and mappings may be nested, in a value or in all of a file.
DEEPEST: Final = 100


@attrs.frozen
class Unreadable:
    """Stands for the value of a key where something is written that gives none."""

    why: str


def conform(value: object, wanted: object) -> object:
    """Return `value` in the representation of the annotation `wanted`.

    A whole number becomes a float where one is wanted, a list a tuple; and a boolean, as which YAML
    reads a bare `on` or `off`, that word where it is a choice. Nothing else is converted.
    No setting means anything when its text is empty, so that is refused everywhere.

    Raises:
        ValueError: `wanted` does not take `value`; the text says what it takes.
    """
    if isinstance(value, Unreadable):
        raise ValueError(value.why)  # noqa: TRY004 - it stands for a value
    if isinstance(value, bool) and (word := _SWITCH[value]) in _choices(wanted):
        return word
    for member in _members(wanted):
        if _takes(value, member):
            return _represented(value, member)
    raise ValueError(f"must be {in_words(wanted)}")


def from_text(text: str, wanted: object) -> object:
    """Return what `text`, from the environment or a flag, says where `wanted` is taken.

    A list is a JSON array or, where a single text is none, separated by commas; what begins as an
    array does is one. `null` and words that are the only ones allowed are the same in any case.
    Text that says nothing of the kind is returned as it is; `conform` then refuses it.
    """
    members, word = _members(wanted), text.strip().lower()
    if NoneType in members and word == "null":
        return None
    if text.lstrip().startswith("[") and any(get_origin(member) is tuple for member in members):
        try:
            return read_json(text)
        except ValueError as error:
            return Unreadable(f"begins as a JSON array and {error}")
    for member in members:
        if get_origin(member) is Literal and word in get_args(member):
            return word
        value = _read(text, member, by_commas=str not in members)
        if _takes(value, member):
            return value
    return text


def read_json(text: str) -> object:
    """Return what JSON text says.

    Raises:
        ValueError: it says nothing. The message follows a noun and holds nothing of the text.
    """
    try:
        value: object = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no valid JSON (character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if _depth(value) > DEEPEST:
        raise ValueError("is nested too deeply")
    return value


def has_half(value: object) -> bool:
    """Return whether a text in `value` holds half of a character, which no request can hold."""
    match value:
        case str():
            return _HALF.search(value) is not None
        case dict():
            return any(has_half(name) or has_half(each) for name, each in value.items())
        case list() | tuple():
            return any(map(has_half, value))
        case _:
            return False


def in_words(wanted: object) -> str:
    """Return what the annotation takes, so that it follows `must be`."""
    return " or ".join(_member_in_words(member) for member in _members(wanted))


def told(wanted: object, *, text: str = "text", bounds: tuple[str, ...] = ()) -> str:
    """Return what the annotation takes, shorter than in a message: `whole number >= 0 or null`.

    `text` is what a text means; `bounds` are those of a number.
    """
    within = " ".join(("", *bounds))
    short: Mapping[object, str] = {
        bool: "true or false",
        int: f"whole number{within}",
        float: f"number{within}",
        str: text,
    }
    return " or ".join(_told(member, short) for member in _members(wanted))


def shown(value: object) -> str:
    """Return a value with its kind, so that it follows `not`: `the text '8787'`."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 10**_SHOWN:
            return "a number of many digits"
        case int() | float():
            return f"the number {value}"
        case str():
            # A login is left out wherever it may be one; first, for half of it would not look so.
            plain = without_login(value)
            short = plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}…"
            return f"the text {short!r}" if value else "an empty text"
        case list() | tuple():
            items = ("a list" if isinstance(item, list | tuple) else shown(item) for item in value)
            return f"[{', '.join(items)}]"
        case dict():
            return "a mapping"
        case _:  # YAML's dates, times, sets and bytes
            return f"a {type(value).__name__}"


def without_logins(text: str) -> str:
    """Return a text that is no URL without user and password of one in it."""
    return _URL_LOGIN.sub("//…@", text)


def is_mapping(wanted: object) -> bool:
    """Return whether the annotation is that of a mapping, hence takes names of the user's own."""
    return get_origin(wanted) is Mapping


def _members(wanted: object) -> tuple[object, ...]:
    """Return the alternatives of a union; anything else is its own only one."""
    # `float | None` is the first; `Literal["all"] | None` is the second before Python 3.14.
    is_union = get_origin(wanted) in (UnionType, Union)
    return get_args(wanted) if is_union else (wanted,)


def _choices(wanted: object) -> tuple[object, ...]:
    """Return the single values that the annotation takes."""
    return tuple(
        word
        for member in _members(wanted)
        if get_origin(member) is Literal
        for word in get_args(member)
    )


def _takes(value: object, member: object) -> bool:
    if get_origin(member) is Literal:
        return value in get_args(member)
    if get_origin(member) is tuple:
        (each, _) = get_args(member)  # tuple[str, ...]
        return isinstance(value, list | tuple) and all(_takes(item, each) for item in value)
    if is_mapping(member):
        return isinstance(value, dict) and _is_json(value)
    if member is str:
        return isinstance(value, str) and value != ""
    if member is int or member is float:
        return _is_number(value, member)
    return isinstance(value, bool if member is bool else NoneType)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("has a key twice in one of its objects")
    return made


def _refuse_constant(name: str) -> object:
    """`NaN` and `Infinity` are no JSON."""
    raise ValueError(f"holds {name}, which is no JSON")


def _depth(value: object) -> int:
    """Return how many levels are nested."""
    depth, level = 0, [value]
    while level := [
        inside
        for each in level
        if isinstance(each, dict | list)
        for inside in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth


def _is_json(value: object) -> bool:
    """Return whether YAML gave what JSON can say: no dates, and names that are text."""
    match value:
        case dict():
            return all(isinstance(name, str) and _is_json(each) for name, each in value.items())
        case list():
            return all(map(_is_json, value))
        case int() | float():
            return abs(value) <= sys.float_info.max
        case _:
            return value is None or isinstance(value, str)


def _is_number(value: object, member: object) -> bool:
    if isinstance(value, bool):  # bool is a subclass of int
        return False
    if member is int:
        return isinstance(value, int) and abs(value) <= _LARGEST
    # Neither infinite, nor not a number, nor a whole number too large for a float.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _represented(value: object, member: object) -> object:
    if isinstance(value, list | tuple):
        (each, _) = get_args(member)
        return tuple(_represented(item, each) for item in value)
    if member is float and isinstance(value, int):
        return float(value)
    return value


def _read(text: str, member: object, *, by_commas: bool) -> object:
    try:
        if get_origin(member) is tuple:
            (each, _) = get_args(member)
            if is_mapping(each):
                return text
            return (
                [from_text(item.strip(), each) for item in text.split(",")] if by_commas else text
            )
        if member is int:
            return int(text)
        if member is float:
            return float(text)
    except ValueError:
        return text
    return _BOOLEANS.get(text.strip().lower(), text) if member is bool else text


def _told(member: object, short: Mapping[object, str]) -> str:
    if get_origin(member) is tuple:
        (each, _) = get_args(member)
        if is_mapping(each):
            return "list of JSON objects"
        return f"list of {short[each]}s" if each in short else f"list; each {_told(each, short)}"
    if is_mapping(member):
        return "mapping"
    return short.get(member) or _member_in_words(member)


def _member_in_words(member: object) -> str:
    if get_origin(member) is Literal:
        words = get_args(member)
        return f"one of {', '.join(words)}" if len(words) > 1 else str(words[0])
    if get_origin(member) is tuple:
        return f"a list (each item: {in_words(get_args(member)[0])})"
    return "a JSON object" if is_mapping(member) else _WORDS[member]
