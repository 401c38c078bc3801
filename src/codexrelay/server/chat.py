"""`POST /v1/chat/completions`: Chat Completions in and out, Responses behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from codexrelay.protocol.call_filter import FilteredStream, FilteredWhole
from codexrelay.protocol.chat_request import translate
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_whole import ChatWhole
from codexrelay.protocol.encrypted import digest_of
from codexrelay.relay.reply import StreamedReply, WholeReply
from codexrelay.server import tool_calls, turns
from codexrelay.server.incoming import receive
from codexrelay.server.models import fit_model
from codexrelay.server.responses import PATH
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import UpstreamRequests, session_id_for
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from quart import Request

    from codexrelay.protocol.call_filter import CallFilter
    from codexrelay.relay.reply import Reply
    from codexrelay.server.asgi import DeliveredResponse
    from codexrelay.server.services import Services

_log = structlog.get_logger("codexrelay.chat")


async def answer(request: Request, services: Services) -> DeliveredResponse:
    """Serve one Chat Completions request."""
    incoming = await receive(request, services, route="openai-chat")
    begun = await turns.begin(incoming, services)
    reasoning = begun.plan.reasoning
    chat = translate(
        incoming.body,
        recall=lambda call_id: reasoning.get(call_id, ()),
        shaping=incoming.shaping,
    )
    turns.tell_of_tools(chat.dropped_tools, begun, services)
    cache_key = chat.body.get("prompt_cache_key") or begun.key.cache_key
    body, adjusted = fit_model(
        {**chat.body, "prompt_cache_key": cache_key}, incoming.choice, services, spoken="chat"
    )
    _log.debug(
        "request translated",
        request=incoming.id,
        capabilities=incoming.capabilities,
        dropped=list(chat.dropped),
        changes=list(chat.changes),
        adjusted=adjusted,
    )
    now_unix_s = services.wall_clock()
    made = ChatStream if chat.stream else ChatWhole
    reply = made(
        chat,
        completion_id=f"chatcmpl-{services.new_id()}",
        created_unix_s=int(now_unix_s),
        now_unix_s=now_unix_s,
    )
    calls = tool_calls.wanted(incoming, body, services)
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
            body=body,
            session_id=session_id_for(body, begun.key.cache_key),
            renamed=incoming.renamed,
        ),
        reply=_reply(reply, calls),
        left_behind=partial(_left_behind, reply, calls),
        adjusted=adjusted,
    )
    return turns.respond(planned, services)


def _reply(answer: ChatStream | ChatWhole, calls: CallFilter | None) -> Reply:
    if isinstance(answer, ChatStream):
        return StreamedReply(answer if calls is None else FilteredStream(answer, calls))
    return WholeReply(answer if calls is None else FilteredWhole(answer, calls))


def _left_behind(reply: ChatStream | ChatWhole, calls: CallFilter | None) -> LeftBehind:
    """What the session remembers of an answer: nothing of one that broke off."""
    if reply.terminal is None or reply.terminal.name != "completed":
        return LeftBehind()
    said = {} if calls is None else calls.reasoning
    reasoning = {call_id: tuple(items) for call_id, items in {**reply.reasoning, **said}.items()}
    digests = (digest_of(item) for items in reasoning.values() for item in items)
    return LeftBehind(reasoning=reasoning, encrypted=tuple(d for d in digests if d is not None))
