"""From a decoded request to its answer: session, plan, turn, log line. Shared by both protocols."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs
import structlog

from codexrelay.backends.codex.headers import TURN_STATE, passed_on
from codexrelay.errors import RequestError, SessionLostError
from codexrelay.relay.reply import Reply
from codexrelay.relay.turn import Turn, run_turn
from codexrelay.server.asgi import DeliveredResponse
from codexrelay.server.incoming import Incoming
from codexrelay.server.upstream import UpstreamRequests
from codexrelay.sessions.actor import Session
from codexrelay.sessions.identity import SessionKey, UserTurn, session_key, user_turn
from codexrelay.sessions.state import LeftBehind, TurnFacts, TurnOutcome, TurnPlan

if TYPE_CHECKING:
    from codexrelay.relay.turn import Ending
    from codexrelay.server.asgi import ClientSender
    from codexrelay.server.services import Services

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


async def begin(incoming: Incoming, services: Services) -> Begun:
    """Find the request's session and ask for its plan.

    Raises:
        RequestError: the body is nested too deeply.
    """
    try:
        key = session_key(incoming.headers, incoming.body)
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
            return Begun(key=key, session=session, user_turn=turn, plan=plan)


def respond(planned: Planned, services: Services) -> DeliveredResponse:
    """Return the response that runs the turn, in the request's own task, as its body."""

    async def deliver(client: ClientSender) -> None:
        log = _log.bind(
            request=planned.incoming.id,
            protocol=planned.protocol,
            model=planned.model,
            client=planned.incoming.headers.get("user-agent", "").partition(" ")[0] or None,
        )
        turn = Turn(
            request_for=planned.requests,
            prefer=planned.requests.prefer,
            reply=planned.reply,
            headers=[(b"x-codexrelay-request-id", planned.incoming.id.encode())],
            passed_on=passed_on,
            ended=partial(_log_ending, log, planned),
            served=partial(_served, planned),
        )
        await run_turn(turn, client, services.relay)

    return DeliveredResponse(deliver)


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


def _log_ending(log: structlog.stdlib.BoundLogger, planned: Planned, ending: Ending) -> None:
    terminal = planned.reply.answer.terminal
    facts: dict[str, object] = {
        "account": ending.account_id,
        "attempts": ending.attempts,
        "total_ms": _ms(ending.total_s),
    }
    if ending.first_output_s is not None:
        facts["first_output_ms"] = _ms(ending.first_output_s)
    if terminal is not None and terminal.response_id is not None:
        facts["response"] = terminal.response_id
    if terminal is not None and terminal.usage is not None:
        facts["input_tokens"] = terminal.usage.get("input_tokens")
        facts["output_tokens"] = terminal.usage.get("output_tokens")
    if ending.left:
        log.info("client left", **facts)
    elif ending.fault is None:
        log.info(f"turn {terminal.name}" if terminal is not None else "turn ended", **facts)
    else:
        log.warning("turn failed", fault=ending.fault.kind.value, why=ending.fault.message, **facts)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
