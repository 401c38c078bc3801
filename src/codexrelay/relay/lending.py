"""What a turn needs of whoever lends it accounts: the family's lender, and that of a single key.

Implementations: `accounts.lender` and `backends.openai.lender`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from codexrelay.protocol.limits import NO_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from codexrelay.accounts.account import Account
    from codexrelay.accounts.pool import Ask, By
    from codexrelay.accounts.standing import PassedOver
    from codexrelay.accounts.waiting import Patience
    from codexrelay.backends.backend import Backend
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.limits import Limits
    from codexrelay.relay.budgets import Budgets


class Lease(Protocol):
    """The right to use one account; what each part means stands in `accounts.lender.Lease`."""

    @property
    def account(self) -> Account:
        """Bearer and workspace id of the attempt, as one value."""

    @property
    def by(self) -> By:
        """What decided that it is this account."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """Among which it was chosen."""

    @property
    def passed_over(self) -> tuple[PassedOver, ...]:
        """Who could not be chosen, and why."""

    @property
    def bound(self) -> str | None:
        """The account that the session is bound to, if it is to one."""

    @property
    def refreshed(self) -> bool:
        """Its token was refreshed for this attempt."""

    @property
    def waited_s(self) -> float:
        """How long the turn waited for it."""

    @property
    def rested_s(self) -> float:
        """How much of that until an account had rested."""

    @property
    def leased_at_unix_s(self) -> float:
        """Since when it may be used."""

    def accept(self, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Say that the backend serves the turn; `headers` are those of its answer."""

    def observe(self, seen: Limits | None) -> None:
        """Say what the backend told of the account's quota in the answer's body, if it did."""

    def report(self, fault: Fault) -> None:
        """Say what the attempt has met."""

    async def renew(self) -> bool:
        """Make it good for another attempt; False if the account cannot be used again now."""


class Lending(Protocol):
    """Lends accounts to turns; what each part means stands in `accounts.lender.Lender`."""

    def lease(self, ask: Ask, patience: Patience) -> AbstractAsyncContextManager[Lease]:
        """Lend an account. Raises AccountError: there is none."""

    def can_take(self, ask: Ask) -> bool:
        """Tell whether there is an account for an attempt at this moment."""

    def bound(self, session: str) -> str | None:
        """Return the account that a session is bound to, None if it is to none."""

    def accounts(self) -> Sequence[Account]:
        """Return the accounts that may be used, as they stand."""


class Target(Protocol):
    """What a turn may be sent to: an instance of the family, or a backend of another kind."""

    @property
    def name(self) -> str:
        """As a model name calls it: `openai-codex`, `openai-codex.2`, `local`."""

    @property
    def lender(self) -> Lending:
        """Lends its accounts."""

    @property
    def backend(self) -> Backend:
        """Where requests go."""

    @property
    def budgets(self) -> Budgets:
        """The time allowed to each phase."""

    @property
    def limit_patience_s(self) -> float:
        """How long a turn whose client can be shown life waits for the first quota to come back."""

    @property
    def is_first(self) -> bool:
        """Whether what its lender says names its accounts as the rest of the relay does."""

    def qualified(self, account_id: str) -> str:
        """Return the id under which the rest of the relay knows an account of its."""

    def qualified_ids(self, account_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return such ids of several accounts, at no cost for what was asked about before."""

    def with_ids(self, passed_over: tuple[PassedOver, ...]) -> tuple[tuple[str, PassedOver], ...]:
        """Return the accounts that were passed over with such ids, as `qualified_ids` does."""

    def local(self, qualified_id: str | None) -> str | None:
        """Return the account's id here, None if it is another's."""

    def local_ids(self, qualified_ids: Iterable[str]) -> frozenset[str]:
        """Return those of the accounts that are its own, by their ids here."""
