"""One turn: lease, send, hold, commit, move; and its one terminal event, whatever happens.

Everything that can go wrong upstream is a value (`Fault`) until the client has to be told.
Everything that is owned is closed by indentation: when `run_turn` has returned or was cancelled, no
task, socket or lease of the turn exists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

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
from codexrelay.relay.dues import Keeper, open_keeper
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
    from codexrelay.relay.climb import Wish
    from codexrelay.relay.dues import Due
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
    #: Looks at what falls due in all turns. None: each turn has one of its own while it runs.
    keeper: Keeper | None = None


async def run_turn(turn: Turn, client: Client, relay: Relay) -> Ending:
    """Serve one turn. The client has its answer, or exactly one error, before this returns.

    Cancelled when the client leaves: upstream is left at once, and nobody is told anything.
    """
    if relay.keeper is not None:
        return await _Run(turn, relay, client, relay.keeper).run()
    async with open_keeper() as keeper:
        return await _Run(turn, relay, client, keeper).run()


def cut_short(relay: Relay, budgets: Budgets) -> Fault:
    """Why a turn's scope was cancelled: the relay stops, or the budget ran out."""
    if relay.active.stopped:
        return faults.shutting_down()
    return faults.slow("turn_s", budgets.turn_s, block=budgets.block)


class _Run:
    """A running turn. Its own task changes it, and the keeper its line and its silence."""

    __slots__ = (
        "account_id", "ahead", "backend", "budgets", "due", "fault", "first_output_at_s", "keeper",
        "leg", "line", "record", "relay", "scope", "settled", "silence", "told", "turn",
        "turn_state", "unforeseen", "way", "ways",
    )  # fmt: skip

    def __init__(self, turn: Turn, relay: Relay, client: Client, keeper: Keeper) -> None:
        self.turn = turn
        self.relay = relay
        self.keeper = keeper
        began_at_s = trio.current_time()
        self.record = Record(turn.waits, began_at_s)
        #: The leg that the turn is on.
        self.leg = turn.leg
        self.way = Way(leg=turn.leg)
        self.ways = (self.way, *[Way(later=later) for later in turn.further])
        #: What may still be asked, in order.
        self.ahead = list(self.ways)
        reply = turn.leg.reply
        self.line = Line(
            client,
            keep_alive_s=relay.keep_alive_s,
            keep_alive=reply.keep_alive,
            headers=reply.headers,
            written_at_s=began_at_s,
        )
        #: The turn is planned for the first instance of its first leg; an attempt counts by those
        #: of its own.
        self.budgets = self.leg.wish.route[0].budgets
        self.silence = Silence(self.budgets.silence_s, self.budgets.block)
        #: Of everything up to the end of the answer.
        self.scope = trio.CancelScope(deadline=began_at_s + self.budgets.turn_s)
        self.due: Due | None = None
        self.fault: Fault | None = None
        #: Showing life has failed for a reason that nobody foresaw.
        self.unforeseen = False
        self.account_id: str | None = None
        self.backend: str | None = None
        self.turn_state: str | None = None
        self.settled = False
        self.told = False
        self.first_output_at_s: float | None = None

    async def run(self) -> Ending:
        """See `run_turn`."""
        ending: Ending | None = None
        try:
            await self._to_an_end()
            reply = self.leg.reply
            if reply.answer.terminal is not None:  # upstream has ended the turn itself
                self.fault = None
            if not self.line.ended:
                if self.fault is not None:
                    passed_on = self.leg.passed_on(head_of(self.fault))
                    self.line.own_headers = (*self.own_headers, *passed_on)
                with trio.move_on_after(FAREWELL_S) as farewell:
                    await self.settle()
                    await reply.finish(self.line, self.fault)
                self.told = not farewell.cancelled_caught
        finally:
            ending = self.ending()
            self.turn.ended(ending)
        return ending

    async def _to_an_end(self) -> None:
        """Climb and move, until upstream has ended the turn or `fault` says why it did not."""
        active, keeper = self.relay.active, self.keeper
        try:
            with self.scope:
                active.add(self.scope)
                self.turn.interruption.ends(self.scope)
                self.due = keeper.enter(self, self.next_due_s(self.record.began_at_s))
                try:
                    self.fault = await self.climb()
                finally:
                    active.discard(self.scope)
                    keeper.leave(self.due)
                    if self.line.has_comment:
                        await self.line.hush()
            if self.scope.cancelled_caught:
                self.fault = self.why_cut_short()
        except* Exception:  # the request border: the client gets its terminal event
            if self.line.ended:  # or was given its end, which failed: who serves it must know
                raise
            _log.exception("a turn was ended by an unforeseen error")
            self.fault = faults.unforeseen()

    async def climb(self) -> Fault | None:
        """Return None once upstream has ended the turn, else what went wrong."""
        while self.ahead:
            way = self.way = self._next_way()
            try:
                self.leg = await way.open()
            except RequestError as error:
                way.fault = unsuited(error)
            else:
                wish = self._wish_on(way)
                result = await climb(wish, way.ladder, self.record, self.attempt)
                if isinstance(result, Served):
                    return result.fault
                way.fault = result
            # What cannot even be asked of this backend may be asked of another one.
            if way.leg is not None and not LEADS_ON[way.fault.kind]:
                return way.fault
        return most_hopeful(self.ways)

    def _next_way(self) -> Way:
        """Return the first leg that would take the turn now, else the first; no checkpoint."""
        if len(self.ahead) == 1:
            return self.ahead.pop()
        found = next((way for way in self.ahead if way.is_ready), self.ahead[0])
        self.record.puts_off(way.name for way in self.ahead[: self.ahead.index(found)])
        self.ahead.remove(found)
        return found

    def _wish_on(self, way: Way) -> Wish:
        """Return what the turn wants on a leg that is open, with regard to the other ones."""
        wish = self.leg.wish
        if len(self.ways) > 1:
            # How long a turn rests is counted over all of it.
            way.ladder.rested_s = max(other.ladder.rested_s for other in self.ways)
        if self.ahead:
            wish = attrs.evolve(wish, elsewhere=self._elsewhere)
        return wish

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
    def own_headers(self) -> Headers:
        """The headers of ours, as the turn stands."""
        return own_headers(self.turn.request_id, self.record, self.leg.adjusted)

    async def attempt(self, instance: Target, lease: Lease, tried: Tried) -> Served | Fault:
        """One upstream request on one account."""
        request = self.leg.request_for(tried.account, stripped=self.way.ladder.stripped)
        tried.reasoning_stripped = request.reasoning_stripped
        if not self.line.opened:
            self.line.own_headers = self.own_headers
        socket, hold = request.socket, self._hold_for(request.delivers)
        attempting = instance.backend.attempt(request, lease.account)
        del request  # a long history is not kept while it is answered
        async with attempting as attempt:
            try:
                began_at_s = self.record.began_at_s + tried.began_s
                begun = await _first_output(
                    attempt, hold, instance.budgets, self._answered, began_at_s
                )
                if isinstance(begun, Fault):
                    return attrs.evolve(begun, reached=attempt.reached)
                stream = self._commit(attempt, hold, begun, instance, lease, tried)
                rate_limits, seen_unix_s = hold.rate_limits, lease.leased_at_unix_s
                del hold, begun  # nor is what came before the first output
                fault = await self.relay.mover.move(stream)
                if rate_limits is not None:
                    lease.observe(limits.from_event(rate_limits, now_unix_s=seen_unix_s))
                terminal = stream.answer.terminal
                return Served(fault or (terminal.fault if terminal is not None else None))
            finally:  # also of one that its client leaves
                tried.reached = attempt.reached
                tried.via = None if socket is None else socket.via

    def _hold_for(self, delivers: Wire) -> Holding:
        now_unix_s = self.relay.wall_clock()
        if delivers == "responses":
            return Hold(now_unix_s=now_unix_s)
        return ChatHold(now_unix_s=now_unix_s)

    def _commit(
        self,
        attempt: Attempt,
        hold: Holding,
        begun: _Begun,
        instance: Target,
        lease: Lease,
        tried: Tried,
    ) -> Stream:
        """From now on the turn has one upstream and one response id, and is not tried again."""
        head, output, now_s = begun
        lease.accept(head.headers)
        self.leg.committed()
        tried.served, tried.took_s = True, self.record.took_s(tried, now_s)
        self.account_id, self.backend = tried.account, instance.name
        self.turn_state = head.headers.get("x-codex-turn-state") or hold.turn_state
        self.first_output_at_s = now_s
        self._watch_silence_of(instance)
        reply = self.leg.reply
        return Stream(
            attempt=attempt,
            held=output.held,
            reply=reply,
            answer=reply.answer,
            line=self.line,
            silence=self.silence,
            settle=self.settle,
        )

    def _answered(self, head: Head) -> None:
        """Upstream's head is there; what it says goes to the client with ours."""
        if not self.line.opened:
            self.line.headers = (*self.leg.reply.headers, *self.leg.passed_on(head))

    def _watch_silence_of(self, instance: Target) -> None:
        """Count silence by the budget of the instance that serves."""
        silence, budgets = self.silence, instance.budgets
        if (budgets.silence_s, budgets.block) != (silence.budget_s, silence.block):
            silence.budget_s, silence.block = budgets.silence_s, budgets.block
            assert self.due is not None
            # The look that is arranged may be later than the new budget.
            self.keeper.hasten(self.due, trio.current_time() + budgets.silence_s)

    async def settle(self) -> None:
        """Tell what the turn leaves behind, once; nothing if no attempt was committed."""
        if self.account_id is not None and not self.settled:
            await self.leg.served(self.account_id, self.turn_state)
            self.settled = True

    def come_due(self, now_s: float) -> float:
        """Show the client life, and end a silence that lasts too long; see `Dutiful`."""
        line = self.line
        if self.silence.due_at_s <= now_s:
            self.silence.fire()
        if line.due_at_s <= now_s:
            if not line.opened:
                line.own_headers = self.own_headers
            if (comment := line.show_life(now_s)) is not None:
                self.keeper.nursery.start_soon(self._show_life, comment)
        return self.next_due_s(now_s)

    def next_due_s(self, now_s: float) -> float:
        """Return when to look at the turn next, on trio's clock.

        What falls due then may only have moved away by that time, but for a silence that begins:
        that one cannot be over before a whole budget has passed.
        """
        return min(self.line.due_at_s, self.silence.due_at_s, now_s + self.silence.budget_s)

    async def _show_life(self, comment: Callable[[], Awaitable[None]]) -> None:
        """Run what writes a comment. The turn waits for its end before it ends itself."""
        try:
            await comment()
        except Exception:  # noqa: BLE001 - the task border: all turns share the keeper
            _log.exception("a turn was ended by an unforeseen error")
            self.unforeseen = True
            self.scope.cancel()

    def why_cut_short(self) -> Fault:
        """Return why the turn's scope was cancelled."""
        if self.unforeseen:
            return faults.unforeseen()
        if self.turn.interruption.happened:
            return faults.interrupted()
        return cut_short(self.relay, self.budgets)

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


#: The head, what came until the first output, and when that was, on trio's clock.
_Begun: TypeAlias = "tuple[Head, Output, float]"


def head_of(fault: Fault) -> Head:
    """Return the head that upstream's own refusal came with; an empty one for faults of others."""
    return Head(status=fault.status, headers=dict(fault.headers))


async def _first_output(
    attempt: Attempt,
    hold: Holding,
    budgets: Budgets,
    answered: Callable[[Head], None],
    began_at_s: float,
) -> _Begun | Fault:
    """Send, and keep events back until the first output; a failure before it is a fault.

    `answered` is told the head when it comes. Comments and half an event keep a silence away, but
    they are no first event. `began_at_s` is when the attempt began, on trio's clock.
    """
    budget = "headers_s"
    # One scope for all phases: to move its deadline costs less than to enter another.
    with trio.CancelScope(deadline=began_at_s + budgets.headers_s) as scope:
        head = await attempt.send()
        if isinstance(head, Fault):
            return head
        answered(head)
        budget = "first_event_s"
        scope.deadline = trio.current_time() + budgets.first_event_s
        result: Output | Fault | None = None
        while result is None:
            if hold.has_begun:
                budget = "silence_s"
                scope.deadline = trio.current_time() + budgets.silence_s
            received = await attempt.receive()
            if not isinstance(received, bytes):
                return received
            result = hold.feed(received) if received else hold.end()
        # Not with a budget that ran out in this very moment: what follows would be cancelled by it.
        now_s = trio.current_time()
        if now_s < scope.deadline:
            return result if isinstance(result, Fault) else (head, result, now_s)
    return faults.slow(budget, getattr(budgets, budget), block=budgets.block)
