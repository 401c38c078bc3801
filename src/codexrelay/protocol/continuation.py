"""Whether a request goes on where an answered one ended: then only its new items need to be sent.

The backend remembers the last response of a WebSocket, by its id. A request may name it, and leave
out what it holds already, where nothing of it was changed: the fields beside the input are equal,
and the input begins with all items that were sent and received (wire notes 7; reference notes h).

Kept are digests, never what was said. Two items are the same where they differ in nothing but what
a client may leave out or add of its own accord: see `_UNTOLD` and the rest below.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

import attrs
import orjson

from codexrelay.protocol.raw import Json, JsonObject, is_object, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Fields of a request that say nothing of what is asked: how it is sent, and by whom.
_BESIDE: Final = frozenset(
    {
        "input",
        "stream",
        "background",
        "previous_response_id",
        "generate",
        "type",
        "client_metadata",
    }
)
#: What an item may have in one place and lack in the other, at its top and in the parts of its
#: content. So it is with whatever is null.
_UNTOLD: Final = frozenset(
    {"id", "status", "metadata", "internal_chat_message_metadata_passthrough"}
)
_UNTOLD_IN_PARTS: Final = frozenset({"annotations", "logprobs", "metadata"})
_WITH_PARTS: Final = frozenset({"content", "summary"})
#: An item that is nothing but another one's id.
_REFERENCE: Final = "item_reference"
#: The model's own JSON, which clients may write anew. Not so what a tool put out: that the client
#: has said itself, and blanks may be what it is about.
_JSON: Final = "arguments"
#: A number of so many digits may be rounded when it is read. To look for one in a long text, all
#: digits are made the same: ten times as fast as a regular expression.
_LONG_NUMBER: Final = b"0" * 16
_DIGITS: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_DIGEST_BYTES: Final = 16


@attrs.frozen
class Asked:
    """A whole request, as far as a later one is compared with it."""

    #: Of everything but the input.
    fields: bytes
    #: Of each item of the input.
    items: tuple[bytes, ...]

    @classmethod
    def of(cls, body: JsonObject) -> Asked | None:
        """Return what there is to compare of a request; None: nothing can go on from it."""
        given = body.get("input")
        if not isinstance(given, list) or not all(map(is_object, given)):
            return None
        beside: JsonObject = {name: body[name] for name in body if name not in _BESIDE}
        return cls(_digest(beside), digests_of(given))

    def answered(self, response_id: str, output: Iterable[bytes]) -> Answered:
        """Return what the backend knows once it has answered; `output`: the items' digests."""
        return Answered(response_id, self.fields, (*self.items, *output))


@attrs.frozen
class Answered:
    """What the backend knows at the end of a response that was completed."""

    response_id: str
    fields: bytes
    items: tuple[bytes, ...]

    def known_of(self, asked: Asked) -> int | None:
        """Return how many items of the new request are known; None: it does not go on from here."""
        count = len(self.items)
        goes_on = asked.fields == self.fields and asked.items[:count] == self.items
        return count if goes_on else None


def digests_of(items: Iterable[Json]) -> tuple[bytes, ...]:
    """Return one digest for each item, the same one for items that mean the same."""
    return tuple(_digest(_plain(item) if is_object(item) else item) for item in items)


def _plain(item: JsonObject) -> JsonObject:
    if item.get("type") == _REFERENCE:
        return item
    plain: JsonObject = {}
    for name, value in item.items():
        if value is None or name in _UNTOLD:
            continue
        if name in _WITH_PARTS and isinstance(value, list):
            plain[name] = [_plain_part(part) for part in value]
        elif name == _JSON and isinstance(value, str):
            plain[name] = _in_one_way(value)
        elif name not in _UNTOLD_IN_PARTS:
            plain[name] = value
    return plain


def _plain_part(part: Json) -> Json:
    if not is_object(part):
        return part
    return {n: v for n, v in part.items() if v is not None and n not in _UNTOLD_IN_PARTS}


def _in_one_way(text: str) -> str:
    """Return JSON text as it would be written here, and any other text as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        if _LONG_NUMBER in text.encode().translate(_DIGITS):
            return text
        plain = _sorted(parse(text)).decode()
    except ValueError:  # no JSON, or half a surrogate pair
        return text
    # Of two values of one name the parser keeps the last.
    return plain if plain.count('"') == text.count('"') else text


def _digest(value: Json) -> bytes:
    return hashlib.blake2b(_sorted(value), digest_size=_DIGEST_BYTES).digest()


def _sorted(value: Json) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a surrogate pair, a number beyond 64 bits, many levels
        try:
            return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
