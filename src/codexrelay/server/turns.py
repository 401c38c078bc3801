"""From a decoded request to its answer: session, plan, turn, log line. Shared by both protocols."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import structlog

from codexrelay.backends.codex.headers import TURN_STATE, passed_on
from codexrelay.errors import RequestError, SessionLostError
from codexrelay.protocol.raw import get_text
from codexrelay.relay.climb import Wish
from codexrelay.relay.reply import Reply
from codexrelay.relay.turn import Turn, run_turn
from codexrelay.server.asgi import DeliveredResponse
from codexrelay.server.explained import ExplainedReply
from codexrelay.server.incoming import Incoming
from codexrelay.server.offer import ModelOffer
from codexrelay.server.turn_log import TurnLog, program_of
from codexrelay.server.upstream import UpstreamRequests
from codexrelay.sessions.actor import Session
from codexrelay.sessions.identity import SessionKey, UserTurn, session_key, user_turn
from codexrelay.sessions.state import LeftBehind, TurnFacts, TurnOutcome, TurnPlan

if TYPE_CHECKING:
    from codexrelay.backends.backend import Head
    from codexrelay.protocol.raw import Headers
    from codexrelay.server.asgi import ClientSender
    from codexrelay.server.services import Services

#: Tag of the backend's list of models, in every answer of its.
MODELS_ETAG: Final = "x-models-etag"

_log = structlog.get_logger("codexrelay.turns")


@attrs.frozen(kw_only=True)
class Begun:
    """A request that has found its session and was given its plan."""

    key: SessionKey
    session: Session
    user_turn: UserTurn
    plan: TurnPlan


@attrs.frozen(kw_only=True)
class Planned:
    """A turn before it runs."""

    incoming: Incoming
    begun: Begun
    #: `responses` or `chat`, for the log.
    protocol: str
    model: str
    requests: UpstreamRequests
    reply: Reply
    #: Says what the answer held for later turns, once it has ended.
    left_behind: Callable[[], LeftBehind]
    #: What was asked for and is done in another way, as `what=asked->done`.
    adjusted: tuple[str, ...] = ()


async def begin(incoming: Incoming, services: Services) -> Begun:
    """Find the request's session and ask for its plan.

    Raises:
        RequestError: the body is nested too deeply.
    """
    try:
        key = session_key(incoming.headers, incoming.body, incoming.profile)
        turn = user_turn(incoming.body)
    except ValueError as error:
        raise RequestError(message=str(error), code="invalid_json") from None
    facts = TurnFacts(
        user_turn=turn.name,
        opens=turn.opens,
        offered_turn_state=incoming.headers.get(TURN_STATE),
    )
    while True:
        session = services.sessions.session(key)
        with contextlib.suppress(SessionLostError):  # its actor has just ended: begin it anew
            plan = await session.begin_turn(facts)
            begun = Begun(key=key, session=session, user_turn=turn, plan=plan)
            _give_hints(incoming, begun, services)
            return begun


def _give_hints(incoming: Incoming, begun: Begun, services: Services) -> None:
    """Say what the program's user should know, once for each session."""
    profile = incoming.profile
    for hint in profile.hints(incoming.headers, incoming.body):
        if services.notices.first(begun.key.cache_key, hint):
            _log.warning(hint, request=incoming.id, profile=profile.name)


def tell_of_tools(dropped: tuple[str, ...], begun: Begun, services: Services) -> None:
    """Say, once for each session, that its client's tools are not offered to the model."""
    if dropped and services.notices.first(begun.key.cache_key, "tools"):
        _log.warning(
            "tool_schema_mode codex_default: the client's tools are left out",
            session=begun.key.cache_key,
            tools=", ".join(dropped),
        )


def tell_of_moot(incoming: Incoming, begun: Begun, services: Services) -> None:
    """Say, once for each session, that passthrough keeps what was asked for from acting."""
    asked = incoming.capabilities.moot
    if asked and services.notices.first(begun.key.cache_key, "moot"):
        _log.warning(
            f"codex_passthrough is true: {' and '.join(asked)} change nothing on /v1/responses; "
            "give `codex_passthrough: false` beside them",
            session=begun.key.cache_key,
            client=incoming.profile.name,
        )


def respond(planned: Planned, services: Services) -> DeliveredResponse:
    """Return the response that runs the turn, in the request's own task, as its body.

    Raises:
        RequestError: see `wish_of`.
    """
    told = log_of(planned.incoming, planned.begun, services, protocol=planned.protocol)
    # A client that can be shown life is one that streams.
    waits = planned.reply.keep_alive is not None
    turn = Turn(
        request_for=planned.requests,
        wish=wish_of(planned.incoming, planned.begun, planned.requests, services, waits=waits),
        reply=ExplainedReply(planned.reply),
        request_id=planned.incoming.id,
        passed_on=partial(_passed_on, services),
        ended=lambda ending: told.ended(ending, planned.reply.answer.terminal),
        waits=told.waits,
        served=partial(_served, planned),
        adjusted=planned.adjusted,
    )

    async def deliver(client: ClientSender) -> None:
        await run_turn(turn, client, services.relay)

    return DeliveredResponse(deliver)


def _passed_on(services: Services, head: Head) -> Headers:
    """Return what the client gets of the answer's head; hear which models there are now."""
    services.catalogue.noticed(head.headers.get(MODELS_ETAG))
    return passed_on(head)


def log_of(incoming: Incoming, begun: Begun, services: Services, *, protocol: str) -> TurnLog:
    """Return what tells of the turn; `protocol` is `responses`, `chat` or `compact`."""
    return TurnLog(
        journal=services.journal,
        wall_clock=services.wall_clock,
        request_id=incoming.id,
        protocol=protocol,
        model=get_text(incoming.body, "model") or "",
        client=program_of(incoming.headers),
        session=begun.key.cache_key,
    )


async def _served(planned: Planned, account_id: str, turn_state: str | None) -> None:
    left_behind = planned.left_behind()
    await remember(planned.begun, planned.requests, account_id, left_behind, turn_state=turn_state)


async def remember(
    begun: Begun,
    requests: UpstreamRequests,
    account_id: str,
    left_behind: LeftBehind,
    *,
    turn_state: str | None = None,
) -> None:
    """Tell the session what a served turn leaves behind.

    What the account was sent and did not refuse is taken for its own: that is how owners are known
    again after a restart.
    """
    encrypted = (*requests.encrypted_sent, *left_behind.encrypted)
    outcome = TurnOutcome(
        user_turn=begun.user_turn.name,
        opens=begun.user_turn.opens,
        account_id=account_id,
        turn_state=turn_state,
        left_behind=attrs.evolve(left_behind, encrypted=encrypted),
    )
    with contextlib.suppress(SessionLostError):  # forgotten while the turn ran
        await begun.session.end_turn(outcome)


def wish_of(
    incoming: Incoming,
    begun: Begun,
    requests: UpstreamRequests,
    services: Services,
    *,
    waits: bool = False,
) -> Wish:
    """Return what a request wants of the accounts; `waits` says whether it may wait for a quota.

    Raises:
        RequestError: its model names an instance that is not configured.
    """
    model, session = get_text(requests.body, "model"), begun.key.text
    claim, opens = requests.claim, begun.user_turn.opens
    return Wish(
        route=services.relay.instances.route(
            incoming.choice.instance, claim=claim, session=session, opens=opens
        ),
        model=model,
        offer=ModelOffer(services.catalogue, services.relay.instances, model),
        session=session,
        claim=claim,
        opens=opens,
        waits=waits,
    )
