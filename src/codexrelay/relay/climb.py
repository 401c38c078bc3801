"""Attempt after attempt, as the ladder says, until one is served or no rung is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs
import trio

from codexrelay.accounts.pool import Ask
from codexrelay.accounts.waiting import Patience, nowhere
from codexrelay.errors import AccountError
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.relay.account_faults import fault_of, qualified
from codexrelay.relay.ladder import MAX_REST_S, RETRY_WAIT_S, STAYING, Ladder, Step
from codexrelay.relay.lending import Target

if TYPE_CHECKING:
    from codexrelay.accounts.pool import Choice
    from codexrelay.relay.lending import Lease
    from codexrelay.relay.record import Record, Tried


@attrs.frozen
class Served:
    """An attempt that reached the client: nothing is tried again, even if it failed later."""

    fault: Fault | None = None


class Offer(Protocol):
    """Which plans have the turn's model, as far as it matters."""

    @property
    def plans(self) -> frozenset[str] | None:
        """The plans that offer it; None: not known."""

    @property
    def available(self) -> tuple[str, ...]:
        """Models that can be had, for a client that asked for one that cannot."""

    async def learn(self) -> None:
        """Find out, where it is not known; takes a few seconds at most."""


class _NoOffer:
    """Nothing is known, and nothing can be found out."""

    plans = None
    available = ()

    async def learn(self) -> None:
        """See `Offer.learn`."""


_NO_OFFER: Final = _NoOffer()


@attrs.frozen(kw_only=True)
class Wish:
    """What a turn wants of the accounts."""

    #: The instances it is offered, in order.
    route: tuple[Target, ...]
    #: The model's name on the wire; None where it does not matter.
    model: str | None = None
    offer: Offer = _NO_OFFER
    session: str | None = None
    #: The account that made what the request holds, began its user turn, or has a WebSocket for it.
    claim: str | None = None
    #: The request begins a user turn.
    opens: bool = True
    #: The client can be shown life while it waits.
    waits: bool = False
    #: No turn of a client's, but a question of the relay's own: one account is asked, once.
    aside: bool = False
    #: The owner waits for its answer: where a token is refused, it climbs as a turn does.
    insists: bool = False
    #: Accounts that are asked only when there is no other, the first of them first.
    avoid: tuple[str, ...] = ()
    #: Tells whether another leg of the turn would take it now; then it stands in no line here.
    elsewhere: Callable[[], bool] = nowhere

    def ask(self, instance: Target, ladder: Ladder) -> Ask:
        """Return what the next attempt asks of an instance's accounts."""
        return Ask(
            model=self.model,
            plans=self.offer.plans,
            session=None if self._is_bound_beside(instance) else self.session,
            rejected=instance.local_ids(ladder.rejected) if ladder.rejected else ladder.rejected,
            again=instance.local(ladder.again),
            claim=instance.local(self.claim),
            opens=self.opens,
            aside=self.aside,
            insists=self.insists,
            avoid=self._avoided(instance) if self.avoid else (),
        )

    def can_be_taken(self, ladder: Ladder) -> bool:
        """Tell whether there is an account for the next attempt at this moment."""
        return any(i.lender.can_take(self.ask(i, ladder)) for i in self.route)

    def climbs(self, fault: Fault) -> bool:
        """Tell whether another attempt may follow a fault."""
        return not self.aside or (self.insists and fault.kind is FaultKind.UNAUTHORIZED)

    def _avoided(self, instance: Target) -> tuple[str, ...]:
        return tuple(i for q in self.avoid if (i := instance.local(q)) is not None)

    def _is_bound_beside(self, instance: Target) -> bool:
        """Tell whether the session is bound in another instance: a failover must not bind it twice.

        It would not know any more to which of the two it returns.
        """
        session = self.session
        if session is None or len(self.route) == 1:
            return False
        return any(
            other is not instance and other.lender.bound(session) is not None
            for other in self.route
        )


Attempting: TypeAlias = "Callable[[Target, Lease, Tried], Awaitable[Served | Fault]]"


async def climb(wish: Wish, ladder: Ladder, record: Record, attempt: Attempting) -> Served | Fault:
    """Run `attempt` on one account after the other; return the first `Served`, or the last fault.

    Each rung begins with a checkpoint, so a turn whose client has left climbs no further.
    """
    last: Fault | None = None
    while True:
        errors: list[AccountError] = []
        # Nobody waits in line at one instance while another one may have an account free.
        doors = [(instance, len(wish.route) == 1) for instance in wish.route]
        while doors:
            instance, waits = doors.pop(0)
            result = await _climb(instance, wish, ladder, record, attempt, waits=waits)
            if not isinstance(result, _Stuck):
                return result
            last = result.last or last
            if result.is_worth_waiting:
                doors.append((instance, True))
            else:
                error = qualified(result.error, instance)
                record.refuses(instance, error)
                errors.append(error)
        if not ladder.strip():
            return fault_of(errors, after=last, available=wish.offer.available)


@attrs.frozen
class _Stuck:
    """An instance has no account left for the turn."""

    error: AccountError
    last: Fault | None
    #: One of its accounts will be free soon, and the turn has not waited for it.
    is_worth_waiting: bool = False


@attrs.frozen(kw_only=True)
class _Glance(Patience):
    """Waits for nothing, and tells whether it would be worth it."""

    is_worth_waiting: Callable[[], None]

    def allows(
        self, choice: Choice, *, rejected: frozenset[str], rested_s: float, now_unix_s: float
    ) -> bool:
        """See `Patience.allows`; here the answer is always no."""
        if super().allows(choice, rejected=rejected, rested_s=rested_s, now_unix_s=now_unix_s):
            self.is_worth_waiting()
        return False


async def _climb(
    instance: Target,
    wish: Wish,
    ladder: Ladder,
    record: Record,
    attempt: Attempting,
    *,
    waits: bool,
) -> Served | Fault | _Stuck:
    """Climb on the accounts of one instance; `waits` says whether the turn may stand in line."""
    last: Fault | None = None
    while True:
        worth_waiting: list[Target] = []
        try:
            async with instance.lender.lease(
                wish.ask(instance, ladder),
                _patience(instance, wish, ladder, record, worth_waiting, waits=waits),
            ) as lease:
                ladder.rested_s += lease.rested_s
                result, step = await _on_one_account(instance, lease, wish, ladder, record, attempt)
        except AccountError as error:
            return _Stuck(error, last, is_worth_waiting=bool(worth_waiting))
        if isinstance(result, Served) or step is Step.GIVE_UP:
            return result
        last = result
        if result.kind is FaultKind.UNSUPPORTED:
            await wish.offer.learn()  # who has the model, so that nobody else is asked in vain


def _patience(
    instance: Target,
    wish: Wish,
    ladder: Ladder,
    record: Record,
    worth_waiting: list[Target],
    *,
    waits: bool,
) -> Patience:
    """Return how long the turn waits at an instance; `worth_waiting` gets those where it should.

    Nobody keeps it while the turn has its account: a stream may last for long.
    """
    pause_s = MAX_REST_S - ladder.rested_s
    limit_s = instance.limit_patience_s - ladder.rested_s if wish.waits else 0.0
    refused = partial(record.finds_nobody, instance)
    if not waits:
        return _Glance(
            pause_s=pause_s,
            limit_s=limit_s,
            refused=refused,
            is_worth_waiting=partial(worth_waiting.append, instance),
        )
    return Patience(
        pause_s=pause_s,
        limit_s=limit_s,
        told=partial(record.begins_to_wait, instance),
        refused=refused,
        elsewhere=partial(_elsewhere, instance, wish, ladder, worth_waiting),
    )


def _elsewhere(instance: Target, wish: Wish, ladder: Ladder, worth_waiting: list[Target]) -> bool:
    """Tell whether another instance would take the turn now, which then leaves this one's line.

    So it does for another leg of the turn; it comes back only when that one has not served it.
    """
    if wish.elsewhere():
        return True
    found = any(
        other.lender.can_take(wish.ask(other, ladder))
        for other in wish.route
        if other is not instance
    )
    if found:
        worth_waiting.append(instance)
    return found


async def _on_one_account(
    instance: Target,
    lease: Lease,
    wish: Wish,
    ladder: Ladder,
    record: Record,
    attempt: Attempting,
) -> tuple[Served | Fault, Step]:
    """Attempt until the account has served the turn, or the next step leads away from it.

    The turn keeps its place on the account meanwhile: one that had to stand in line again for a
    second try would have lost it to somebody who came later.
    """
    while True:
        tried = record.begins_attempt(instance, lease, wish.model)
        result = await attempt(instance, lease, tried)
        fault = result.fault if isinstance(result, Served) else result
        tried.fault = fault
        tried.took_s = record.took_s(tried, trio.current_time())
        if fault is not None:
            lease.report(fault)
        if isinstance(result, Served) or not wish.climbs(result):
            return result, Step.GIVE_UP
        step = ladder.climb(result, tried.account)
        if step is Step.RETRY:
            await trio.sleep(RETRY_WAIT_S)
        if step not in STAYING or not await lease.renew():
            return result, step
