"""What gives a client its answer, by its protocol and by what the backend is asked to deliver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.chat_native import NativeChatStream, NativeChatWhole
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_whole import ChatWhole
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole

if TYPE_CHECKING:
    from codexrelay.protocol.chat_request import ChatTurn
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services
    from codexrelay.sessions.history import Conversation


def responses(
    model: str, services: Services, *, stream: bool, framed: bool = False
) -> ResponsesStream | ResponsesWhole:
    """Return the answer to a Responses client; `framed`: it is told on a WebSocket."""
    if framed:
        return framed_responses(model, services)
    now_unix_s = services.wall_clock()
    made = ResponsesStream if stream else ResponsesWhole
    return made(now_unix_s=now_unix_s, model=model, created_unix_s=int(now_unix_s))


def framed_responses(model: str, services: Services) -> ResponsesStream:
    """Return the answer to a Responses client on a WebSocket."""
    now_unix_s = services.wall_clock()
    return ResponsesStream(
        now_unix_s=now_unix_s, model=model, created_unix_s=int(now_unix_s), framed=True
    )


def conversation(
    incoming: Incoming, answer: ResponsesStream | ResponsesWhole
) -> Conversation | None:
    """Return what a client on a WebSocket can go on from by the id of an answer to it.

    None if it is no such client, or the answer did not end well.
    """
    if incoming.framed is None or not isinstance(answer, ResponsesStream):
        return None
    output = answer.output
    return None if output is None else incoming.framed.conversation(output)


def chat(turn: ChatTurn, services: Services) -> ChatStream | ChatWhole:
    """Return the answer to a Chat client, made of Responses events."""
    now_unix_s = services.wall_clock()
    made = ChatStream if turn.stream else ChatWhole
    return made(
        turn,
        completion_id=_completion_id(services),
        created_unix_s=int(now_unix_s),
        now_unix_s=now_unix_s,
    )


def native_chat(
    model: str, services: Services, *, stream: bool, include_usage: bool
) -> NativeChatStream | NativeChatWhole:
    """Return the answer to a Chat client, made of the chunks of a backend that speaks Chat."""
    now_unix_s = services.wall_clock()
    if stream:
        return NativeChatStream(include_usage=include_usage, now_unix_s=now_unix_s)
    return NativeChatWhole(
        model=model,
        completion_id=_completion_id(services),
        created_unix_s=int(now_unix_s),
        now_unix_s=now_unix_s,
    )


def _completion_id(services: Services) -> str:
    return f"chatcmpl-{services.new_id()}"
