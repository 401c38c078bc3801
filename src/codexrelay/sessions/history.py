"""Conversations by the ids of their answers, for clients that send only what is new.

A client on a WebSocket names the answer that it goes on from (`previous_response_id`); with the
backend such an id lives as long as its connection (wire notes 7). Here it lives as long as the
session's memory of it, whatever connection or account comes next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from codexrelay.protocol.raw import Json, dump, parse

#: Latest answers that a session can be gone on from. One is the rule, a second one where a turn is
#: done again; the others are of turns that run beside.
MAX_ANSWERS: Final = 16
#: Most that one session keeps, in characters. A history as long as the largest context window of
#: the backend is some 2 MB; images make it longer.
MAX_CHARACTERS: Final = 32 * 1024 * 1024

_NOTHING: Final[Mapping[str, Conversation]] = MappingProxyType({})


@attrs.frozen(eq=False)
class Conversation:
    """All items up to and with an answer, in order.

    What goes on from another one shares its pieces: a turn adds what is new, whatever came before.
    """

    #: Each some items as JSON, joined by commas.
    pieces: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    def followed_by(self, items: Iterable[Json]) -> Conversation:
        """Return this conversation and `items` behind it.

        Raises:
            ValueError: one of them cannot be serialised.
        """
        more = list(items)
        return Conversation((*self.pieces, dump(more)[1:-1])) if more else self

    @property
    def items(self) -> list[Json]:
        """Its items, made anew each time: the caller may do with them what it wants."""
        items = parse(b"[" + b",".join(self.pieces) + b"]")
        assert isinstance(items, list)
        return items

    @property
    def characters(self) -> int:
        """What it costs to remember if nobody shares it."""
        return sum(map(len, self.pieces))


@attrs.frozen(eq=False)
class History:
    """The conversations that a session can go on from."""

    #: Response id -> what led to that answer and the answer, the oldest first.
    known: Mapping[str, Conversation] = attrs.field(default=_NOTHING, repr=False)
    #: What all of them together cost to remember: shared pieces count once.
    characters: int = 0

    def after(self, response_id: str) -> Conversation | None:
        """Return the conversation up to and with an answer, None if it is not known."""
        return self.known.get(response_id)

    def with_answer(self, response_id: str, conversation: Conversation) -> History:
        """Return the history with one more answer; the oldest ones make room for it.

        One that is too long by itself is not remembered, and costs the others nothing.
        """
        if conversation.characters > MAX_CHARACTERS:
            return self
        known = {id_: one for id_, one in self.known.items() if id_ != response_id}
        known[response_id] = conversation
        while len(known) > MAX_ANSWERS or (characters := _characters(known)) > MAX_CHARACTERS:
            del known[next(iter(known))]
        return History(known, characters)


#: Of a session whose clients send everything each time.
NOTHING_SAID: Final = History()


def _characters(known: Mapping[str, Conversation]) -> int:
    """Count each piece once; they are shared as objects."""
    pieces = {id(piece): len(piece) for one in known.values() for piece in one.pieces}
    return sum(pieces.values())
