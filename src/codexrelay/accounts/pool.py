"""Which account takes a turn, decided at once from all that is known of all accounts.

Nothing here waits, reads a clock or touches a file: each call sees the whole state and leaves a
whole state behind. Refreshing, reading and storing happen around it, in `lender`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import attrs

from codexrelay.accounts.account import Account, Status
from codexrelay.accounts.standing import (
    EFFECTS,
    PROBE_EVERY_S,
    Effect,
    PassedOver,
    Saving,
    SetAside,
    Standing,
    Why,
    plan_of,
    plans_of,
)
from codexrelay.accounts.strategies.strategy import Candidates, Selector
from codexrelay.protocol import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from codexrelay.accounts.strategies.strategy import StrategySettings
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.limits import Limits


class By(enum.Enum):
    """What decided which of the eligible accounts it is."""

    STRATEGY = "strategy"
    #: The strategy, which has bound the session to it.
    BINDING = "binding"
    #: It made what the request holds, or began this user turn.
    CLAIM = "claim"
    #: The turn asks the same account again.
    AGAIN = "again"
    #: No turn, but a question of the relay's own.
    ASIDE = "aside"


@attrs.frozen(kw_only=True)
class Ask:
    """What one attempt wants of the pool."""

    #: The model's name on the wire; None where it does not matter.
    model: str | None = None
    #: The plans that offer it; None: not known; none: it is in no catalogue.
    plans: frozenset[str] | None = None
    #: Names the session, for strategies that bind it.
    session: str | None = None
    #: Ids that this turn must not be given.
    rejected: frozenset[str] = frozenset()
    #: The id to choose if it can be chosen: the turn was on it.
    again: str | None = None
    #: The id that made what the request holds, or began its user turn, or has a WebSocket for it.
    claim: str | None = None
    #: The request begins a user turn: a session that had to leave its account may return.
    opens: bool = False
    #: A question of the relay's own: it leaves the strategy's order and bindings as they are, and
    #: what goes wrong with it is not held against the account.
    aside: bool = False
    #: Of such a question: the owner waits for the answer, so a token that is refused is renewed.
    insists: bool = False
    #: Of such a question: ids to choose only when there is no other, the first of them first.
    avoid: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Choice:
    """The chosen account, or None, and every account that could not be chosen."""

    account: Account | None
    by: By = By.STRATEGY
    #: The account that the session is bound to from now on, if it is to one.
    bound: str | None = None
    #: The ids among which it was chosen, and who was not among them.
    candidates: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


@attrs.frozen(eq=False)
class Place:
    """The place that one attempt has taken in the pool, until it is given back."""

    account_id: str
    #: As it was when the place was taken: its file may be gone since, or another one.
    standing: Standing = attrs.field(repr=False)
    #: It finds out whether the account's quota is back.
    probes: bool
    #: Questions of the relay's own are not counted.
    counts: bool


@attrs.frozen(kw_only=True)
class Learnt:
    """What is to be stored of one account: in what it differs from what is stored."""

    account: Account
    before: Account


@runtime_checkable
class Adaptable(Protocol):
    """A selector that can go by other settings without forgetting what it remembers."""

    def adapt(self, settings: StrategySettings) -> None:
        """Go by `settings` from now on."""


@runtime_checkable
class Restorable(Protocol):
    """A selector that binds sessions, and can be told of bindings from before a restart."""

    def restore(self, session: str, account_id: str, *, now_s: float) -> None:
        """Bind a session to an account, unless it is bound by now."""


@attrs.frozen(eq=False)
class Census:
    """All accounts, whether they can take a turn or not: one value until something of one changes.

    So what is asked of all of them for each turn is found out once.
    """

    #: In order, as a request needs them: see `Standing.bearer`.
    accounts: tuple[Account, ...]

    @cached_property
    def ids(self) -> frozenset[str]:
        """Their ids."""
        return frozenset(account.id for account in self.accounts)

    @cached_property
    def plans(self) -> frozenset[str | None]:
        """The plan of each of them; among them None, where one's is not known."""
        return frozenset(plan_of(account) for account in self.accounts)

    @cached_property
    def possible_plans(self) -> frozenset[str]:
        """The plans that one of them may have; see `plans_of`."""
        return frozenset(plan for account in self.accounts for plan in plans_of(account))

    @cached_property
    def sign_ins(self) -> tuple[tuple[str, str, str | None], ...]:
        """What differs when somebody has signed in, or tokens are other ones."""
        return tuple(
            (account.id, account.credentials.access_token, account.needs_reauth)
            for account in self.accounts
        )


@attrs.frozen(kw_only=True)
class _Survey:
    """Which accounts can take a turn of some kind, and which cannot."""

    #: The ids of those that can, in order.
    usable: tuple[str, ...]
    eligible: frozenset[str]
    passed_over: tuple[PassedOver, ...]
    #: Ids of those that do not come back by themselves.
    lost: frozenset[str]
    #: In between the answer is the same, if nothing changes.
    since_unix_s: float
    until_unix_s: float


#: Kinds of turns for which a survey is kept. Clients may ask for any model, so it is bounded.
_MOST_SURVEYS: Final = 64


@attrs.define(eq=False)
class Pool:
    """All accounts, in byte order of their ids, and who is next.

    Who can take a turn is found out by a look at each account, once for each kind of turn until
    something changes or a time has passed: a choice costs the same however many there are. Only
    where `max_concurrent_turns` is reached and left by each turn is the look due for each.
    """

    _selector: Selector
    #: Most turns that one account serves at a time; None: any number.
    max_concurrent_turns: int | None = attrs.field(default=None, kw_only=True)
    #: How long the end of a cool-down is taken on trust, seconds; 0: for ever.
    probe_every_s: float = attrs.field(default=PROBE_EVERY_S, kw_only=True)
    _standings: dict[str, Standing] = attrs.field(factory=dict, init=False)
    #: Of accounts whose file is gone, while turns still use them: it may come back.
    _gone: dict[str, Standing] = attrs.field(factory=dict, init=False)
    _order: tuple[str, ...] = attrs.field(default=(), init=False)
    #: By model and plans.
    _surveys: dict[tuple[str | None, frozenset[str] | None], _Survey] = attrs.field(
        factory=dict, init=False
    )
    #: None: something has changed since the last one.
    _census: Census | None = attrs.field(default=None, init=False)
    #: Places that are taken and count as turns.
    _leases: int = attrs.field(default=0, init=False)
    #: How soon `take_unsaved` should be called.
    saving: Saving = attrs.field(default=Saving.NO, init=False)
    #: Whether the strategy binds sessions to accounts.
    binds: bool = attrs.field(init=False)

    #: Forgets what was found out about all accounts: one of them changes.
    _changed: Callable[[], None] = attrs.field(init=False)

    @_changed.default
    def _forgetting(self) -> Callable[[], None]:
        # No method: who keeps it, each standing, is a value that can be copied.
        def changed() -> None:
            self._surveys.clear()
            self._census = None

        return changed

    @binds.default
    def _does_bind(self) -> bool:
        return isinstance(self._selector, Restorable)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts as they stand, in order."""
        return tuple(standing.account for standing in self._standings.values())

    @property
    def census(self) -> Census:
        """What the accounts are, without a look at each of them as long as they are the same."""
        if self._census is None:
            self._census = Census(tuple(s.bearer for s in self._standings.values()))
        return self._census

    # What comes from the files.

    def update(self, accounts: Iterable[Account], *, now_unix_s: float) -> None:
        """Replace the accounts by what was read from their files; what is known of them stays.

        `now_unix_s` is since when an account counts as limited whose file does not say it.
        """
        before, self._standings = self._gone | self._standings, {}
        for account in sorted(accounts, key=lambda account: account.id.encode()):
            standing = before.get(account.id)
            if standing is None:
                standing = Standing.of(
                    account,
                    probe_every_s=self.probe_every_s,
                    now_unix_s=now_unix_s,
                    changed=self._changed,
                )
            else:
                standing.reread(account, now_unix_s=now_unix_s)
            self._standings[account.id] = standing
        self._gone = {
            account_id: standing
            for account_id, standing in before.items()
            if account_id not in self._standings and standing.places
        }
        self._order = tuple(self._standings)
        self._changed()
        self.saving = max((s.saving for s in self._standings.values()), default=Saving.NO)

    def replace(self, account: Account, *, now_unix_s: float) -> Account | None:
        """Take over one account as it is stored; return it as it stands, None if it is gone."""
        standing = self._standings.get(account.id)
        if standing is None:
            return None
        standing.reread(account, now_unix_s=now_unix_s)
        self._note(standing)
        return standing.account

    # What the configuration says.

    def change(
        self,
        *,
        max_concurrent_turns: int | None,
        probe_every_s: float,
        selector: Selector | None = None,
    ) -> None:
        """Go by other settings from now on; without `selector` the present one goes on.

        Who has a place keeps it, also where more turns are running now than may be.
        """
        self.max_concurrent_turns, self.probe_every_s = max_concurrent_turns, probe_every_s
        for standing in (*self._standings.values(), *self._gone.values()):
            standing.probe_every_s = probe_every_s
        if selector is not None:
            self._selector, self.binds = selector, isinstance(selector, Restorable)
        self._surveys.clear()

    def adapt(self, settings: StrategySettings) -> bool:
        """Let the strategy go by other settings; False if it can only begin anew with them."""
        if isinstance(self._selector, Adaptable):
            self._selector.adapt(settings)
            return True
        return False

    # Choosing.

    def choose(self, ask: Ask, *, now_unix_s: float) -> Choice:
        """Choose the account for one attempt. Whoever uses it takes a place with `take`."""
        survey = self._survey(ask, now_unix_s=now_unix_s)
        if not survey.usable:
            return Choice(account=None, passed_over=survey.passed_over)
        bound = None
        if self.binds and ask.session is not None:
            bound = self.bound(ask.session, now_unix_s=now_unix_s)
        chosen, by = self._choose(survey, ask, bound, now_unix_s=now_unix_s)
        if self.binds and ask.session is not None:
            bound = self.bound(ask.session, now_unix_s=now_unix_s)
        return Choice(
            account=self._standings[chosen].bearer,
            by=by,
            bound=bound,
            candidates=survey.usable,
            passed_over=survey.passed_over,
        )

    def can_take(self, ask: Ask, *, now_unix_s: float) -> bool:
        """Tell whether there is an account for an attempt, without choosing one."""
        return bool(self._survey(ask, now_unix_s=now_unix_s).usable)

    def _survey(self, ask: Ask, *, now_unix_s: float) -> _Survey:
        """Return which accounts can take the turn, from a look at each where that is due."""
        if ask.rejected or ask.again is not None or ask.aside:
            return self._look_at_each(ask, now_unix_s=now_unix_s)
        kind = (ask.model, ask.plans)
        survey = self._surveys.get(kind)
        if survey is None or not survey.since_unix_s <= now_unix_s < survey.until_unix_s:
            survey = self._look_at_each(ask, now_unix_s=now_unix_s)
            if len(self._surveys) >= _MOST_SURVEYS:
                self._surveys.clear()
            self._surveys[kind] = survey
        return survey

    def _look_at_each(self, ask: Ask, *, now_unix_s: float) -> _Survey:
        passed_over: list[PassedOver] = []
        eligible: set[str] = set()
        lacking = self._lacking(ask, now_unix_s=now_unix_s)
        until_unix_s = math.inf
        for account_id, standing in self._standings.items():
            obstacle = self._obstacle(standing, ask, lacking, now_unix_s=now_unix_s)
            if obstacle is None:
                eligible.add(account_id)
            else:
                passed_over.append(obstacle)
            holds = standing.holds_until_unix_s(now_unix_s=now_unix_s, model=ask.model)
            until_unix_s = min(until_unix_s, holds)
        passed_over += self._leave_probes_alone(eligible, ask)
        return _Survey(
            usable=tuple(name for name in self._order if name in eligible),
            eligible=frozenset(eligible),
            passed_over=tuple(passed_over),
            lost=frozenset(n for n, s in self._standings.items() if _is_lost(s, now_unix_s)),
            since_unix_s=now_unix_s,
            until_unix_s=until_unix_s,
        )

    def take(self, choice: Choice, ask: Ask) -> Place:
        """Take a place on the chosen account; to be given back, whatever happens."""
        assert choice.account is not None
        standing = self._standings[choice.account.id]
        counts = not ask.aside
        place = Place(
            choice.account.id,
            standing=standing,
            probes=counts and standing.is_unproved,
            counts=counts,
        )
        if counts:
            standing.leases += 1
            self._leases += 1
            if standing.leases == self.max_concurrent_turns:
                self._surveys.clear()  # it has become busy
        if place.probes:
            standing.probes += 1
        return place

    def at_hand(self, account: Account, ask: Ask, *, now_unix_s: float) -> Account | None:
        """Return an account on which a place is held, as it stands; None if it cannot be used."""
        standing = self._standings.get(account.id)
        if standing is None:
            return None
        obstacle = standing.obstacle(now_unix_s=now_unix_s, model=ask.model, plans=ask.plans)
        return standing.account if obstacle is None else None

    def give_back(self, place: Place) -> None:
        """End the use of an account; to be called once for each place."""
        standing = place.standing
        if place.counts:
            if standing.leases == self.max_concurrent_turns:
                self._surveys.clear()  # it is busy no more
            standing.leases -= 1
            self._leases -= 1
        if place.probes:
            standing.probes -= 1

    @property
    def is_in_use(self) -> bool:
        """Whether any turn uses an account, be it one whose file is gone."""
        return self._leases > 0

    def bound(self, session: str, *, now_unix_s: float) -> str | None:
        """Return the account that a session is bound to, None if it is to none."""
        return self._selector.bound(session, now_s=now_unix_s)

    def restore(self, session: str, account_id: str, *, now_unix_s: float) -> None:
        """Bind a session as it was bound before a restart, if its strategy binds any.

        One that is bound by now stays so, and one whose account is gone is bound anew by its turn.
        """
        if isinstance(self._selector, Restorable) and account_id in self._standings:
            self._selector.restore(session, account_id, now_s=now_unix_s)

    def _lacking(self, ask: Ask, *, now_unix_s: float) -> frozenset[str]:
        """Return the plans that the model is refused to, of a model that is in no catalogue.

        There one account speaks for its plan. Where the catalogue offers the model to the plan, or
        does not say, the refusal may be that one account's own.
        """
        if ask.model is None or ask.plans is None or ask.plans:
            return frozenset()
        plans = (
            plan_of(standing.bearer)
            for standing in self._standings.values()
            if standing.lacks(ask.model, now_unix_s=now_unix_s)
        )
        return frozenset(plan for plan in plans if plan is not None)

    def _obstacle(
        self,
        standing: Standing,
        ask: Ask,
        lacking: frozenset[str] = frozenset(),
        *,
        now_unix_s: float,
    ) -> PassedOver | None:
        account, cap = standing.bearer, self.max_concurrent_turns
        obstacle = standing.obstacle(
            now_unix_s=now_unix_s, model=ask.model, plans=ask.plans, lacking=lacking
        )
        if obstacle is not None:
            return obstacle
        if account.id in ask.rejected:
            return PassedOver(account=account, why=Why.RULED_OUT)
        if cap is not None and standing.leases >= cap and not ask.aside:
            return PassedOver(account=account, why=Why.BUSY)
        return None

    def _leave_probes_alone(self, eligible: set[str], ask: Ask) -> list[PassedOver]:
        """Take the accounts out whose quota is being found out about, if there are others.

        Their reset has come, so nothing but caution speaks against them: where there is no other
        account, or the turn belongs to this one, it is used.
        """
        probed = {name for name in eligible if self._standings[name].is_probed} - {ask.again}
        if probed == eligible:
            return []
        eligible -= probed
        return [
            PassedOver(account=self._standings[name].account, why=Why.PROBED)
            for name in sorted(probed, key=str.encode)
        ]

    def _choose(
        self, survey: _Survey, ask: Ask, bound: str | None, *, now_unix_s: float
    ) -> tuple[str, By]:
        """Return the id of one that can be chosen; `bound` is the one of its session, if any."""
        eligible = survey.eligible
        if ask.again is not None and ask.again in eligible:
            return ask.again, By.AGAIN
        if ask.aside:
            rank = {name: place for place, name in enumerate(ask.avoid)}
            return min(survey.usable, key=lambda name: rank.get(name, -1)), By.ASIDE
        # A session that had to leave its account returns to it, and to its cache, with the next
        # user turn: in mid-turn the turn state and the reasoning would be lost for nothing.
        returns = ask.opens and bound in eligible
        claims = ask.claim in eligible and ask.claim != bound and not returns
        if ask.claim is not None and claims:
            if ask.session is not None:
                self._selector.used(ask.session, now_s=now_unix_s)
            return ask.claim, By.CLAIM
        chosen = self._selector.choose(
            Candidates(
                order=self._order,
                eligible=eligible,
                lost=survey.lost,
                session=ask.session,
                now_s=now_unix_s,
                usable=survey.usable,
            )
        )
        return chosen, By.BINDING if chosen == bound else By.STRATEGY

    # Learning.

    def accept(
        self,
        account: Account,
        *,
        leased_at_unix_s: float,
        now_unix_s: float,
        aside: bool = False,
    ) -> None:
        """Note that the backend has begun to serve a turn on `account`.

        `account` is the one that was used. What is heard of a token that has been replaced since
        says nothing of the present one. A question of the relay's own (`aside`) proves that the
        token is good, but spends no quota and so says nothing of it.
        """
        standing = self._standings.get(account.id)
        if standing is None:
            return  # its file was removed meanwhile
        if _is_present(account, standing):
            standing.accept_token()
        if not aside and account.workspace_id == standing.bearer.workspace_id:
            standing.accept(leased_at_unix_s=leased_at_unix_s, now_unix_s=now_unix_s)
        self._note(standing)

    def report(
        self,
        account: Account,
        fault: Fault,
        *,
        model: str | None = None,
        leased_at_unix_s: float,
        now_unix_s: float,
    ) -> SetAside | None:
        """Note what an attempt on `account` has met. For `account` see `accept`.

        Returns for how long the account is set aside, if that is what this report has led to.
        """
        standing = self._standings.get(account.id)
        if standing is None:
            return None  # its file was removed meanwhile
        before = standing.set_aside
        if _is_present(account, standing) or EFFECTS[fault.kind] is not Effect.REJECT_TOKEN:
            standing.suffer(
                fault, model=model, leased_at_unix_s=leased_at_unix_s, now_unix_s=now_unix_s
            )
        if (seen := limits.from_headers(fault.headers, now_unix_s=now_unix_s)) is not None:
            standing.observe(seen)
        self._note(standing)
        return standing.set_aside if standing.set_aside is not before else None

    def observe(self, account: Account, seen: Limits) -> None:
        """Note what the backend says of the account's quota."""
        if (standing := self._standings.get(account.id)) is not None:
            standing.observe(seen)
            self._note(standing)

    def hear(
        self, account: Account, headers: Mapping[str, str], *, now_unix_s: float
    ) -> Limits | None:
        """Note what the headers of an answer say of the account's quota, and return it."""
        standing = self._standings.get(account.id)
        if standing is None:
            return limits.from_headers(headers, now_unix_s=now_unix_s)
        seen = standing.reader.read(headers, now_unix_s=now_unix_s)
        if seen is not None:
            standing.observe(seen)
            self._note(standing)
        return seen

    def _note(self, standing: Standing) -> None:
        """Note how soon what was learnt of one of the accounts must be stored."""
        if standing.saving > self.saving:
            self.saving = standing.saving

    # Telling.

    def state_of(self, account: Account, *, now_unix_s: float) -> str:
        """Return the word for how `account` stands: its status, or `set_aside`."""
        standing = self._standings.get(account.id)
        obstacle = standing.obstacle(now_unix_s=now_unix_s) if standing is not None else None
        word: str = account.status(now_unix_s=now_unix_s).value
        if obstacle is not None and obstacle.why is Why.SET_ASIDE:
            word = obstacle.why.value
        return word

    def obstacle_of(self, account: Account, *, now_unix_s: float) -> PassedOver | None:
        """Return what keeps `account` from taking a turn now, whatever the turn asks for."""
        standing = self._standings.get(account.id)
        return None if standing is None else self._obstacle(standing, Ask(), now_unix_s=now_unix_s)

    def leases_of(self, account: Account) -> int:
        """Return how many turns use the account now."""
        standing = self._standings.get(account.id)
        return 0 if standing is None else standing.leases

    def is_rejected(self, account: Account) -> bool:
        """Tell whether the backend has rejected the access token of `account`."""
        standing = self._standings.get(account.id)
        return standing is not None and standing.rejected_token == account.credentials.access_token

    def take_unsaved(self) -> tuple[Learnt, ...]:
        """Return what was learnt since the last call, to be stored."""
        self.saving = Saving.NO
        return tuple(
            Learnt(account=standing.account, before=standing.take_unsaved())
            for standing in self._standings.values()
            if standing.saving is not Saving.NO
        )

    def note_saved(self, learnt: Learnt) -> None:
        """Note that this was stored."""
        if (standing := self._standings.get(learnt.account.id)) is not None:
            standing.note_saved(learnt.account)


def _is_present(account: Account, standing: Standing) -> bool:
    return account.credentials.access_token == standing.bearer.credentials.access_token


def _is_lost(standing: Standing, now_unix_s: float) -> bool:
    return standing.bearer.status(now_unix_s=now_unix_s) is Status.NEEDS_REAUTH
