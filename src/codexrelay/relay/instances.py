"""The instances of a backend's family, and which of them a turn is offered.

Each instance has accounts of its own. Outside its lender an account is known by its qualified id,
so that two instances may use the same local names: `work` is of the first instance,
`openai-codex.2/work` of the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import attrs

from codexrelay.accounts.lender import Lender
from codexrelay.accounts.standing import PassedOver
from codexrelay.backends.backend import Backend
from codexrelay.errors import RequestError
from codexrelay.protocol.model_id import FAMILY
from codexrelay.relay.budgets import Budgets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from codexrelay.accounts.account import Account

_One = TypeVar("_One")
_Named = TypeVar("_Named")
#: What was to be named, and that with its names.
_Qualified: TypeAlias = tuple[tuple[_One, ...], tuple[_Named, ...]]

#: Another name of the first instance, where the family's name may mean any of them.
_FIRST: Final = f"{FAMILY}.1"


@attrs.define(kw_only=True, eq=False)
class Instance:
    """One configured backend, with the accounts that it is used with.

    Its figures may change between two attempts, when the configuration does.
    """

    lender: Lender
    backend: Backend
    budgets: Budgets
    #: As a model name calls it: `openai-codex`, `openai-codex.2`.
    name: str = FAMILY
    #: Its share of the turns that name the family only; 0: none.
    weight: int = 1
    #: How long a turn whose client can be shown life waits for the first quota to come back.
    limit_patience_s: float = 0.0
    #: Whether its accounts' ids stand as they are.
    is_first: bool = attrs.field(init=False)
    #: Before its accounts' ids.
    _prefix: str = attrs.field(init=False)
    #: What was qualified last: most turns have the very same choice.
    _ids: _Qualified[str, str] = attrs.field(default=((), ()), init=False)
    _passed_over: _Qualified[PassedOver, tuple[str, PassedOver]] = attrs.field(
        default=((), ()), init=False
    )

    def __attrs_post_init__(self) -> None:
        self.is_first = self.name == FAMILY
        self._prefix = "" if self.is_first else f"{self.name}/"

    def qualified(self, account_id: str) -> str:
        """Return the id under which the rest of the relay knows an account of this instance."""
        return self._prefix + account_id

    def qualified_ids(self, account_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return such ids of several accounts, at no cost for what was asked about before."""
        if self.is_first:
            return account_ids
        if account_ids is not self._ids[0]:
            self._ids = account_ids, tuple(map(self.qualified, account_ids))
        return self._ids[1]

    def with_ids(self, passed_over: tuple[PassedOver, ...]) -> tuple[tuple[str, PassedOver], ...]:
        """Return the accounts that were passed over with such ids, as `qualified_ids` does."""
        if passed_over is not self._passed_over[0]:
            named = tuple((self.qualified(passed.account.id), passed) for passed in passed_over)
            self._passed_over = passed_over, named
        return self._passed_over[1]

    def local(self, qualified_id: str | None) -> str | None:
        """Return the account's id in this instance, None if it is another's."""
        if qualified_id is None:
            return None
        if self.is_first:
            return None if "/" in qualified_id else qualified_id
        if not qualified_id.startswith(self._prefix):
            return None
        local_id = qualified_id.removeprefix(self._prefix)
        return None if "/" in local_id else local_id

    def local_ids(self, qualified_ids: Iterable[str]) -> frozenset[str]:
        """Return those of the accounts that are of this instance, by their ids here."""
        return frozenset(i for q in qualified_ids if (i := self.local(q)) is not None)

    def has(self, qualified_id: str | None) -> bool:
        """Tell whether an account of that id is stored here."""
        return self.local(qualified_id) in self.lender.census.ids


def plans_at(instances: Iterable[Instance]) -> frozenset[str | None]:
    """Return the plan of each account there; among them None, where one's is not known."""
    return frozenset[str | None]().union(*[i.lender.census.plans for i in instances])


@attrs.define(eq=False)
class Instances:
    """All instances of the family, the first one first."""

    members: tuple[Instance, ...]
    #: What each has saved up towards its next turn: the smooth form of weighted round-robin.
    _credit: dict[str, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        lines = [instance.lender.queue for instance in self.members]
        for line in lines:
            line.neighbours = [other for other in lines if other is not line]

    @property
    def binds(self) -> bool:
        """Whether sessions are bound to accounts, at one of them at least."""
        return True in [instance.lender.binds for instance in self.members]

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Give the instances, by name, other shares of the turns."""
        if weights != {instance.name: instance.weight for instance in self.members}:
            # What was saved up by the old weights would serve an instance that has none any more.
            self._credit.clear()
        for instance in self.members:
            instance.weight = weights[instance.name]

    def route(
        self,
        wanted: str | None = None,
        *,
        claim: str | None = None,
        session: str | None = None,
        opens: bool = True,
    ) -> tuple[Instance, ...]:
        """Return the instances that a turn is offered, in that order.

        Args:
            wanted: the instance that the model's name asks for; the family, or None, for any.
            claim: the account that made what the request holds, or began its user turn, or has a
                WebSocket for it.
            session: the session, which an instance's strategy may have bound.
            opens: the request begins a user turn, so that a bound session may return.

        Raises:
            RequestError: there is no instance of that name.
        """
        if len(self.members) == 1:
            if wanted is None or wanted in (FAMILY, self.members[0].name, _FIRST):
                return self.members
            raise self._unknown(wanted)
        if wanted is not None and wanted != FAMILY:
            return (self._named(wanted),)
        first = self._owner(claim, session, opens=opens) or self._next()
        # With weight 0 an instance is not for turns that do not ask for it, not even as a last one.
        others = (i for i in self.members if i is not first and i.weight)
        return (first, *others)

    def serving(self, wanted: str | None) -> tuple[Instance, ...]:
        """Return the instances that a model's name may mean, in no order; none if it means none."""
        if wanted is None or wanted == FAMILY:
            return tuple([i for i in self.members if i.weight]) or self.members[:1]
        return tuple(
            i for i in self.members if wanted == i.name or (i.is_first and wanted == _FIRST)
        )

    def must_have(self, wanted: str | None) -> None:
        """Make sure that a model's name means an instance.

        Raises:
            RequestError: there is none of that name.
        """
        if not self.serving(wanted):
            raise self._unknown(wanted or FAMILY)

    @property
    def plans(self) -> frozenset[str | None]:
        """The plan of each account; among them None, where one's is not known."""
        if len(self.members) == 1:
            return self.members[0].lender.census.plans
        return plans_at(self.members)

    @property
    def possible_plans(self) -> frozenset[str]:
        """The plans that one of the accounts may have."""
        return frozenset[str]().union(*[i.lender.census.possible_plans for i in self.members])

    def accounts(self) -> tuple[tuple[Instance, Account], ...]:
        """Return all accounts, as they stand."""
        return tuple((i, account) for i in self.members for account in i.lender.accounts())

    def _named(self, wanted: str) -> Instance:
        for instance in self.members:
            if wanted == instance.name or (wanted, instance.name) == (_FIRST, FAMILY):
                return instance
        raise self._unknown(wanted)

    def _owner(self, claim: str | None, session: str | None, *, opens: bool) -> Instance | None:
        """Return the instance whose account has a claim on the turn, or that is bound to it."""
        # Neither makes an instance serve that is only for turns that ask for it by name.
        members = [i for i in self.members if i.weight]
        claiming = next((i for i in members if claim is not None and i.has(claim)), None)
        bound = None
        if session is not None and (opens or claiming is None):
            bound = next((i for i in members if i.lender.bound(session) is not None), None)
        return bound or claiming

    def _next(self) -> Instance:
        """Return whose turn it is: over any run of turns the counts stay close to the weights."""
        total = sum(instance.weight for instance in self.members)
        if not total:
            return self.members[0]
        for instance in self.members:
            self._credit[instance.name] = self._credit.get(instance.name, 0) + instance.weight
        chosen = max(self.members, key=lambda instance: self._credit[instance.name])
        self._credit[chosen.name] -= total
        return chosen

    def _unknown(self, wanted: str) -> RequestError:
        names = ", ".join(instance.name for instance in self.members)
        return RequestError(
            message=f"no backend is called {wanted!r}; configured: {names}",
            param="model",
            code="backend_not_found",
        )
