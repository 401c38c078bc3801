"""What turns ask for a backend of another kind, where those of the family ask for an account.

There is one account, without tokens, whose id is the backend's name. Any number of turns may have
it at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.accounts.account import Account, Credentials
from codexrelay.accounts.pool import Ask, By, Choice
from codexrelay.accounts.standing import PassedOver, Why
from codexrelay.accounts.waiting import Patience
from codexrelay.backends.openai.key import Key
from codexrelay.backends.openai.standing import Rest, Standing
from codexrelay.errors import AllTriedError, BackendRestsError, KeyUnusableError
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.limits import NO_HEADERS

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.limits import Limits

_PATIENCE: Final = Patience()


@attrs.define(kw_only=True, eq=False)
class KeyLease:
    """The right to ask the backend, for the attempts that a turn makes on it in a row.

    It has what a lease of the family's has (`accounts.lender.Lease`).
    """

    account: Account
    by: By
    candidates: tuple[str, ...]
    passed_over: tuple[PassedOver, ...] = ()
    #: No session is bound to such a backend.
    bound: str | None = None
    #: There is no token that could be.
    refreshed: bool = False
    waited_s: float = 0.0
    rested_s: float = 0.0
    leased_at_unix_s: float
    #: The key that its attempts are made with.
    key_text: str | None = attrs.field(repr=False)
    _lender: KeyLender = attrs.field(repr=False)
    _ask: Ask = attrs.field(repr=False)
    _is_refused: bool = attrs.field(default=False, init=False)

    def accept(self, headers: Mapping[str, str] = NO_HEADERS) -> None:  # noqa: ARG002 - the family's
        """Say that the backend serves the turn: told with the first output, not at the end."""
        self._lender.standing.accept(leased_at_unix_s=self.leased_at_unix_s)
        self._lender.changed()

    def observe(self, seen: Limits | None) -> None:
        """Take no notice: these are figures of the family's accounts."""

    def report(self, fault: Fault) -> None:
        """Say what the attempt has met. Of a question of the relay's own nothing is learnt."""
        self._is_refused = fault.kind is FaultKind.UNAUTHORIZED
        if not self._ask.aside:
            self._lender.standing.suffer(fault, now_unix_s=self._lender.wall_clock())
            self._lender.changed()

    async def renew(self) -> bool:
        """Make it good for another attempt.

        Returns False if the key was refused and no other one has been written since, or if the
        backend rests meanwhile: nobody can renew a key, and the same one would be refused again.
        """
        await trio.lowlevel.checkpoint()  # an attempt begins only while its client is there
        return await self._lender.renew(self, is_refused=self._is_refused)


@attrs.define(eq=False, kw_only=True)
class KeyLender:
    """Lends one backend to turns, with its key."""

    #: The backend's canonical name, and the account's id.
    name: str
    key: Key
    wall_clock: Callable[[], float]
    standing: Standing = attrs.field(factory=Standing)
    #: Leases that are held now.
    leased: int = attrs.field(default=0, init=False)
    _account: Account = attrs.field(init=False)
    #: Set, and replaced, when the standing has changed.
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    @_account.default
    def _one_account(self) -> Account:
        return Account(id=self.name, credentials=Credentials(access_token=""))

    def accounts(self) -> tuple[Account, ...]:
        """Return the one account."""
        return (self._account,)

    def bound(self, session: str) -> str | None:  # noqa: ARG002 - as the family's
        """Return None: no session is bound to such a backend."""
        return None

    def can_take(self, ask: Ask) -> bool:
        """Tell whether the backend would take a turn at this moment, as far as is known.

        One that is unwell is not preferred; it is lent all the same to who asks. No checkpoint.
        """
        now_unix_s = self.wall_clock()
        return (
            self.name not in ask.rejected
            and not self.key.is_in_vain
            and self.standing.rest(now_unix_s=now_unix_s) is None
            and not self.standing.is_unwell(now_unix_s=now_unix_s)
        )

    @contextlib.asynccontextmanager
    async def lease(self, ask: Ask, patience: Patience = _PATIENCE) -> AsyncIterator[KeyLease]:
        """Lend the backend for one attempt, with its key as it is in its file by now.

        Waits as long as `patience` says while the backend rests; cancelled, it leaves nothing.

        Raises:
            BackendRestsError: it rests for longer than that. No call was made.
            KeyUnusableError: its key cannot be sent. No call was made.
            AllTriedError: the turn has tried it, and another try would be in vain.
        """
        await trio.lowlevel.checkpoint()  # an attempt begins only while its client is there
        self._spare_what_is_in_vain(ask)
        waited_s = await self._until_rested(ask, patience)
        await self.key.look()
        lease = KeyLease(
            account=self._account,
            by=By.AGAIN if ask.again == self.name else By.ASIDE if ask.aside else By.STRATEGY,
            candidates=(self.name,),
            waited_s=waited_s,
            rested_s=waited_s,
            leased_at_unix_s=self.wall_clock(),
            key_text=self.key.text,
            lender=self,
            ask=ask,
        )
        self.leased += 1
        try:
            yield lease
        finally:
            self.leased -= 1

    async def renew(self, lease: KeyLease, *, is_refused: bool) -> bool:
        """See `KeyLease.renew`."""
        try:
            await self.key.look(at_once=is_refused)
        except KeyUnusableError:
            return False
        is_other = self.key.text != lease.key_text
        if is_refused and not is_other:
            return False
        now_unix_s = self.wall_clock()
        if self.standing.rest(now_unix_s=now_unix_s) is not None:
            return False
        lease.refreshed, lease.by = is_other, By.AGAIN
        lease.waited_s = lease.rested_s = 0.0
        lease.leased_at_unix_s, lease.key_text = now_unix_s, self.key.text
        return True

    def changed(self) -> None:
        """Let those who wait see for themselves what has changed."""
        self._changed.set()
        self._changed = trio.Event()

    def _spare_what_is_in_vain(self, ask: Ask) -> None:
        is_tried = self.name in ask.rejected
        # `again` without a lease that is held: it could not be renewed, so the key was refused.
        if is_tried or ask.again == self.name:
            told = "it was asked" if is_tried else "its key was refused"
            raise AllTriedError(told=(f"backend {self.name}: {told}",))

    async def _until_rested(self, ask: Ask, patience: Patience) -> float:
        """Wait until the backend may be asked; return how long that took, seconds."""
        began_at_s = None
        while (rest := self.standing.rest(now_unix_s=self.wall_clock())) is not None:
            now_s, now_unix_s = trio.current_time(), self.wall_clock()
            rested_s = 0.0 if began_at_s is None else now_s - began_at_s
            choice = Choice(account=None, passed_over=(self._passed_over(rest),))
            is_worth_it = patience.allows(
                choice,
                rejected=ask.rejected,
                rested_s=patience.rested_s + rested_s,
                now_unix_s=now_unix_s,
            )
            if not is_worth_it or patience.elsewhere():
                patience.refused(choice)
                raise self._rests(rest, now_unix_s=now_unix_s)
            if began_at_s is None:
                began_at_s = now_s
                patience.told(choice)
            with trio.move_on_after(max(0.0, rest.until_unix_s - now_unix_s)):
                await self._changed.wait()
        return 0.0 if began_at_s is None else trio.current_time() - began_at_s

    def _passed_over(self, rest: Rest) -> PassedOver:
        return PassedOver(
            account=self._account,
            why=Why.COOLING if rest.is_limit else Why.PAUSED,
            reason=f"{rest.fault.status} {rest.fault.code or rest.fault.type}",
            fault=rest.fault,
            until_unix_s=rest.until_unix_s,
        )

    def _rests(self, rest: Rest, *, now_unix_s: float) -> BackendRestsError:
        return BackendRestsError(
            backend=self.name,
            until_unix_s=rest.until_unix_s,
            now_unix_s=now_unix_s,
            message=rest.fault.message,
            type=rest.fault.type,
            code=rest.fault.code,
            is_limit=rest.is_limit,
        )
