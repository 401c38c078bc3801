"""`POST /v1/responses/compact`: the client's own compaction, passed through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from quart import Response

from codexrelay.backends.codex.headers import passed_on
from codexrelay.protocol.encrypted import digest_of
from codexrelay.protocol.faults import Fault, no_stream
from codexrelay.protocol.openai_errors import error_body
from codexrelay.protocol.raw import get_list, parse_object
from codexrelay.protocol.responses_request import checked
from codexrelay.relay.record import Record, own_headers
from codexrelay.relay.reply import JSON, retry_after
from codexrelay.relay.turn import head_of
from codexrelay.relay.unary import fetch
from codexrelay.server import turns
from codexrelay.server.explained import explained
from codexrelay.server.incoming import receive
from codexrelay.server.models import fit_model
from codexrelay.server.turns import MODELS_ETAG
from codexrelay.server.upstream import UpstreamRequests, session_id_for
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from quart import Request

    from codexrelay.protocol.raw import Headers
    from codexrelay.server.services import Services

PATH: Final = "/responses/compact"


async def answer(request: Request, services: Services) -> Response:
    """Serve one compaction request. The body goes out as it came (wire notes 6, v1).

    It has no prompt and no tools of ours, whatever its capabilities are: it is about what has been.
    """
    incoming = await receive(request, services, route="openai-responses")
    checked(incoming.body)
    begun = await turns.begin(incoming, services)
    body, adjusted = fit_model(incoming.body, incoming.choice, services, spoken="responses")
    requests = UpstreamRequests(
        path=PATH,
        accept="application/json",
        client_headers=incoming.headers,
        plan=begun.plan,
        body=body,
        session_id=session_id_for(body, begun.key.cache_key),
        renamed=incoming.renamed,
    )
    wish = turns.wish_of(incoming, begun, requests, services)
    told = turns.log_of(incoming, begun, services, protocol="compact")
    record = Record(told.waits)
    try:
        result = await fetch(requests, services.relay, wish, record)
    except trio.Cancelled:
        told.left(record)
        raise
    own = own_headers(incoming.id, record, adjusted)
    if isinstance(result, Fault):
        told.answered(record, account_id=None, fault=result)
        headers = [*JSON, *own, *retry_after(result), *passed_on(head_of(result))]
        return _response(result.status, headers, error_body(explained(result).error))
    try:
        output = get_list(parse_object(result.body), "output")
    except ValueError:
        fault = no_stream(result.body, now_unix_s=services.wall_clock())
        told.answered(record, account_id=result.account_id, fault=fault)
        return _response(fault.status, [*JSON, *own], error_body(fault.error))
    told.answered(record, account_id=result.account_id, fault=None)
    services.catalogue.noticed(result.head.headers.get(MODELS_ETAG))
    made = tuple(d for item in output if (d := digest_of(item)) is not None)
    await turns.remember(begun, requests, result.account_id, LeftBehind(encrypted=made))
    return _response(200, [*JSON, *own, *passed_on(result.head)], result.body)


def _response(status: int, headers: Headers, body: bytes) -> Response:
    pairs = [(name.decode("ascii"), value.decode("latin-1")) for name, value in headers]
    return Response(body, status, dict(pairs))
