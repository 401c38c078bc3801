"""`POST /v1/responses`: Responses in, Responses out; the same for a message on a WebSocket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from codexrelay.protocol.call_filter import FilteredStream, FilteredWhole
from codexrelay.protocol.encrypted import digests_in
from codexrelay.protocol.raw import dump_to_keep
from codexrelay.protocol.responses_request import (
    check_form,
    check_nothing_is_kept,
    checked,
    is_codex_shaped,
    shape_checked,
)
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.relay.reply import FramedReply, StreamedReply, WholeReply
from codexrelay.relay.turn import run_turn
from codexrelay.server import answers, debug, others, tool_calls, turns
from codexrelay.server.explained import ExplainedReply
from codexrelay.server.incoming import receive
from codexrelay.server.lightening import lighten
from codexrelay.server.models import fit_model
from codexrelay.server.turns import Planned
from codexrelay.server.upstream import UpstreamRequests, session_id_for
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from codexrelay.protocol.call_filter import CallFilter
    from codexrelay.protocol.responses_whole import ResponsesWhole
    from codexrelay.relay.line import Client
    from codexrelay.relay.reply import Reply
    from codexrelay.relay.turn import Turn
    from codexrelay.server.asked import Asked
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services
    from codexrelay.server.turns import Begun

PATH: Final = "/responses"
#: The profile of the program whose bodies need no help.
CODEX_CLI: Final = "codex_cli"

_log = structlog.get_logger("codexrelay.responses")


async def answer(asked: Asked, client: Client, services: Services) -> None:
    """Serve one Responses request.

    Raises:
        RequestError: it is none, or cannot be sent; `client` has not been told anything.
    """
    incoming = await receive(asked, services, route="openai-responses")
    check(incoming)  # what is no request begins no session
    begun = await turns.begin(incoming, services)
    await run_turn(await turn(incoming, begun, services), client, services.relay)


async def turn(incoming: Incoming, begun: Begun, services: Services) -> Turn:
    """Return the turn of a request.

    Raises:
        RequestError: the request cannot be made for the first of its models.
    """
    return await turns.turn_of(incoming, begun, services, protocol="responses", plan=_plan)


def check(incoming: Incoming) -> None:
    """Make sure that it is a Responses request.

    Raises:
        RequestError: it is none, or none that its backend takes.
    """
    # Another backend may keep responses, and says so itself if it does not.
    checks = checked if incoming.other is None else check_form
    checks(incoming.body)


async def _plan(incoming: Incoming, begun: Begun, services: Services) -> Planned:
    """Plan the leg to the model of the request's choice."""
    other = incoming.other
    if other is not None:
        return await others.plan(incoming, other, begun, services, spoken="responses")
    check_nothing_is_kept(incoming.body)  # its form was checked when it came
    lightened = await lighten(incoming.body, begun.plan, begun.key, services, family=True)
    shaped = shape_checked(
        lightened.body,
        session_cache_key=begun.session.key.cache_key,
        codex_shaped=is_codex_shaped(incoming.body, from_codex=incoming.profile.name == CODEX_CLI),
        shaping=incoming.shaping,
    )
    if shaped.dropped_tools:
        turns.tell_of_tools(shaped.dropped_tools, begun, services)
    if incoming.capabilities.moot:
        turns.tell_of_moot(incoming, begun, services)
    body, adjusted = fit_model(shaped.body, incoming.choice, services, spoken="responses")
    if debug.is_told():
        _log.debug(
            "request shaped",
            request=incoming.id,
            capabilities=incoming.capabilities,
            changes=list(shaped.changes),
            adjusted=adjusted,
        )
    answer = answers.responses(
        shaped.model, services, stream=shaped.stream, framed=incoming.framed is not None
    )
    requests = UpstreamRequests(
        path=PATH,
        accept="text/event-stream",
        client_headers=incoming.headers,
        plan=begun.plan,
        body=body,
        session_id=session_id_for(body, begun.session.key.cache_key),
        renamed=incoming.renamed,
        socket=turns.socket_turn(incoming, begun),
        written_by=dump_to_keep if incoming.long is None else incoming.long.dump,
    )
    # A client that can be shown life is one that streams.
    wish = turns.wish_of(incoming, begun, requests, services, waits=shaped.stream)
    return Planned(
        incoming=incoming,
        wish=wish,
        requests=requests,
        reply=ExplainedReply(_reply(incoming, answer, tool_calls.wanted(incoming, body, services))),
        passed_on=turns.family_passed_on(services),
        left_behind=partial(_left_behind, incoming, answer, requests),
        let_go=requests.let_go,
        lightened=lightened,
        adjusted=adjusted,
    )


def _reply(
    incoming: Incoming, answer: ResponsesStream | ResponsesWhole, calls: CallFilter | None
) -> Reply:
    if isinstance(answer, ResponsesStream):
        if incoming.framed is not None:
            return FramedReply(answer, calls)
        return StreamedReply(answer if calls is None else FilteredStream(answer, calls))
    return WholeReply(answer if calls is None else FilteredWhole(answer, calls))


def _left_behind(
    incoming: Incoming, answer: ResponsesStream | ResponsesWhole, requests: UpstreamRequests
) -> LeftBehind:
    return LeftBehind(
        encrypted=(*requests.encrypted_sent, *digests_in(answer.notes.items)),
        conversation=answers.conversation(incoming, answer),
    )
