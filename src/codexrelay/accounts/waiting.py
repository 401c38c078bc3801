"""Turns that wait for an account, in the order in which they came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from codexrelay.accounts.pool import Ask, Choice, Place, Pool
from codexrelay.accounts.standing import Why

#: Nobody tells a turn that waits of an account file that has appeared: it looks itself.
LOOK_AGAIN_S: Final = 5.0


def nobody_is_told(_choice: Choice) -> None:
    """Do nothing with a turn that begins to wait."""


def nowhere() -> bool:
    """Know of no other place to go to."""
    return False


@attrs.frozen(kw_only=True)
class Patience:
    """How long a turn waits for an account, seconds in all."""

    #: For one that was asked too fast.
    pause_s: float = 0.0
    #: For one whose quota is spent.
    limit_s: float = 0.0
    #: How long it has waited for such accounts already; standing in line is no rest.
    rested_s: float = 0.0
    #: Told once the choice of nobody for which the turn begins to wait; must not fail.
    told: Callable[[Choice], None] = nobody_is_told
    #: Told the choice of nobody that is not worth waiting for; must not fail.
    refused: Callable[[Choice], None] = nobody_is_told
    #: Tells whether the turn would be taken at once in another line; then it leaves this one.
    elsewhere: Callable[[], bool] = nowhere

    def allows(
        self, choice: Choice, *, rejected: frozenset[str], rested_s: float, now_unix_s: float
    ) -> bool:
        """Tell whether a choice of nobody is worth waiting for, after `rested_s` of it.

        Not for an account that the turn would be refused all the same (`rejected`).
        """
        left_s = {Why.PAUSED: self.pause_s - rested_s, Why.COOLING: self.limit_s - rested_s}
        for passed in choice.passed_over:
            if passed.account.id in rejected:
                continue
            if passed.why is Why.BUSY:
                return True  # a turn ends some time, and the turn that waits has its own budget
            if passed.why in left_s and passed.until_unix_s is not None:
                ends_in_s = passed.until_unix_s - now_unix_s
                if ends_in_s <= left_s[passed.why]:
                    return True
        return False


@attrs.frozen
class Granted:
    """An account for a turn, and the turn's place on it."""

    choice: Choice
    place: Place
    #: How long the turn waited for it, seconds, from when it was told; and how much of that not for
    #: others' turns to end, but for accounts to have rested.
    waited_s: float = 0.0
    rested_s: float = 0.0


@attrs.define(eq=False)
class _Waiter:
    ask: Ask
    #: Set when it was granted an account, or should see for itself whether it is worth waiting.
    woken: trio.Event = attrs.field(factory=trio.Event, init=False)
    granted: Granted | None = attrs.field(default=None, init=False)


@attrs.define(eq=False, kw_only=True)
class Queue:
    """The turns that wait.

    Whoever frees an account, or makes one usable, calls `serve`; whoever makes one unusable calls
    `look_again`.
    """

    pool: Pool
    wall_clock: Callable[[], float]
    #: Looks at the account files.
    rescan: Callable[[], Awaitable[None]]
    #: The lines in which turns stand that could be served here too.
    neighbours: list[Queue] = attrs.field(factory=list, init=False)
    _waiters: list[_Waiter] = attrs.field(factory=list, init=False)

    def __len__(self) -> int:
        return len(self._waiters)

    def serve(self) -> None:
        """Give what is free to those who wait, the first one first. No checkpoint here.

        So a free account and a turn that waits for it never stand side by side, and a turn that
        comes later may simply choose.
        """
        if self._waiters:
            self._serve(now_unix_s=self.wall_clock())
            if not self.pool.is_in_use:  # no turn is left whose end would wake anybody
                self.wake()
        for neighbour in self.neighbours:
            neighbour.wake()

    def look_again(self) -> None:
        """Serve, and let those who go on waiting see whether it is still worth it.

        For what makes an account unusable: its turns' ends will not tell them.
        """
        self._serve(now_unix_s=self.wall_clock())
        self.wake()

    async def wait(self, ask: Ask, patience: Patience) -> Granted | Choice:
        """Wait in line for an account; return the choice of nobody if it is not worth waiting.

        The turn stands in line from now on, also while the account files are looked at. When this
        is cancelled, the account that the turn may have been granted goes to the next in line.
        """
        waiter, told_at_s, rested_s, kept = _Waiter(ask), None, 0.0, False
        self._waiters.append(waiter)
        try:
            await self.rescan()
            while True:
                now_unix_s = self.wall_clock()
                self._serve(now_unix_s=now_unix_s)
                if waiter.granted is not None:
                    kept = True  # no checkpoint from here to the caller
                    return attrs.evolve(
                        waiter.granted, waited_s=_since(told_at_s), rested_s=rested_s
                    )
                choice = self.pool.choose(ask, now_unix_s=now_unix_s)  # nobody, it was just served
                if not patience.allows(
                    choice,
                    rejected=ask.rejected,
                    rested_s=patience.rested_s + rested_s,
                    now_unix_s=now_unix_s,
                ):
                    return choice
                if patience.elsewhere():
                    return choice
                began_at_s = trio.current_time()
                if told_at_s is None:
                    told_at_s = began_at_s
                    patience.told(choice)
                await self._sleep(waiter, choice, now_unix_s=now_unix_s)
                if not any(passed.why is Why.BUSY for passed in choice.passed_over):
                    rested_s += _since(began_at_s)
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not kept and waiter.granted is not None:
                self.pool.give_back(waiter.granted.place)
                self.serve()

    def _serve(self, *, now_unix_s: float) -> None:
        in_vain: set[tuple[object, ...]] = set()
        for waiter in tuple(self._waiters):
            ask = waiter.ask
            # All that decides whether there is an account for it: a crowd costs one choice.
            needs = (ask.model, ask.plans, ask.rejected, ask.aside)
            if needs in in_vain:
                continue
            choice = self.pool.choose(ask, now_unix_s=now_unix_s)
            if choice.account is None:
                in_vain.add(needs)
                continue
            waiter.granted = Granted(choice, self.pool.take(choice, ask))
            self._waiters.remove(waiter)
            waiter.woken.set()

    def wake(self) -> None:
        """Let those who wait see for themselves what has changed."""
        for waiter in self._waiters:
            waiter.woken.set()

    async def _sleep(self, waiter: _Waiter, choice: Choice, *, now_unix_s: float) -> None:
        """Return when the turn was granted an account, or something may have changed."""
        ends = (passed.until_unix_s for passed in choice.passed_over)
        waits_s = [end - now_unix_s for end in ends if end is not None]
        waiter.woken = trio.Event()
        with trio.move_on_after(max(0.0, min((LOOK_AGAIN_S, *waits_s)))):
            await waiter.woken.wait()
        if not waiter.woken.is_set():
            await self.rescan()


def _since(at_s: float | None) -> float:
    return 0.0 if at_s is None else trio.current_time() - at_s
