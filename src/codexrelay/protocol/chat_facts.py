"""What a Responses stream says, as far as a Chat client can hear it.

What came in pieces one after the other is one fact; its pieces stay apart (`texts`, none of them
empty), for each is a chunk of its own.

Facts are the small alphabet between `chat_decoder`, which decides what counts, and those that
write: `chat_stream` writes a chunk for each, `chat_whole` adds them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import attrs

from codexrelay.protocol.answer import Terminal
from codexrelay.protocol.raw import JsonObject

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter"]


@attrs.frozen
class Text:
    """Pieces of the answer's text."""

    texts: Sequence[str]


@attrs.frozen
class Refusal:
    """Pieces of a refusal."""

    texts: Sequence[str]


@attrs.frozen
class Thought:
    """Pieces of readable reasoning; a blank line parts one passage from the next."""

    texts: Sequence[str]


@attrs.frozen
class Citation:
    """A web source of the text, in Chat's form."""

    annotation: JsonObject


@attrs.frozen
class CallOpened:
    """The model calls a tool. `index` counts the answer's calls from 0, in order of appearance."""

    index: int
    call_id: str
    name: str
    #: Whether its input is raw text instead of JSON arguments.
    custom: bool


@attrs.frozen
class CallInput:
    """Pieces of a call's arguments (or raw text)."""

    index: int
    texts: Sequence[str]


@attrs.frozen
class CallClosed:
    """A call's input is complete, by upstream's own word. A call that is cut never gets this."""

    index: int


@attrs.frozen
class Ended:
    """Upstream ended the turn, well or not. The last fact."""

    terminal: Terminal
    #: None when the turn failed: then nothing may look finished.
    finish_reason: FinishReason | None = None


Fact: TypeAlias = Text | Refusal | Thought | Citation | CallOpened | CallInput | CallClosed | Ended
