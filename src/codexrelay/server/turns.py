"""From a decoded request to its answer: session, plan, legs, turn. Shared by both protocols."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import structlog

from codexrelay.accounts.pool import Ask
from codexrelay.backends.backend import Head, SocketTurn
from codexrelay.backends.codex.headers import TURN_STATE, passed_on
from codexrelay.errors import RequestError, SessionLostError
from codexrelay.protocol.model_id import FAMILY
from codexrelay.protocol.raw import NOTHING, Headers
from codexrelay.relay.climb import Wish
from codexrelay.relay.leg import Later, Leg, RequestFor
from codexrelay.relay.reply import Reply
from codexrelay.relay.turn import Turn
from codexrelay.server.incoming import Incoming, other_of
from codexrelay.server.lightening import Lightened
from codexrelay.server.offer import ModelOffer
from codexrelay.server.services import Services
from codexrelay.server.turn_log import NOTHING_COUNTED, Counted, TurnLog, counted_in, program_of
from codexrelay.sessions.actor import Session
from codexrelay.sessions.identity import SessionKey, UserTurn, session_key, user_turn
from codexrelay.sessions.state import (
    NOTHING_SAVED,
    LeftBehind,
    Savings,
    TurnFacts,
    TurnOutcome,
    TurnPlan,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.model_choice import ModelChoice
    from codexrelay.relay.instances import Instances
    from codexrelay.relay.lending import Target
    from codexrelay.relay.turn import Ending
    from codexrelay.server.upstream import UpstreamRequests

#: Tag of the backend's list of models, in every answer of its.
MODELS_ETAG: Final = "x-models-etag"

_log = structlog.get_logger("codexrelay.turns")


@attrs.define(kw_only=True)
class Begun:
    """A request that has found its session and was given its plan."""

    #: What its request says of the session; a digest of it is made once, for `session.key`.
    key: SessionKey
    session: Session
    user_turn: UserTurn
    #: Less is allowed by it once the turn has gone to the openai-codex family.
    plan: TurnPlan
    #: What its legs share of WebSockets; None before one of them may use one.
    socket: SocketTurn | None = None


def _nothing_is_kept() -> None:
    """Do nothing with a request that will not be sent again."""


@attrs.frozen(kw_only=True)
class Planned:
    """A leg of a turn, before it runs."""

    incoming: Incoming
    wish: Wish
    requests: RequestFor
    #: Which of upstream's headers the client gets.
    passed_on: Callable[[Head], Headers]
    #: Says what was sent and what the answer held for later turns, once it has ended.
    left_behind: Callable[[], LeftBehind]
    #: The client's request as it was sent, but for the backend's form.
    lightened: Lightened
    #: None for what is no turn, but one body that passes as it is.
    reply: Reply | None = None
    #: Told once `requests` makes no request any more.
    let_go: Callable[[], None] = _nothing_is_kept
    #: What was asked for and is done in another way, as `what=asked->done`.
    adjusted: tuple[str, ...] = ()


#: Plans a request for the model of its choice; may raise RequestError.
Plan: TypeAlias = Callable[[Incoming, Begun, Services], Awaitable[Planned]]


async def begin(incoming: Incoming, services: Services) -> Begun:
    """Find the request's session and ask for its plan.

    Raises:
        RequestError: the body is nested too deeply, or the model is of an instance that there is
            not, which must not count as a request to the family.
    """
    settings = services.current.settings
    family = incoming.other is None
    if family:
        services.relay.instances.must_have(incoming.choice.instance)
    try:
        key = _key_of(incoming, services)
        turn = user_turn(incoming.body)
    except ValueError as error:
        raise RequestError(message=str(error), code="invalid_json") from None
    facts = TurnFacts(
        user_turn=turn.name,
        opens=turn.opens,
        offered_turn_state=incoming.headers.get(TURN_STATE),
        family=family,
        compaction=settings.compaction.enabled,
        binds=services.relay.instances.binds,
    )
    session, plan = await services.sessions.begin_turn(key, facts)
    begun = Begun(key=key, session=session, user_turn=turn, plan=plan)
    _give_hints(incoming, begun, services)
    return begun


def _key_of(incoming: Incoming, services: Services) -> SessionKey:
    if incoming.framed is not None and incoming.framed.key is not None:
        return incoming.framed.key  # found by the answer that it goes on from
    return session_key(
        incoming.headers,
        incoming.body,
        incoming.profile,
        scoped=bool(services.settings.client_keys),
        lineage=services.sessions.continued,
    )


def _give_hints(incoming: Incoming, begun: Begun, services: Services) -> None:
    """Say what the program's user should know, once for each session."""
    profile = incoming.profile
    for hint in profile.hints(incoming.headers, incoming.body):
        if services.notices.first(begun.session.key.cache_key, hint):
            _log.warning(hint, request=incoming.id, profile=profile.name)


def tell_of_tools(dropped: tuple[str, ...], begun: Begun, services: Services) -> None:
    """Say, once for each session, that its client's tools are not offered to the model."""
    if services.notices.first(begun.session.key.cache_key, "tools"):
        _log.warning(
            "tool_schema_mode codex_default: the client's tools are left out",
            session=begun.session.key.cache_key,
            tools=", ".join(dropped),
        )


def tell_of_moot(incoming: Incoming, begun: Begun, services: Services) -> None:
    """Say, once for each session, that passthrough keeps what was asked for from acting."""
    if services.notices.first(begun.session.key.cache_key, "moot"):
        asked = " and ".join(incoming.capabilities.moot)
        _log.warning(
            f"codex_passthrough is true: {asked} change nothing on /v1/responses; "
            "give `codex_passthrough: false` beside them",
            session=begun.session.key.cache_key,
            client=incoming.profile.name,
        )


async def turn_of(
    incoming: Incoming, begun: Begun, services: Services, *, protocol: str, plan: Plan
) -> Turn:
    """Return the turn that a request makes.

    `protocol` is `responses` or `chat`, for the log.

    Raises:
        RequestError: the request cannot be made for the first of its models.
    """
    course = Course(incoming=incoming, begun=begun, services=services, plan=plan)
    told = log_of(incoming, begun, services, protocol=protocol)

    def ended(ending: Ending) -> None:
        lightened = course.planned(ending.leg).lightened
        counted = course.counted or counted_in(ending.terminal)
        told.ended(ending, counted, lightened, course.sums)
        services.totals.count(ending, counted, lightened, protocol=protocol)

    return Turn(
        leg=await course.open(incoming.choice),
        further=tuple(map(course.later, incoming.further)),
        request_id=incoming.id,
        ended=ended,
        waits=told.waits,
    )


@attrs.define(eq=False, kw_only=True)
class Course:
    """The legs of one turn, as far as they are planned."""

    incoming: Incoming
    begun: Begun
    services: Services
    plan: Plan
    #: What was saved over the whole session, with this turn, once it was served.
    sums: Savings | None = attrs.field(default=None, init=False)
    #: What its answer has cost; None as long as it was not served.
    counted: Counted | None = attrs.field(default=None, init=False)
    #: Each leg knows the course; the course knows none of them. So a turn is no cycle, and all of
    #: it goes as soon as it is over, whenever the garbage collector comes.
    _planned: list[Planned] = attrs.field(factory=list, init=False)

    def planned(self, leg: Leg) -> Planned:
        """Return what was planned for a leg of the turn."""
        for planned in self._planned:
            if planned.reply is leg.reply:  # each has one of its own
                return planned
        raise LookupError(leg)

    def later(self, choice: ModelChoice) -> Later:
        """Return the leg to a model that the turn may still come to."""
        name = ":".join(filter(None, (choice.instance or FAMILY, choice.slug)))
        return Later(
            name=name,
            is_ready=partial(is_ready, choice, self.begun, self.services),
            open=partial(self.open, choice),
        )

    async def open(self, choice: ModelChoice) -> Leg:
        """Plan the leg to a model.

        Raises:
            RequestError: the request cannot be made for it.
        """
        incoming = self.incoming
        if choice is not incoming.choice:
            incoming = incoming.turned_to(choice, self.services)
        if self._planned and other_of(choice, self.services) is None:
            await meet_family(self.begun, self.services)
        planned = await self.plan(incoming, self.begun, self.services)
        assert planned.reply is not None
        self._planned.append(planned)
        return Leg(
            wish=planned.wish,
            request_for=planned.requests,
            reply=planned.reply,
            passed_on=planned.passed_on,
            adjusted=planned.adjusted,
            committed=partial(self._committed, planned),
            served=partial(self._served, planned),
            anew=partial(self._anew, choice, planned),
        )

    def _anew(self, choice: ModelChoice, planned: Planned) -> Callable[[], Awaitable[Leg]] | None:
        """Plan a leg once more whose history was compacted before the turn met the family."""
        outdated = planned.lightened.compacted and not self.begun.plan.compacts
        return partial(self.open, choice) if outdated else None

    def _committed(self, planned: Planned) -> None:
        """Keep nothing of what was asked; no leg is opened or sent any more."""
        planned.let_go()
        planned.lightened.body = NOTHING
        planned.incoming.let_go()
        self.incoming.let_go()

    async def _served(self, planned: Planned, account_id: str, turn_state: str | None) -> None:
        assert planned.reply is not None
        terminal = planned.reply.answer.terminal
        self.counted = counted_in(terminal)
        self.sums = await remember(
            self.begun,
            planned,
            self.services,
            account_id=account_id,
            turn_state=turn_state,
            terminal=terminal,
            counted=self.counted,
        )


async def meet_family(begun: Begun, services: Services) -> None:
    """The turn goes to the openai-codex family: from now on nothing of it is compacted."""
    compaction = services.current.settings.compaction.enabled
    begun.plan = attrs.evolve(begun.plan, compacts=False)
    with contextlib.suppress(SessionLostError):  # what this turn knows is enough for it
        await services.sessions.meets_family(begun.key, compaction=compaction)


def is_ready(choice: ModelChoice, begun: Begun, services: Services) -> bool:
    """Tell whether the backend of a model would take a turn at this moment. No checkpoint here."""
    relay = services.relay
    other = other_of(choice, services)
    if other is not None:
        return other.lender.can_take(Ask(model=choice.slug))
    offer = ModelOffer(services.catalogue, relay.instances, choice.slug)
    ask = Ask(model=choice.slug, plans=offer.plans, session=begun.key.text)
    return any(i.lender.can_take(ask) for i in relay.instances.serving(choice.instance))


def family_passed_on(services: Services) -> Callable[[Head], Headers]:
    """Return what says which headers of the family's answers the client gets."""
    return partial(_passed_on, services)


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
        model=incoming.choice.slug,
        client=program_of(incoming.headers),
        client_over=None if incoming.framed is None else "websocket",
        session=begun.session.key.cache_key,
    )


async def remember(
    begun: Begun,
    planned: Planned,
    services: Services,
    *,
    account_id: str,
    turn_state: str | None = None,
    terminal: Terminal | None = None,
    counted: Counted = NOTHING_COUNTED,
) -> Savings:
    """Tell the session what a served turn leaves behind; return its savings with this turn's."""
    other, lightened = planned.incoming.other, planned.lightened
    outcome = TurnOutcome(
        user_turn=begun.user_turn.name,
        opens=begun.user_turn.opens,
        account_id=account_id if other is None else None,
        turn_state=turn_state,
        left_behind=planned.left_behind(),
        backend=_backend_of(account_id, planned.wish.route),
        bound=_bound(begun.key, planned.wish.route) if other is None else None,
        response_id=None if terminal is None else terminal.response_id,
        input_tokens=counted.input_tokens,
        output_tokens=counted.output_tokens,
        characters_sent=lightened.characters,
        compacted=lightened.compacted,
        compaction=lightened.compaction,
        compression=lightened.compression,
    )
    saved = NOTHING_SAVED
    for some in (lightened, services.sessions.counters(begun.key)):
        if some is not None and not some.compaction is some.compression is NOTHING_SAVED:
            saved += some.compaction + some.compression
    with contextlib.suppress(SessionLostError):  # forgotten while the turn ran
        await begun.session.end_turn(outcome)
    return saved


def _backend_of(account_id: str, route: Sequence[Target]) -> str | None:
    """Return the name of the backend whose account it is."""
    if len(route) == 1:
        return route[0].name
    for target in route:
        if target.local(account_id) is not None:
            return target.name
    return None


def _bound(key: SessionKey, route: Sequence[Target]) -> str | None:
    """Return the account that a session is bound to by now, None if it is to none."""
    for target in route:
        if (local := target.lender.bound(key.text)) is not None:
            return target.qualified(local)
    return None


def socket_turn(incoming: Incoming, begun: Begun) -> SocketTurn:
    """Return what a backend with WebSockets must know of the turn; its legs share it."""
    if begun.socket is None:
        framed = incoming.framed
        begun.socket = SocketTurn(
            session=begun.key.text,
            from_socket=framed is not None,
            warm_up_id=None if framed is None else framed.warm_up_id,
        )
    return begun.socket


def wish_of(
    incoming: Incoming,
    begun: Begun,
    requests: UpstreamRequests,
    services: Services,
    *,
    waits: bool = False,
) -> Wish:
    """Return what a request wants of the family's accounts.

    `waits` says whether it may wait for a quota.

    Raises:
        RequestError: its model names an instance that is not configured.
    """
    instances = services.relay.instances
    if begun.plan.bound is not None:
        _restore_binding(begun, instances)
    model, session = incoming.choice.slug or None, begun.key.text
    claim, opens = requests.claim, begun.user_turn.opens
    if claim is None and requests.socket is not None:
        claim = _warm(requests.socket, instances, incoming.choice.instance)
    return Wish(
        route=instances.route(incoming.choice.instance, claim=claim, session=session, opens=opens),
        model=model,
        offer=ModelOffer(services.catalogue, instances, model),
        session=session,
        claim=claim,
        opens=opens,
        waits=waits,
    )


def _warm(turn: SocketTurn, instances: Instances, wanted: str | None) -> str | None:
    """Return the account that has an open WebSocket for the session, None if none has."""
    for instance in instances.serving(wanted):
        found = instance.backend.warm_account(turn.session, from_socket=turn.from_socket)
        if found is not None:
            return instance.qualified(found)
    return None


def _restore_binding(begun: Begun, instances: Instances) -> None:
    """Bind a session as it was bound before a restart."""
    for instance in instances.members:
        local = instance.local(begun.plan.bound)
        if local is not None and instance.has(begun.plan.bound):
            instance.lender.restore(begun.key.text, local)
