"""`POST /v1/chat/completions`: Chat Completions in and out, Responses behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from codexrelay.protocol.call_filter import FilteredStream, FilteredWhole
from codexrelay.protocol.chat_request import translate
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.encrypted import digest_of
from codexrelay.relay.reply import StreamedReply, WholeReply
from codexrelay.relay.turn import run_turn
from codexrelay.server import answers, debug, others, tool_calls, turns
from codexrelay.server.explained import ExplainedReply
from codexrelay.server.incoming import receive
from codexrelay.server.lightening import lighten
from codexrelay.server.models import fit_model
from codexrelay.server.responses import PATH
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import UpstreamRequests, session_id_for
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from codexrelay.protocol.call_filter import CallFilter
    from codexrelay.protocol.chat_whole import ChatWhole
    from codexrelay.relay.line import Client
    from codexrelay.relay.reply import Reply
    from codexrelay.server.asked import Asked
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services
    from codexrelay.server.turns import Begun

_log = structlog.get_logger("codexrelay.chat")


async def answer(asked: Asked, client: Client, services: Services) -> None:
    """Serve one Chat Completions request.

    Raises:
        RequestError: it is none, or cannot be sent; `client` has not been told anything.
    """
    incoming = await receive(asked, services, route="openai-chat")
    begun = await turns.begin(incoming, services)
    turn = await turns.turn_of(incoming, begun, services, protocol="chat", plan=_plan)
    await run_turn(turn, client, services.relay)


async def _plan(incoming: Incoming, begun: Begun, services: Services) -> Planned:
    """Plan the leg to the model of the request's choice."""
    other = incoming.other
    if other is not None:
        return await others.plan(incoming, other, begun, services, spoken="chat")
    lightened = await lighten(incoming.body, begun.plan, begun.key, services, family=True)
    reasoning = begun.plan.reasoning
    chat = translate(
        lightened.body,
        recall=lambda call_id: reasoning.get(call_id, ()),
        shaping=incoming.shaping,
    )
    if chat.dropped_tools:
        turns.tell_of_tools(chat.dropped_tools, begun, services)
    cache_key = chat.body.get("prompt_cache_key") or begun.session.key.cache_key
    body, adjusted = fit_model(
        {**chat.body, "prompt_cache_key": cache_key}, incoming.choice, services, spoken="chat"
    )
    if debug.is_told():
        _log.debug(
            "request translated",
            request=incoming.id,
            capabilities=incoming.capabilities,
            dropped=list(chat.dropped),
            changes=list(chat.changes),
            adjusted=adjusted,
        )
    chat.body = {}  # its answer, which keeps the rest of it, has no use for that
    answer = answers.chat(chat, services)
    calls = tool_calls.wanted(incoming, body, services)
    requests = UpstreamRequests(
        path=PATH,
        accept="text/event-stream",
        client_headers=incoming.headers,
        plan=begun.plan,
        body=body,
        session_id=session_id_for(body, begun.session.key.cache_key),
        renamed=incoming.renamed,
        socket=turns.socket_turn(incoming, begun),
    )
    # A client that can be shown life is one that streams.
    wish = turns.wish_of(incoming, begun, requests, services, waits=chat.stream)
    return Planned(
        incoming=incoming,
        wish=wish,
        requests=requests,
        reply=ExplainedReply(_reply(answer, calls)),
        passed_on=turns.family_passed_on(services),
        left_behind=partial(_left_behind, answer, calls, requests),
        let_go=requests.let_go,
        lightened=lightened,
        adjusted=adjusted,
    )


def _reply(answer: ChatStream | ChatWhole, calls: CallFilter | None) -> Reply:
    if isinstance(answer, ChatStream):
        return StreamedReply(answer if calls is None else FilteredStream(answer, calls))
    return WholeReply(answer if calls is None else FilteredWhole(answer, calls))


def _left_behind(
    answer: ChatStream | ChatWhole, calls: CallFilter | None, requests: UpstreamRequests
) -> LeftBehind:
    """What the session remembers of an answer: of one that broke off, only what was sent."""
    sent = requests.encrypted_sent
    if answer.terminal is None or answer.terminal.name != "completed":
        return LeftBehind(encrypted=sent)
    said = {} if calls is None else calls.reasoning
    reasoning = {call_id: tuple(items) for call_id, items in {**answer.reasoning, **said}.items()}
    digests = (digest_of(item) for items in reasoning.values() for item in items)
    made = (d for d in digests if d is not None)
    return LeftBehind(reasoning=reasoning, encrypted=(*sent, *made))
