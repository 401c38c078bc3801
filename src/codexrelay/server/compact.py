"""`POST /v1/responses/compact`: the client's own compaction, passed through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio
from quart import Response

from codexrelay.backends.openai.headers import passed_on
from codexrelay.errors import RequestError
from codexrelay.protocol.encrypted import digest_of
from codexrelay.protocol.faults import Fault, no_stream
from codexrelay.protocol.openai_errors import error_body
from codexrelay.protocol.raw import get_list, parse_object
from codexrelay.protocol.responses_request import check_form, checked
from codexrelay.relay.leg import LEADS_ON, hopelessness
from codexrelay.relay.record import Record, own_headers
from codexrelay.relay.reply import JSON, retry_after
from codexrelay.relay.turn import head_of
from codexrelay.relay.unary import fetch
from codexrelay.server import others, turns
from codexrelay.server.explained import explained
from codexrelay.server.incoming import receive
from codexrelay.server.lightening import Lightened
from codexrelay.server.models import fit_model
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import UpstreamRequests, session_id_for
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Headers
    from codexrelay.relay.other import Other
    from codexrelay.relay.unary import Fetched
    from codexrelay.server.asked import Asked
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services
    from codexrelay.server.turns import Begun

PATH: Final = "/responses/compact"


async def answer(asked: Asked, services: Services) -> Response:
    """Serve one compaction request. The body goes out as it came (wire notes 6, v1).

    It has no prompt and no tools of ours, whatever its capabilities are: it is about what has been.
    """
    offered = _where_offered(await receive(asked, services, route="openai-responses"), services)
    incoming = offered[0]
    check = checked if incoming.other is None else check_form
    check(incoming.body)
    begun = await turns.begin(incoming, services)
    told = turns.log_of(incoming, begun, services, protocol="compact")
    record = Record(told.waits)
    try:
        planned, result = await _first_to_serve(offered, begun, services, record)
    except trio.Cancelled:
        told.left(record)
        raise
    incoming = planned.incoming
    own = own_headers(incoming.id, record, planned.adjusted)
    if isinstance(result, Fault):
        told.answered(record, account_id=None, fault=result)
        headers = [*JSON, *own, *retry_after(result), *planned.passed_on(head_of(result))]
        if incoming.other is None:
            result = explained(result)
        return _response(result.status, headers, error_body(result.error))
    try:
        output = get_list(parse_object(result.body), "output")
    except ValueError:
        fault = no_stream(result.body, now_unix_s=services.wall_clock())
        told.answered(record, account_id=result.account_id, fault=fault)
        return _response(fault.status, [*JSON, *own], error_body(fault.error))
    told.answered(record, account_id=result.account_id, fault=None)
    headers = [*JSON, *own, *planned.passed_on(result.head)]
    made = tuple(d for item in output if (d := digest_of(item)) is not None)
    sent = planned.left_behind()
    left_behind = attrs.evolve(sent, encrypted=(*sent.encrypted, *made))
    planned = attrs.evolve(planned, left_behind=lambda: left_behind)
    await turns.remember(begun, planned, services, account_id=result.account_id)
    return _response(200, headers, result.body)


def _where_offered(incoming: Incoming, services: Services) -> list[Incoming]:
    """Return the request for those of its models whose backend has this path, in order.

    Raises:
        RequestError: none has it.
    """
    turned = [
        incoming.turned_to(choice, services) for choice in (incoming.choice, *incoming.further)
    ]
    offered = [each for each in turned if _offers(each.other)]
    if offered:
        return offered
    raise RequestError(
        message=(
            f"backend {incoming.choice.instance} speaks Chat Completions, which has no compaction "
            "of histories: shorten the history in the client, or use a model of another backend"
        ),
        param="model",
        code="compaction_not_offered",
    )


def _offers(other: Other | None) -> bool:
    return other is None or other.wire == "responses"


async def _first_to_serve(
    offered: list[Incoming], begun: Begun, services: Services, record: Record
) -> tuple[Planned, Fetched | Fault]:
    """Ask one model after the other, as a turn goes from leg to leg."""
    met: list[tuple[Planned, Fault]] = []
    for incoming in offered:
        if met and incoming.other is None:
            await turns.meet_family(begun, services)
        planned = _plan(incoming, begun, services)
        result = await fetch(planned.requests, services.relay, planned.wish, record)
        if not isinstance(result, Fault):
            return planned, result
        met.append((planned, result))
        if not LEADS_ON[result.kind]:
            return planned, result
    return min(reversed(met), key=lambda one: hopelessness(one[1]))


def _plan(incoming: Incoming, begun: Begun, services: Services) -> Planned:
    other = incoming.other
    if other is not None:
        return Planned(
            incoming=incoming,
            wish=others.wish_of(incoming, other),
            requests=others.OtherRequests(path=PATH, body=incoming.body),
            passed_on=passed_on,
            left_behind=LeftBehind,
            lightened=Lightened(body=incoming.body),
        )
    body, adjusted = fit_model(incoming.body, incoming.choice, services, spoken="responses")
    requests = UpstreamRequests(
        path=PATH,
        accept="application/json",
        client_headers=incoming.headers,
        plan=begun.plan,
        body=body,
        session_id=session_id_for(body, begun.session.key.cache_key),
        renamed=incoming.renamed,
    )
    return Planned(
        incoming=incoming,
        wish=turns.wish_of(incoming, begun, requests, services),
        requests=requests,
        passed_on=turns.family_passed_on(services),
        left_behind=lambda: LeftBehind(encrypted=requests.encrypted_sent),
        lightened=Lightened(body=body),
        adjusted=adjusted,
    )


def _response(status: int, headers: Headers, body: bytes) -> Response:
    pairs = [(name.decode("ascii"), value.decode("latin-1")) for name, value in headers]
    return Response(body, status, dict(pairs))
