"""Chat → Chat: the target's own chunks, as they came.

Three things are not its own. What ends the stream is: a missing `[DONE]` is added, and one that
cannot go on gets an error of ours. The chunk with the usage, which the relay always asks for, is
kept from a client that did not. For a client that wants no stream the chunks are added up, whatever
is in them. The target's name of the model stays: it is what answered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import faults, sse
from codexrelay.protocol.answer import Terminal
from codexrelay.protocol.chat_body import DONE, ChatBody
from codexrelay.protocol.chat_chunk import (
    FAILED,
    INCOMPLETE,
    Chunk,
    Failure,
    Sentinel,
    finish_of,
    gave_up,
    look,
    responses_usage,
)
from codexrelay.protocol.chat_sum import ChatSum
from codexrelay.protocol.openai_errors import error_body
from codexrelay.protocol.raw import JsonObject, dump, get_list, get_text

if TYPE_CHECKING:
    from codexrelay.protocol.events import TerminalName
    from codexrelay.protocol.faults import Fault

#: Chunks in the plain form that say no more than a delta of the first choice: nothing in them ends,
#: counts or fails. Inside a JSON text the keys' quotes are escaped, so that what is found is a key.
_CHUNKS: Final = re.compile(rb"(?:data: \{.*+(?<=\})\n\n)*+")
_SAYS_MORE: Final = re.compile(
    rb'"finish_reason"\s*+:\s*+"|"usage"\s*+:\s*+\{|"error"|"index"\s*+:\s*+[1-9]'
)


def _only_deltas(whole: bytes) -> bool:
    return _SAYS_MORE.search(whole) is None and _CHUNKS.fullmatch(whole) is not None


@attrs.define(eq=False)
class _Ends:
    """Which of the choices have ended, and whether all has."""

    done: bool = False
    usage: JsonObject = attrs.field(factory=dict)
    response_id: str | None = None
    #: Whether anything was said.
    begun: bool = False
    #: Index of a choice -> why it ended, None as long as it goes on.
    _reasons: dict[int, str | None] = attrs.field(factory=dict)

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        return bool(self._reasons) and all(self._reasons.values())

    @property
    def name(self) -> TerminalName:
        """How it all ended: cut, if one of the choices was."""
        cut = any(reason in INCOMPLETE for reason in self._reasons.values())
        return "incomplete" if cut else "completed"

    def see(self, raw: bytes) -> None:
        """Take an event, whatever is in it."""
        try:
            said = look(raw)
        except ValueError:
            return
        if isinstance(said, Chunk):
            self.take(said)
        elif said is Sentinel.DONE:
            self.done = True

    def take(self, chunk: Chunk) -> None:
        self.response_id = self.response_id or get_text(chunk.payload, "id")
        self.usage = chunk.usage or self.usage
        for index, choice in chunk.choices:
            self.begun = True
            self._reasons[index] = finish_of(choice) or self._reasons.get(index)

    @property
    def failed(self) -> bool:
        """Whether the server gave a choice up."""
        return any(reason in FAILED for reason in self._reasons.values())


@attrs.define(eq=False)
class ChatDelivery:
    """A `delivery.Delivery`: upstream's own events, with the sentinel if it forgets it."""

    _body: ChatBody = attrs.field(factory=ChatBody, init=False)
    _ends: _Ends = attrs.field(factory=_Ends, init=False)

    def feed(self, block: bytes) -> bytes:
        """See `delivery.Delivery.feed`."""
        return self._seen(self._body.feed(block))

    def end(self) -> bytes:
        """See `delivery.Delivery.end`."""
        rest = self._seen(self._body.end())
        return rest + DONE if self._ends.finished and not self._ends.done else rest

    def _seen(self, whole: bytes) -> bytes:
        if not _only_deltas(whole):
            for raw in sse.split(whole):
                self._ends.see(raw)
        return whole


@attrs.define(eq=False, kw_only=True)
class NativeChatStream:
    """A `StreamedAnswer`: the same chunks, and one `[DONE]`."""

    #: Whether the client asked for the chunk with the usage.
    include_usage: bool
    #: Against which upstream's reset times are read, Unix seconds.
    now_unix_s: float
    keep_alive: bytes = attrs.field(default=sse.comment("keep-alive"), init=False)
    #: Its `usage` has the names of Responses, as everywhere.
    terminal: Terminal | None = attrs.field(default=None, init=False)
    _cutter: sse.EventCutter = attrs.field(factory=sse.EventCutter, init=False)
    _ends: _Ends = attrs.field(factory=_Ends, init=False)

    def feed(self, block: bytes) -> bytes:
        """See `answer.Answer.feed`. An event that is no JSON object ends the stream as a fault."""
        whole = self._cutter.feed(block)
        if self.terminal is None and _only_deltas(whole):
            self._ends.begun = self._ends.begun or bool(whole)
            return whole
        return b"".join([self._pass(raw) for raw in sse.split(whole)])

    def fail(self, fault: Fault) -> bytes:
        """See `answer.Answer.fail`."""
        self._end("failed", fault)
        return b"data: %b\n\n" % error_body(fault.error)

    def finish(self) -> bytes:
        """Return the sentinel: upstream's own is never passed on, so that there is one."""
        return DONE

    def _pass(self, raw: bytes) -> bytes:
        if self.terminal is not None:
            return b""
        try:
            said = look(raw)
        except ValueError:
            return self.fail(faults.not_json())
        match said:
            case Chunk():
                return self._chunk(raw, said)
            case Failure(event):
                return self.fail(faults.from_event(event, now_unix_s=self.now_unix_s))
            case Sentinel.DONE:
                if not self._ends.begun:  # an end of nothing is no answer
                    return self.fail(faults.ended_early())
                self._end(self._ends.name)
                return b""
            case None:
                return raw

    def _chunk(self, raw: bytes, chunk: Chunk) -> bytes:
        self._ends.take(chunk)
        if self._ends.failed:
            event = gave_up(chunk)
            return self.fail(faults.from_event(event, now_unix_s=self.now_unix_s))
        is_usage = bool(chunk.usage) and not get_list(chunk.payload, "choices")
        if is_usage and self._ends.finished:
            self._end(self._ends.name)
        return b"" if is_usage and not self.include_usage else raw

    def _end(self, name: TerminalName, fault: Fault | None = None) -> None:
        usage = self._ends.usage
        self.terminal = Terminal(
            name=name,
            response_id=self._ends.response_id,
            usage=responses_usage(usage) if usage else None,
            fault=fault,
        )


@attrs.define(eq=False, kw_only=True)
class NativeChatWhole:
    """A `WholeAnswer`: what the chunks add up to."""

    #: Said where upstream's chunks say nothing of it.
    model: str
    completion_id: str
    created_unix_s: int
    now_unix_s: float
    _stream: NativeChatStream = attrs.field(init=False)
    _sum: ChatSum = attrs.field(factory=ChatSum, init=False)

    def __attrs_post_init__(self) -> None:
        self._stream = NativeChatStream(include_usage=True, now_unix_s=self.now_unix_s)

    @property
    def terminal(self) -> Terminal | None:
        """See `answer.Answer.terminal`."""
        return self._stream.terminal

    def feed(self, block: bytes) -> bytes:
        """See `answer.Answer.feed`."""
        for raw in sse.split(self._stream.feed(block)):
            try:
                said = look(raw)
            except ValueError:  # a run of deltas passes unread
                if self.terminal is None:
                    self.fail(faults.not_json())
                break
            if isinstance(said, Chunk):
                self._sum.add(said)
        return b""

    def fail(self, fault: Fault) -> bytes:
        """See `answer.Answer.fail`."""
        self._stream.fail(fault)
        return b""

    def body(self) -> bytes:
        """See `answer.WholeAnswer.body`."""
        identity: JsonObject = {
            "id": self.completion_id,
            "object": "chat.completion",
            "created": self.created_unix_s,
            "model": self.model,
        }
        return dump(self._sum.completion(identity))
