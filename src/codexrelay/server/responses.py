"""`POST /v1/responses`: Responses in, Responses out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.responses_request import is_codex_shaped, shape
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from codexrelay.relay.reply import StreamedReply, WholeReply
from codexrelay.server import turns
from codexrelay.server.incoming import receive
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import UpstreamRequests, responses_draft, session_id_for

if TYPE_CHECKING:
    from quart import Request

    from codexrelay.relay.reply import Reply
    from codexrelay.server.asgi import DeliveredResponse
    from codexrelay.server.services import Services

PATH: Final = "/responses"


async def answer(request: Request, services: Services) -> DeliveredResponse:
    """Serve one Responses request."""
    incoming = await receive(request, services)
    begun = await turns.begin(incoming, services)
    shaped = shape(
        incoming.body,
        session_cache_key=begun.key.cache_key,
        codex_shaped=is_codex_shaped(
            user_agent=incoming.headers.get("user-agent"),
            originator=incoming.headers.get("originator"),
            body=incoming.body,
        ),
    )
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
            draft=responses_draft(shaped.body),
            session_id=session_id_for(shaped.body, begun.key.cache_key),
        ),
        reply=_reply(shaped.model, stream=shaped.stream, services=services),
    )
    return turns.respond(planned, services)


def _reply(model: str, *, stream: bool, services: Services) -> Reply:
    now_unix_s = services.wall_clock()
    if stream:
        return StreamedReply(
            ResponsesStream(now_unix_s=now_unix_s, model=model, created_unix_s=int(now_unix_s))
        )
    return WholeReply(
        ResponsesWhole(now_unix_s=now_unix_s, model=model, created_unix_s=int(now_unix_s))
    )
