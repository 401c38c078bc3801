"""One turn: lease, send, hold, commit, move; and its one terminal event, whatever happens.

Everything that can go wrong upstream is a value (`Fault`) until the client has to be told.
Everything that is owned is closed by indentation: when `run_turn` has returned or was cancelled, no
task, socket or lease of the turn exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.backends.backend import Head
from codexrelay.errors import RequestError
from codexrelay.protocol import faults, limits
from codexrelay.protocol.answer import Terminal
from codexrelay.protocol.chat_hold import ChatHold
from codexrelay.protocol.faults import Fault
from codexrelay.protocol.hold import Hold
from codexrelay.relay.active import ActiveTurns, Interruption
from codexrelay.relay.climb import Served, climb
from codexrelay.relay.instances import Instances
from codexrelay.relay.leg import LEADS_ON, Later, Leg, Way, most_hopeful, unsuited
from codexrelay.relay.line import Line
from codexrelay.relay.mover import Mover, Stream
from codexrelay.relay.other import Other
from codexrelay.relay.record import Record, own_headers
from codexrelay.relay.silence import Silence

if TYPE_CHECKING:
    from codexrelay.backends.backend import Attempt, Wire
    from codexrelay.protocol.hold import Holding, Output
    from codexrelay.protocol.raw import Headers
    from codexrelay.relay.budgets import Budgets
    from codexrelay.relay.lending import Lease, Target
    from codexrelay.relay.line import Client
    from codexrelay.relay.record import Tried

_log = structlog.get_logger("codexrelay.relay")

#: For the terminal event and the end of the body, once the turn itself is over: a client that has
#: stopped reading must not keep the turn.
FAREWELL_S: Final = 30.0


@attrs.frozen(kw_only=True)
class Ending:
    """How a turn ended, for the log and the session."""

    #: The account that served it, and its backend's name; None if no attempt was committed.
    account_id: str | None
    backend: str | None
    attempts: int
    #: Its way through the accounts.
    record: Record
    #: The leg that it was on.
    leg: Leg
    #: What the client was told went wrong; None for a turn that ended well.
    fault: Fault | None
    #: The client left before it was told the end.
    left: bool
    #: How upstream, or the relay in its place, has ended the answer; None if nobody did.
    terminal: Terminal | None
    #: Seconds from the beginning until the first output; None if there was none.
    first_output_s: float | None
    total_s: float


def _nobody_is_told(_ending: Ending) -> None:
    """Do nothing with how a turn ended."""


def _nobody_looks(_record: Record) -> None:
    """Do nothing with a turn that waits."""


@attrs.frozen(kw_only=True)
class Turn:
    """One client request, ready to be sent upstream."""

    leg: Leg
    #: Where it goes if no output has come of the first leg, in order.
    further: tuple[Later, ...] = ()
    #: What the client, the log and the journal call it.
    request_id: str
    #: Told once how it ended, whatever happened; must not fail.
    ended: Callable[[Ending], None] = _nobody_is_told
    #: Told when it begins to wait in line for an account; must not fail.
    waits: Callable[[Record], None] = _nobody_looks
    #: By which its client ends it, where there is a way to say so.
    interruption: Interruption = attrs.field(factory=Interruption)


@attrs.define(kw_only=True, eq=False)
class Relay:
    """What turns share: wired once, at start."""

    #: Those of the Codex family.
    instances: Instances
    mover: Mover
    active: ActiveTurns
    keep_alive_s: float
    wall_clock: Callable[[], float]
    #: Backends of other kinds, by the names that model names call them.
    others: Mapping[str, Other] = attrs.field(factory=dict)


async def run_turn(turn: Turn, client: Client, relay: Relay) -> Ending:
    """Serve one turn. The client has its answer, or exactly one error, before this returns.

    Cancelled when the client leaves: upstream is left at once, and nobody is told anything.
    """
    run = _Run(turn, relay, client)
    try:
        await _run_to_an_end(run, relay)
        reply = run.leg.reply
        if reply.answer.terminal is not None:  # upstream has ended the turn itself
            run.fault = None
        if run.fault is not None:
            run.line.own_headers = (*run.own_headers, *run.leg.passed_on(head_of(run.fault)))
        with trio.move_on_after(FAREWELL_S) as farewell:
            await run.settle()
            await reply.finish(run.line, run.fault)
        run.told = not farewell.cancelled_caught
    finally:
        turn.ended(run.ending())
    return run.ending()


async def _run_to_an_end(run: _Run, relay: Relay) -> None:
    """Climb and move, until upstream has ended the turn or `run.fault` says why it did not."""
    try:
        with relay.active.enter(budget_s=run.budgets.turn_s) as scope:
            run.turn.interruption.ends(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run.pulse)
                run.fault = await run.climb()
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            was_interrupted = run.turn.interruption.happened
            run.fault = faults.interrupted() if was_interrupted else cut_short(relay, run.budgets)
    except* Exception:  # noqa: BLE001 - the request border: the client gets its terminal event
        _log.exception("a turn was ended by an unforeseen error")
        run.fault = faults.unforeseen()


def cut_short(relay: Relay, budgets: Budgets) -> Fault:
    """Why a turn's scope was cancelled: the relay stops, or the budget ran out."""
    if relay.active.stopped:
        return faults.shutting_down()
    return faults.slow("turn_s", budgets.turn_s, block=budgets.block)


class _Run:
    """A running turn. Its own task changes it, and the pulse its line and its silence."""

    def __init__(self, turn: Turn, relay: Relay, client: Client) -> None:
        self.turn = turn
        self.relay = relay
        self.record = Record(turn.waits)
        #: The leg that the turn is on.
        self.leg = turn.leg
        self.way = Way(leg=turn.leg)
        self.ways = (self.way, *(Way(later=later) for later in turn.further))
        #: What may still be asked, in order.
        self.ahead = list(self.ways)
        self.line = Line(
            client,
            keep_alive_s=relay.keep_alive_s,
            keep_alive=self.leg.reply.keep_alive,
            own_headers=own_headers(turn.request_id, self.record, self.leg.adjusted),
            headers=self.leg.reply.headers,
        )
        #: The turn is planned for the first instance of its first leg; an attempt counts by those
        #: of its own.
        self.budgets = self.leg.wish.route[0].budgets
        self.silence = Silence(self.budgets.silence_s, self.budgets.block)
        #: The pulse's present wait.
        self.nap = trio.CancelScope()
        self.fault: Fault | None = None
        self.account_id: str | None = None
        self.backend: str | None = None
        self.turn_state: str | None = None
        self.settled = False
        self.told = False
        self.first_output_at_s: float | None = None

    async def climb(self) -> Fault | None:
        """Return None once upstream has ended the turn, else what went wrong."""
        while self.ahead:
            self.way = self._next_way()
            result = await self._along(self.way)
            if isinstance(result, Served):
                return result.fault
            self.way.fault = result
            # What cannot even be asked of this backend may be asked of another one.
            if self.way.leg is not None and not LEADS_ON[result.kind]:
                return result
        return most_hopeful(self.ways)

    def _next_way(self) -> Way:
        """Return the first leg that would take the turn now, else the first; no checkpoint."""
        found = self.ahead[0]
        if len(self.ahead) > 1:
            found = next((way for way in self.ahead if way.is_ready), found)
        self.record.puts_off(way.name for way in self.ahead[: self.ahead.index(found)])
        self.ahead.remove(found)
        return found

    async def _along(self, way: Way) -> Served | Fault:
        """Climb on one leg; it is opened first, where it is not yet."""
        try:
            self.leg = await way.open()
        except RequestError as error:
            return unsuited(error)
        # How long a turn rests is counted over all of it.
        way.ladder.rested_s = max(way.ladder.rested_s, self._rested_s)
        wish = self.leg.wish
        if self.ahead:
            wish = attrs.evolve(wish, elsewhere=self._elsewhere)
        return await climb(wish, way.ladder, self.record, self.attempt)

    def _elsewhere(self) -> bool:
        """Tell whether another leg would take the turn, which then does not wait on this one.

        It comes back to it if nobody else serves it, and waits then.
        """
        found = not self.way.was_left and any(way.is_ready for way in self.ahead)
        if found:
            self.way.was_left = True
            self.ahead.append(self.way)
        return found

    @property
    def _rested_s(self) -> float:
        return max(way.ladder.rested_s for way in self.ways)

    @property
    def own_headers(self) -> Headers:
        """The headers of ours, as the turn stands."""
        return own_headers(self.turn.request_id, self.record, self.leg.adjusted)

    async def attempt(self, instance: Target, lease: Lease, tried: Tried) -> Served | Fault:
        """One upstream request on one account."""
        request = self.leg.request_for(tried.account, stripped=self.way.ladder.stripped)
        tried.reasoning_stripped = request.reasoning_stripped
        if not self.line.opened:
            self.line.own_headers = self.own_headers
        async with instance.backend.attempt(request, lease.account) as attempt:
            try:
                result = await self._try(attempt, request.delivers, instance, lease, tried)
            finally:  # also of one that its client leaves
                tried.reached = attempt.reached
                tried.via = None if request.socket is None else request.socket.via
            if isinstance(result, Served):
                return result
            return attrs.evolve(result, reached=tried.reached)

    async def _try(
        self, attempt: Attempt, delivers: Wire, instance: Target, lease: Lease, tried: Tried
    ) -> Served | Fault:
        head = await send(attempt, instance.budgets)
        if isinstance(head, Fault):
            return head
        now_unix_s = self.relay.wall_clock()
        if not self.line.opened:
            self.line.headers = (*self.leg.reply.headers, *self.leg.passed_on(head))
        hold = (
            Hold(now_unix_s=now_unix_s)
            if delivers == "responses"
            else ChatHold(now_unix_s=now_unix_s)
        )
        output = await _first_output(attempt, hold, instance.budgets)
        if isinstance(output, Fault):
            return output
        # Committed: one upstream, one response id, no retry.
        lease.accept()
        # What it tells of the quota is not fresher than the lease: another turn, which came after
        # this one, may have met the limit before this one's answer was read.
        seen_unix_s = lease.leased_at_unix_s
        lease.observe(limits.from_headers(head.headers, now_unix_s=seen_unix_s))
        tried.served, tried.took_s = True, self.record.took_s(tried)
        self.account_id, self.backend = tried.account, instance.name
        self.turn_state = head.headers.get("x-codex-turn-state") or hold.turn_state
        self.first_output_at_s = trio.current_time()
        answer = self.leg.reply.answer
        self._watch_silence_of(instance)
        fault = await self.relay.mover.move(
            Stream(
                attempt=attempt,
                held=output.held,
                answer=answer,
                line=self.line,
                silence=self.silence,
                settle=self.settle,
            )
        )
        if hold.rate_limits is not None:
            lease.observe(limits.from_event(hold.rate_limits, now_unix_s=seen_unix_s))
        told = answer.terminal.fault if answer.terminal is not None else None
        return Served(fault or told)

    def _watch_silence_of(self, instance: Target) -> None:
        """Count silence by the budget of the instance that serves."""
        budgets = instance.budgets
        if (budgets.silence_s, budgets.block) != (self.silence.budget_s, self.silence.block):
            self.silence.budget_s, self.silence.block = budgets.silence_s, budgets.block
            self.nap.cancel()  # it may be longer than the new budget

    async def settle(self) -> None:
        """Tell what the turn leaves behind, once; nothing if no attempt was committed."""
        if self.account_id is not None and not self.settled:
            await self.leg.served(self.account_id, self.turn_state)
            self.settled = True

    async def pulse(self) -> None:
        """Show the client life, and end a silence that lasts too long."""
        while True:
            # What this waits for only moves away while it sleeps, but for a silence that begins:
            # that one cannot be over before a whole budget has passed.
            latest_s = trio.current_time() + self.silence.budget_s
            with trio.CancelScope() as self.nap:
                await trio.sleep_until(min(self.line.due_at_s, self.silence.due_at_s, latest_s))
            now_s = trio.current_time()
            if self.silence.due_at_s <= now_s:
                self.silence.fire()
            if self.line.due_at_s <= now_s:
                await self.line.show_life()

    def ending(self) -> Ending:
        """Sum up."""
        terminal, first = self.leg.reply.answer.terminal, self.first_output_at_s
        return Ending(
            account_id=self.account_id,
            backend=self.backend,
            attempts=len(self.record.tried),
            record=self.record,
            leg=self.leg,
            fault=self.fault or (terminal.fault if terminal is not None else None),
            left=not self.told and terminal is None,
            terminal=terminal,
            first_output_s=None if first is None else first - self.record.began_at_s,
            total_s=trio.current_time() - self.record.began_at_s,
        )


def head_of(fault: Fault) -> Head:
    """Return the head that upstream's own refusal came with; an empty one for faults of others."""
    return Head(status=fault.status, headers=dict(fault.headers))


async def send(attempt: Attempt, budgets: Budgets) -> Head | Fault:
    """Send an attempt's request and wait for the head."""
    with trio.move_on_after(budgets.headers_s):
        return await attempt.send()
    return faults.slow("headers_s", budgets.headers_s, block=budgets.block)


async def _first_output(attempt: Attempt, hold: Holding, budgets: Budgets) -> Output | Fault:
    """Keep events back until the first output; a failure before it is a fault.

    Comments and half an event keep a silence away, but they are no first event.
    """
    begins_by_s = trio.current_time() + budgets.first_event_s
    while True:
        if hold.has_begun:
            budget, until_s = "silence_s", trio.current_time() + budgets.silence_s
        else:
            budget, until_s = "first_event_s", begins_by_s
        with trio.move_on_at(until_s) as scope:
            received = await attempt.receive()
        if scope.cancelled_caught:
            return faults.slow(budget, getattr(budgets, budget), block=budgets.block)
        if not isinstance(received, bytes):
            return received
        if not received:
            return hold.end()
        if (result := hold.feed(received)) is not None:
            return result
