"""`POST /v1/responses`: Responses in, Responses out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from codexrelay.protocol.call_filter import FilteredStream, FilteredWhole
from codexrelay.protocol.encrypted import digests_in
from codexrelay.protocol.responses_request import checked, is_codex_shaped, shape
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from codexrelay.relay.reply import StreamedReply, WholeReply
from codexrelay.server import tool_calls, turns
from codexrelay.server.incoming import receive
from codexrelay.server.models import fit_model
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import UpstreamRequests, session_id_for
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from quart import Request

    from codexrelay.protocol.call_filter import CallFilter
    from codexrelay.protocol.responses_request import ShapedRequest
    from codexrelay.relay.reply import Reply
    from codexrelay.server.asgi import DeliveredResponse
    from codexrelay.server.services import Services

PATH: Final = "/responses"
#: The profile of the program whose bodies need no help.
CODEX_CLI: Final = "codex_cli"

_log = structlog.get_logger("codexrelay.responses")


async def answer(request: Request, services: Services) -> DeliveredResponse:
    """Serve one Responses request."""
    incoming = await receive(request, services, route="openai-responses")
    checked(incoming.body)  # what is no request begins no session
    begun = await turns.begin(incoming, services)
    shaped = shape(
        incoming.body,
        session_cache_key=begun.key.cache_key,
        codex_shaped=is_codex_shaped(incoming.body, from_codex=incoming.profile.name == CODEX_CLI),
        shaping=incoming.shaping,
    )
    turns.tell_of_tools(shaped.dropped_tools, begun, services)
    turns.tell_of_moot(incoming, begun, services)
    body, adjusted = fit_model(shaped.body, incoming.choice, services, spoken="responses")
    _log.debug(
        "request shaped",
        request=incoming.id,
        capabilities=incoming.capabilities,
        changes=list(shaped.changes),
        adjusted=adjusted,
    )
    answer = _answer(shaped, services)
    planned = Planned(
        incoming=incoming,
        begun=begun,
        protocol="responses",
        model=shaped.model,
        requests=UpstreamRequests(
            path=PATH,
            accept="text/event-stream",
            client_headers=incoming.headers,
            plan=begun.plan,
            body=body,
            session_id=session_id_for(body, begun.key.cache_key),
            renamed=incoming.renamed,
        ),
        reply=_reply(answer, tool_calls.wanted(incoming, body, services)),
        left_behind=partial(_left_behind, answer),
        adjusted=adjusted,
    )
    return turns.respond(planned, services)


def _answer(shaped: ShapedRequest, services: Services) -> ResponsesStream | ResponsesWhole:
    now_unix_s = services.wall_clock()
    made = ResponsesStream if shaped.stream else ResponsesWhole
    return made(now_unix_s=now_unix_s, model=shaped.model, created_unix_s=int(now_unix_s))


def _reply(answer: ResponsesStream | ResponsesWhole, calls: CallFilter | None) -> Reply:
    if isinstance(answer, ResponsesStream):
        return StreamedReply(answer if calls is None else FilteredStream(answer, calls))
    return WholeReply(answer if calls is None else FilteredWhole(answer, calls))


def _left_behind(answer: ResponsesStream | ResponsesWhole) -> LeftBehind:
    return LeftBehind(encrypted=tuple(digests_in(answer.notes.items)))
