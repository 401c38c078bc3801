"""Wire JSON as it is: read, written, and named in types.

Raw stays raw: what the relay forwards is the dict that was received, never a model of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, TypeAlias, TypeGuard

import orjson

#: Any JSON value. A forwarded object is a `JsonObject`.
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]
#: Stands for an object that is not kept any more; nobody changes it.
NOTHING: Final[JsonObject] = {}

#: Header names (lower-case) and values of an HTTP answer, in order.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

#: What orjson's results occupy at least.
_WRITTEN_BYTES: Final = 4096


def parse(data: bytes | bytearray | memoryview | str) -> Json:
    """Parse JSON text.

    Raises:
        ValueError: it is no JSON (`orjson.JSONDecodeError` is one), or nested too deeply.
    """
    try:
        value: Json = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _parse_with_halves(data)
        if value is None:
            raise
    return value


def _parse_with_halves(data: bytes | bytearray | memoryview | str) -> Json:
    r"""Parse JSON that orjson refuses because it holds half a surrogate pair, else return None.

    JavaScript cuts texts between the halves of an emoji and writes the rest as `\ud83d`: a history
    with one such text would otherwise be refused on every turn.
    """
    text = data.encode() if isinstance(data, str) else bytes(data)
    if b"\\ud" not in text.lower():
        return None
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse_constant(name: str) -> Json:
    """`NaN` and `Infinity` are no JSON."""
    raise ValueError(name)


def parse_object(data: bytes | bytearray | memoryview | str) -> JsonObject:
    """Parse JSON text that must be an object.

    Raises:
        ValueError: it is no JSON, or no object.
    """
    value = parse(data)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, not {kind_of(value)}")  # noqa: TRY004
    return value


def dump(value: Json) -> bytes:
    """Serialise compactly, in UTF-8, without escaping what needs none.

    Raises:
        ValueError: it is nested too deeply, which `parse` may have taken.
    """
    try:
        return orjson.dumps(value)
    except TypeError as refused:
        # Half a surrogate pair has no UTF-8, but an escape, as which it came; orjson also refuses
        # numbers beyond 64 bits, and more than 254 levels.
        try:
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
        except (ValueError, RecursionError):
            raise ValueError(f"the JSON cannot be written: {refused}") from None


def dump_texts(texts: Sequence[str], *, between: bytes) -> bytes:
    """Return `texts` (at least one) as JSON strings, with `between` between any two."""
    if len(texts) == 1:
        return dump(texts[0])
    try:
        # One call for all: inside a JSON string there is no line break, so that none of these is.
        listed = orjson.dumps(texts, option=orjson.OPT_INDENT_2)
    except TypeError:  # half a surrogate pair
        return between.join([dump(text) for text in texts])
    return listed[len(b"[\n  ") : -len(b"\n]")].replace(b",\n  ", between)


def dump_to_keep(value: Json) -> bytes:
    """Serialise as `dump` does, for what is kept for a while.

    However little it says, what orjson returns occupies 4 kB (measured: 3.13).
    """
    written = dump(value)
    return bytes(memoryview(written)) if len(written) < _WRITTEN_BYTES else written


def is_object(value: Json) -> TypeGuard[JsonObject]:
    """Tell whether `value` is a JSON object."""
    return isinstance(value, dict)


def get_object(value: JsonObject, key: str) -> JsonObject:
    """Return the object at `key`, or an empty one (not stored) if there is none."""
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def get_list(value: JsonObject, key: str) -> list[Json]:
    """Return the list at `key`, or an empty one (not stored) if there is none."""
    inner = value.get(key)
    return inner if isinstance(inner, list) else []


def get_text(value: JsonObject, key: str) -> str | None:
    """Return the text at `key`, or None if there is none."""
    inner = value.get(key)
    return inner if isinstance(inner, str) else None


def get_number(value: JsonObject, key: str) -> float | None:
    """Return the number at `key` (a numeric text counts), or None if there is none."""
    inner = value.get(key)
    if isinstance(inner, bool):
        return None
    if isinstance(inner, int | float):
        return float(inner)
    if isinstance(inner, str):
        try:
            number = float(inner)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def kind_of(value: Json) -> str:
    """Name the JSON type of `value`, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
