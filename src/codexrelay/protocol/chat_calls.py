"""The tool calls of a Responses stream: which were opened, what came of them, which are done.

A call is closed when upstream says that its item is done, and never because the answer ends: an
agent would apply half a patch, or run half a command, that looks whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_facts import CallClosed, CallInput, CallOpened
from codexrelay.protocol.chat_told import Key
from codexrelay.protocol.raw import get_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from codexrelay.protocol.raw import JsonObject

#: Item type -> the key of its input.
INPUTS: Final[Mapping[str, str]] = {"function_call": "arguments", "custom_tool_call": "input"}


@attrs.define(eq=False)
class _Call:
    """A call that the client knows of."""

    opened: CallOpened
    #: The input that stood in the item when it was added, and whether it was called complete then.
    given: str
    given_whole: bool
    #: Whether something of the input was passed on: what comes whole only repeats it.
    begun: bool = False
    #: Whether an event said that the input is whole.
    said_whole: bool = False
    closed: bool = False


@attrs.define(eq=False)
class Calls:
    """The calls of one answer, by the keys of their items."""

    _calls: dict[Key, _Call] = attrs.field(factory=dict)
    #: Items that upstream itself gave up: their status is `incomplete`.
    _cut: set[Key] = attrs.field(factory=set)

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def whole(self) -> bool:
        """Whether no call misses its end."""
        return not self._cut and all(call.closed for call in self._calls.values())

    def key_of(self, call_id: str | None) -> Key | None:
        """Return the key of the call with this id, None if there is none."""
        if call_id is not None:
            for key, call in self._calls.items():
                if call.opened.call_id == call_id:
                    return key
        return None

    def open(self, key: Key, item: JsonObject) -> CallOpened | None:
        """Return the opening of the call `item`, None if the client has it or could not use it."""
        name, call_id = get_text(item, "name"), get_text(item, "call_id")
        if not name or not call_id or key in self._calls:
            return None
        opened = CallOpened(len(self._calls), call_id, name, item["type"] == "custom_tool_call")
        given_whole = item.get("status") == "completed"
        self._calls[key] = _Call(opened, _input_of(item), given_whole)
        return opened

    def pieces(self, key: Key, texts: Sequence[str]) -> CallInput | None:
        """Take pieces of input; None if they are of no call that the client has open."""
        call = self._calls.get(key)
        if call is None or call.closed or not texts:
            return None
        call.begun = True
        return CallInput(call.opened.index, texts)

    def input_done(self, key: Key, whole: str) -> Iterator[CallInput]:
        """Take the whole input. Nothing is closed: the item may still turn out to be cut."""
        if (call := self._calls.get(key)) is not None:
            call.said_whole = True
            yield from self._rest(call, whole)

    def done(self, key: Key, item: JsonObject) -> Iterator[CallInput | CallClosed]:
        """Take the finished item of a call that was opened."""
        self._cut.discard(key)
        if (call := self._calls.get(key)) is not None and not call.closed:
            yield from self._rest(call, _input_of(item) or call.given)
            call.closed = True
            yield CallClosed(call.opened.index)

    def cut(self, key: Key) -> None:
        """Note that upstream gave the item up: it says nothing to the client any more."""
        self._cut.add(key)

    def end(self) -> Iterator[CallInput | CallClosed]:
        """Close the calls whose items were never called done, though all of their input came."""
        for key, call in self._calls.items():
            if call.closed or key in self._cut:
                continue
            if call.given and call.given_whole and not call.begun:
                yield from self._rest(call, call.given)
                call.said_whole = True
            if call.said_whole:
                call.closed = True
                yield CallClosed(call.opened.index)

    def _rest(self, call: _Call, whole: str) -> Iterator[CallInput]:
        """Yield what the client lacks of the `whole` input."""
        if whole and not call.begun:
            call.begun = True
            yield CallInput(call.opened.index, [whole])


def _input_of(item: JsonObject) -> str:
    return get_text(item, INPUTS[str(item["type"])]) or ""
