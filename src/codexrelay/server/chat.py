"""`POST /v1/chat/completions`: Chat Completions in and out, Responses behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from codexrelay.protocol.chat_request import translate
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_whole import ChatWhole
from codexrelay.relay.reply import StreamedReply, WholeReply
from codexrelay.server import turns
from codexrelay.server.incoming import receive
from codexrelay.server.responses import PATH
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import Draft, UpstreamRequests, session_id_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quart import Request

    from codexrelay.protocol.chat_request import ChatTurn
    from codexrelay.protocol.raw import JsonObject
    from codexrelay.server.asgi import DeliveredResponse
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services
    from codexrelay.server.turns import Begun

_log = structlog.get_logger("codexrelay.chat")


async def answer(request: Request, services: Services) -> DeliveredResponse:
    """Serve one Chat Completions request."""
    incoming = await receive(request, services)
    begun = await turns.begin(incoming, services)
    recall = _Recall(begun.plan.reasoning)
    chat = translate(incoming.body, recall=recall)
    if chat.dropped:
        _log.debug("parameters not forwarded", request=incoming.id, dropped=list(chat.dropped))
    draft = _draft(chat, incoming, begun, recalled=recall.used)
    now_unix_s = services.wall_clock()
    made = ChatStream if chat.stream else ChatWhole
    reply = made(
        chat,
        completion_id=f"chatcmpl-{services.new_id()}",
        created_unix_s=int(now_unix_s),
        now_unix_s=now_unix_s,
    )
    planned = Planned(
        incoming=incoming,
        begun=begun,
        protocol="chat",
        model=chat.model,
        requests=UpstreamRequests(
            path=PATH,
            accept="text/event-stream",
            client_headers=incoming.headers,
            plan=begun.plan,
            draft=draft,
            session_id=session_id_for(draft.body, begun.key.cache_key),
        ),
        reply=StreamedReply(reply) if isinstance(reply, ChatStream) else WholeReply(reply),
        reasoning=partial(_reasoning, reply),
    )
    return turns.respond(planned, services)


def _reasoning(reply: ChatStream | ChatWhole) -> dict[str, tuple[JsonObject, ...]]:
    """What the session remembers of an answer: nothing of one that broke off."""
    if reply.terminal is None or reply.terminal.name != "completed":
        return {}
    return {call_id: tuple(items) for call_id, items in reply.reasoning.items()}


class _Recall:
    """Looks reasoning up in the session's plan, and notes whether any was used."""

    def __init__(self, reasoning: Mapping[str, Sequence[JsonObject]]) -> None:
        self._reasoning = reasoning
        self.used = False

    def __call__(self, call_id: str) -> Sequence[JsonObject]:
        items = self._reasoning.get(call_id, ())
        self.used = self.used or bool(items)
        return items


def _draft(chat: ChatTurn, incoming: Incoming, begun: Begun, *, recalled: bool) -> Draft:
    def keyed(body: JsonObject) -> JsonObject:
        return {**body, "prompt_cache_key": body.get("prompt_cache_key") or begun.key.cache_key}

    def without_reasoning() -> JsonObject:
        return keyed(translate(incoming.body, recall=lambda _: ()).body)

    return Draft(body=keyed(chat.body), body_for_others=without_reasoning if recalled else None)
