"""Responses → Responses for a client that did not ask for a stream: the events, as one object.

It is the response object that a streaming client would have got with its terminal event, so that
both see the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.raw import dump
from codexrelay.protocol.responses_object import complete_for_sdk
from codexrelay.protocol.responses_stream import ResponsesStream

if TYPE_CHECKING:
    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.responses_scan import Notes


class ResponsesWhole:
    """A `WholeAnswer`."""

    def __init__(self, *, now_unix_s: float, model: str, created_unix_s: int) -> None:
        """Take what `ResponsesStream` takes."""
        self._stream = ResponsesStream(
            now_unix_s=now_unix_s, model=model, created_unix_s=created_unix_s
        )

    @property
    def terminal(self) -> Terminal | None:
        """See `answer.Answer.terminal`."""
        return self._stream.terminal

    @property
    def notes(self) -> Notes:
        """What the stream said in passing."""
        return self._stream.notes

    def feed(self, block: bytes) -> bytes:
        """See `answer.Answer.feed`."""
        self._stream.feed(block)
        return b""

    def fail(self, fault: Fault) -> bytes:
        """See `answer.Answer.fail`."""
        self._stream.fail(fault)
        return b""

    def body(self) -> bytes:
        """See `answer.WholeAnswer.body`."""
        stream, terminal = self._stream, self.terminal
        response = stream.response
        if response is None or terminal is None:
            raise RuntimeError("the body was asked for before the answer had ended well")
        return dump(
            complete_for_sdk(
                response,
                terminal,
                stream.notes,
                model=stream.model,
                created_unix_s=stream.created_unix_s,
            )
        )
