"""A Responses stream as chat chunks, event by event.

Every chunk of an answer differs only in its delta, so what stands around it is written once. Deltas
that come together are read (`chat_runs`) and written together.

The form is that of OpenAI's own chunks (recorded streams): the role comes alone in the first one,
a call opens with id, name and empty arguments and continues with arguments only, the chunk with the
finish reason has an empty delta, and the usage comes last, without choices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.chat_decoder import Decoder
from codexrelay.protocol.chat_facts import (
    CallClosed,
    CallInput,
    CallOpened,
    Citation,
    Ended,
    Refusal,
    Text,
    Thought,
)
from codexrelay.protocol.chat_request import ChatTurn
from codexrelay.protocol.chat_usage import chat_usage
from codexrelay.protocol.openai_errors import error_body
from codexrelay.protocol.raw import dump, dump_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.chat_facts import Fact, FinishReason
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import JsonObject

_DONE: Final = b"data: [DONE]\n\n"
#: The arguments that carry the raw text of a custom tool: `{"input": TEXT}`.
_RAW_BEGIN: Final = '{"input":"'
_RAW_END: Final = '"}'


@attrs.define(eq=False)
class ChatStream:
    """Writes one answer as chunks."""

    turn: ChatTurn
    completion_id: str = attrs.field(kw_only=True)
    created_unix_s: int = attrs.field(kw_only=True)
    #: Against which upstream's reset times are read.
    now_unix_s: float = attrs.field(kw_only=True)
    keep_alive: bytes = attrs.field(init=False, default=sse.comment("keep-alive"))
    _decoder: Decoder = attrs.field(init=False)
    #: What stands before the choices of every chunk; empty before the first one.
    _prefix: bytes = attrs.field(init=False, default=b"")
    #: What stands before and behind a delta.
    _head: bytes = attrs.field(init=False, default=b"")
    _tail: bytes = attrs.field(init=False, default=b"")
    #: Indexes of the calls that carry raw text.
    _raw_calls: set[int] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._decoder = Decoder(self.now_unix_s)

    @property
    def terminal(self) -> Terminal | None:
        """How upstream ended the turn, see `Answer`."""
        return self._decoder.terminal

    @property
    def reasoning(self) -> dict[str, list[JsonObject]]:
        """Call id -> the encrypted reasoning before that call, for `chat_request.translate`."""
        return self._decoder.reasoning

    def feed(self, block: bytes) -> bytes:
        """Take upstream bytes, return whole chunks, see `Answer`."""
        out: list[bytes] = []
        for fact in self._decoder.feed(block):
            self._write(fact, out)
        return b"".join(out)

    def fail(self, fault: Fault) -> bytes:
        """End the answer with an error chunk, see `Answer`."""
        self._decoder.fail(fault)
        return _error(fault)

    def finish(self) -> bytes:
        """Return the sentinel."""
        return _DONE

    def _write(self, fact: Fact, out: list[bytes]) -> None:
        match fact:
            case Text(texts):
                self._deltas(b'{"content":', texts, b"}", out, said=True)
            case CallInput(index, texts):
                if index in self._raw_calls:
                    # Once more, without the quotes: pieces of a string inside a string.
                    texts = [dump(text)[1:-1].decode() for text in texts]
                self._arguments(index, texts, out)
            case Thought(texts):
                self._deltas(b'{"reasoning_content":', texts, b"}", out)
            case Refusal(texts):
                self._deltas(b'{"refusal":', texts, b"}", out)
            case CallOpened():
                self._open(fact, out)
            case CallClosed(index):
                if index in self._raw_calls:
                    self._arguments(index, [_RAW_END], out)
            case Citation(annotation):
                self._delta(b'{"annotations":[%b]}' % dump(annotation), out)
            case Ended(terminal, finish_reason):
                if terminal.fault is not None:
                    out.append(_error(terminal.fault))
                else:
                    self._end(finish_reason, terminal, out)
            case _:
                assert_never(fact)

    def _deltas(
        self,
        begin: bytes,
        texts: Sequence[str],
        end: bytes,
        out: list[bytes],
        *,
        said: bool = False,
    ) -> None:
        """Write a chunk for each of `texts`."""
        if not self._prefix:
            self._begin(out, said=said)
        before, behind = self._head + begin, end + self._tail
        out += (before, dump_texts(texts, between=behind + before), behind)

    def _delta(self, delta: bytes, out: list[bytes]) -> None:
        if not self._prefix:
            self._begin(out, said=False)
        out += (self._head, delta, self._tail)

    def _arguments(self, index: int, texts: Sequence[str], out: list[bytes]) -> None:
        begin = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % index
        self._deltas(begin, texts, b"}}]}", out)

    def _open(self, call: CallOpened, out: list[bytes]) -> None:
        entry: JsonObject = {
            "index": call.index,
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        self._delta(b'{"tool_calls":[%b]}' % dump(entry), out)
        if call.custom:
            self._raw_calls.add(call.index)
            self._arguments(call.index, [_RAW_BEGIN], out)

    def _begin(self, out: list[bytes], *, said: bool) -> None:
        """Write the first chunk. `said`: the answer begins with text (or is nothing at all)."""
        self._frame()
        content = b'""' if said else b"null"
        out += (
            self._head,
            b'{"role":"assistant","content":',
            content,
            b',"refusal":null}',
            self._tail,
        )

    def _end(
        self, finish_reason: FinishReason | None, terminal: Terminal, out: list[bytes]
    ) -> None:
        if not self._prefix:
            self._begin(out, said=True)
        self._frame()  # only now upstream names the tier that really served the turn
        out += (self._head, b"{}", self._tail_of(finish_reason))
        if self.turn.include_usage and terminal.usage is not None:
            usage = dump(chat_usage(terminal.usage))
            out += (self._prefix, b'"choices":[],"usage":', usage, b"}\n\n")

    def _frame(self) -> None:
        """Write what is the same in all chunks from here on."""
        common: JsonObject = {
            "id": self.completion_id,
            "object": "chat.completion.chunk",
            "created": self.created_unix_s,
            "model": self._decoder.model or self.turn.model,
        }
        if self._decoder.service_tier is not None:
            common["service_tier"] = self._decoder.service_tier
        common["system_fingerprint"] = None
        self._prefix = b"data: %b," % dump(common)[:-1]
        self._head = self._prefix + b'"choices":[{"index":0,"delta":'
        self._tail = self._tail_of(None)

    def _tail_of(self, finish_reason: FinishReason | None) -> bytes:
        usage = b',"usage":null' if self.turn.include_usage else b""
        return b',"logprobs":null,"finish_reason":%b}]%b}\n\n' % (dump(finish_reason), usage)


def _error(fault: Fault) -> bytes:
    return b"data: %b\n\n" % error_body(fault.error)
