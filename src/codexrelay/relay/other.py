"""A backend of another kind, as turns see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.backend import Backend, Wire
from codexrelay.backends.openai.lender import KeyLender
from codexrelay.backends.openai.listing import Listing
from codexrelay.relay.budgets import Budgets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.accounts.standing import PassedOver


@attrs.define(kw_only=True, eq=False)
class Other:
    """One configured backend outside of the openai-codex family; see `lending.Target`.

    It has one account without tokens, which is called as it is itself. Its figures may change
    between two attempts, when the configuration does.
    """

    #: Canonical, as a model name calls it: `local`.
    name: str
    wire: Wire
    lender: KeyLender
    backend: Backend
    budgets: Budgets
    #: Tells its models, where the configuration does not.
    listing: Listing
    #: Where it is, for people: without a user or a password.
    url: str = ""
    limit_patience_s: float = 0.0
    #: What its lender says names it as the rest of the relay does.
    is_first: bool = attrs.field(default=True, init=False)

    def qualified(self, account_id: str) -> str:  # noqa: ARG002 - there is one
        """Return the id under which the rest of the relay knows its account."""
        return self.name

    def qualified_ids(self, account_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return such ids of several accounts."""
        return tuple(map(self.qualified, account_ids))

    def with_ids(self, passed_over: tuple[PassedOver, ...]) -> tuple[tuple[str, PassedOver], ...]:
        """Return the accounts that were passed over with such ids."""
        return tuple((self.name, passed) for passed in passed_over)

    def local(self, qualified_id: str | None) -> str | None:
        """Return the account's id here, None if it is another's."""
        return self.name if qualified_id == self.name else None

    def local_ids(self, qualified_ids: Iterable[str]) -> frozenset[str]:
        """Return those of the accounts that are its own, by their ids here."""
        return frozenset({self.name}.intersection(qualified_ids))
