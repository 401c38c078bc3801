from __future__ import annotations

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from codexrelay.accounts.account import Account, Status
from codexrelay.accounts.pool import (
    EFFECTS,
    FIRST_REFUSAL_S,
    LONGEST_REFUSAL_S,
    MAX_REJECTED_TOKENS,
    NO_CODEX_S,
    NO_REFRESH_TOKEN_REASON,
    Effect,
    Pool,
    Why,
    refusal_s,
)
from codexrelay.accounts.strategies.round_robin import RoundRobin
from codexrelay.protocol.faults import DEFAULT_COOL_DOWN_S, Fault, FaultKind
from codexrelay.protocol.openai_errors import error_object
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW


def a_fault(
    kind: FaultKind, *, resets_at_unix_s: float | None = None, code: str | None = None
) -> Fault:
    return Fault(
        kind=kind,
        status=400,
        error=error_object("words", type="some_type", code=code),
        resets_at_unix_s=resets_at_unix_s,
    )


def pool_of(*accounts: Account) -> Pool:
    pool = Pool(RoundRobin())
    pool.update(accounts)
    return pool


def chosen(pool: Pool, *, now: float = NOW, **more: object) -> str | None:
    choice = pool.choose(now_unix_s=now, **more)  # type: ignore[arg-type] - passed on as given
    return None if choice.account is None else choice.account.id


def report(pool: Pool, account_id: str, fault: Fault | None, *, now: float = NOW) -> Account:
    """Report on the account as it stands; return it as it stood."""
    account = next(account for account in pool.accounts if account.id == account_id)
    pool.report(account, fault, now_unix_s=now)
    return account


LIMITED = a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + 900)
UNAUTHORIZED = a_fault(FaultKind.UNAUTHORIZED)


def test_every_kind_of_fault_has_an_effect() -> None:
    assert set(EFFECTS) == set(FaultKind)


def test_accounts_take_turns_in_the_byte_order_of_their_ids() -> None:
    pool = pool_of(*(an_account(name) for name in ("b", "a", "B", "a-1")))
    assert [chosen(pool) for _ in range(5)] == ["B", "a", "a-1", "b", "B"]


def test_nine_turns_over_three_accounts_are_three_each() -> None:
    pool = pool_of(an_account("a"), an_account("b"), an_account("c"))
    assert "".join(str(chosen(pool)) for _ in range(9)) == "abcabcabc"


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if EFFECTS[kind] is Effect.NONE])
def test_a_fault_that_is_not_the_accounts_changes_nothing(kind: FaultKind) -> None:
    pool = pool_of(an_account())
    before = report(pool, "work", a_fault(kind))
    assert pool.accounts == (before,)
    assert chosen(pool) == "work"
    assert not pool.has_unsaved


def test_a_usage_limit_cools_only_the_account_it_was_met_on_until_its_reset() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    report(pool, "a", LIMITED)
    assert [chosen(pool) for _ in range(3)] == ["b", "b", "b"]
    assert chosen(pool, now=NOW + 899) == "b"
    assert chosen(pool, now=NOW + 900) == "a"


@pytest.mark.parametrize("resets_at", [None, NOW, NOW - 1])
def test_a_limit_without_a_reset_to_come_cools_for_the_default(resets_at: float | None) -> None:
    pool = pool_of(an_account())
    report(pool, "work", a_fault(FaultKind.LIMITED, resets_at_unix_s=resets_at))
    assert chosen(pool, now=NOW + DEFAULT_COOL_DOWN_S - 1) is None
    assert chosen(pool, now=NOW + DEFAULT_COOL_DOWN_S) == "work"


def test_of_two_resets_for_one_limit_the_later_counts() -> None:
    pool = pool_of(an_account())
    account = report(pool, "work", LIMITED)
    pool.report(account, a_fault(FaultKind.LIMITED), now_unix_s=NOW)
    assert pool.accounts[0].rate_limited_until_unix_s == NOW + 900


def test_a_choice_of_nobody_tells_why_for_each_account() -> None:
    pool = pool_of(
        an_account("cooling", limited_until_unix_s=NOW + 60),
        an_account("dead", needs_reauth="refresh_token_reused"),
        an_account("no-codex"),
        an_account("tried"),
        an_account("unrenewable", refresh_token=None, expires_at_unix_s=NOW),
    )
    report(pool, "no-codex", a_fault(FaultKind.UNUSABLE, code="usage_not_included"))
    choice = pool.choose(now_unix_s=NOW, rejected=frozenset({"tried", "cooling"}))
    assert choice.account is None
    assert [(p.account.id, p.why, p.reason, p.until_unix_s) for p in choice.passed_over] == [
        ("cooling", Why.COOLING, None, NOW + 60),
        ("dead", Why.NEEDS_REAUTH, "refresh_token_reused", None),
        ("no-codex", Why.SET_ASIDE, "400 usage_not_included", NOW + NO_CODEX_S),
        ("tried", Why.RULED_OUT, None, None),
        ("unrenewable", Why.NEEDS_REAUTH, NO_REFRESH_TOKEN_REASON, None),
    ]


def test_an_account_without_codex_is_tried_again_after_an_hour_or_with_another_plan() -> None:
    pool = pool_of(an_account(plan_type="free"))
    report(pool, "work", a_fault(FaultKind.UNUSABLE))
    assert chosen(pool, now=NOW + NO_CODEX_S - 1) is None
    assert chosen(pool, now=NOW + NO_CODEX_S) == "work"
    pool.update([an_account(plan_type="plus")])
    assert chosen(pool) == "work"


def test_an_expired_account_is_chosen_because_using_it_refreshes_it() -> None:
    pool = pool_of(an_account(expires_at_unix_s=NOW - 1))
    assert chosen(pool) == "work"


def test_a_preferred_account_is_chosen_and_the_order_goes_on_as_if_it_had_not_been() -> None:
    pool = pool_of(an_account("a"), an_account("b"), an_account("c"))
    assert chosen(pool) == "a"
    assert chosen(pool, prefer="a") == "a"
    assert chosen(pool, prefer="c") == "c"
    assert chosen(pool) == "b"


@pytest.mark.parametrize("prefer", ["a", "gone"])
def test_a_preferred_account_that_cannot_be_used_falls_through(prefer: str) -> None:
    pool = pool_of(an_account("a", needs_reauth="x"), an_account("b"))
    assert chosen(pool, prefer=prefer) == "b"


def test_a_401_rejects_that_exact_access_token() -> None:
    pool = pool_of(an_account(token="access-1"))
    old = report(pool, "work", UNAUTHORIZED)
    assert pool.is_rejected(old)
    assert chosen(pool) == "work"  # a refresh comes first
    new = an_account(token="access-2", refresh_token="refresh-2")
    pool.replace(new)
    assert not pool.is_rejected(new)


def test_a_late_401_for_a_token_that_was_replaced_does_not_blame_the_new_one() -> None:
    old = an_account(token="access-1")
    pool = pool_of(old)
    new = an_account(token="access-2", refresh_token="refresh-2")
    pool.replace(new)
    pool.report(old, UNAUTHORIZED, now_unix_s=NOW)
    assert not pool.is_rejected(new)


def reject_tokens(pool: Pool, count: int, *, now: float = NOW) -> None:
    """Let the backend reject the present token and `count - 1` that are refreshed after it."""
    for serial in range(count):
        if serial:
            refresh(pool)
        account = report(pool, "work", UNAUTHORIZED, now=now)
        pool.report(account, UNAUTHORIZED, now_unix_s=now)  # another turn with the same token


def refresh(pool: Pool) -> None:
    """Give the account another pair, as a refresh does."""
    serial = int(pool.accounts[0].credentials.access_token.removeprefix("access-")) + 1
    pool.replace(an_account(token=f"access-{serial}", refresh_token=f"refresh-{serial}"))


def test_an_account_whose_fresh_tokens_are_all_rejected_is_set_aside_and_tried_again() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS - 1)
    assert chosen(pool) == "work"
    refresh(pool)
    reject_tokens(pool, 1)
    assert chosen(pool, now=NOW + FIRST_REFUSAL_S - 1) is None
    assert chosen(pool, now=NOW + FIRST_REFUSAL_S) == "work"


def test_refused_tokens_leave_nothing_to_be_stored() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS)
    assert not pool.has_unsaved
    assert pool.accounts[0].needs_reauth is None


def test_an_account_is_set_aside_for_twice_as_long_each_time_until_a_token_is_accepted() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, 1)
    now, waits = NOW, []
    for _ in range(7):
        refresh(pool)
        account = report(pool, "work", UNAUTHORIZED, now=now)
        while chosen(pool, now=now) is not None:
            refresh(pool)
            account = report(pool, "work", UNAUTHORIZED, now=now)
        (passed,) = pool.choose(now_unix_s=now).passed_over
        assert passed.until_unix_s is not None
        waits.append(passed.until_unix_s - now)
        now = passed.until_unix_s
        assert not pool.is_rejected(account)  # sent as it is first
        pool.report(account, UNAUTHORIZED, now_unix_s=now)
        assert chosen(pool, now=now) == "work"  # and a fresh one after it
    assert waits == [60, 120, 240, 480, 900, 900, 900]
    report(pool, "work", None, now=now)
    reject_tokens(pool, MAX_REJECTED_TOKENS, now=now)
    assert chosen(pool, now=now + FIRST_REFUSAL_S) == "work"


def test_the_time_aside_grows_to_a_quarter_of_an_hour() -> None:
    assert [refusal_s(times) for times in (1, 2, 1_000_000)] == [60, 120, LONGEST_REFUSAL_S]


def test_late_401s_do_not_prolong_the_time_aside() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS)
    for _ in range(5):
        report(pool, "work", UNAUTHORIZED, now=NOW + 30)
    assert chosen(pool, now=NOW + FIRST_REFUSAL_S) == "work"
    assert not pool.is_rejected(pool.accounts[0])


def test_an_account_that_cannot_be_refreshed_is_set_aside_by_its_first_401() -> None:
    pool = pool_of(an_account(refresh_token=None))
    report(pool, "work", UNAUTHORIZED)
    assert chosen(pool) is None
    assert chosen(pool, now=NOW + FIRST_REFUSAL_S) == "work"
    report(pool, "work", UNAUTHORIZED, now=NOW + FIRST_REFUSAL_S)
    assert chosen(pool, now=NOW + 3 * FIRST_REFUSAL_S - 1) is None


def test_a_turn_that_is_served_ends_the_time_aside_that_a_401_began() -> None:
    pool = pool_of(an_account(refresh_token=None))
    report(pool, "work", UNAUTHORIZED)
    report(pool, "work", None)
    assert chosen(pool) == "work"


def test_who_is_set_aside_is_told_once_with_what_the_backend_said() -> None:
    pool = pool_of(an_account())
    refused = a_fault(FaultKind.UNAUTHORIZED, code="token_expired")
    told = []
    for _ in range(MAX_REJECTED_TOKENS):
        refresh(pool)
        account = pool.accounts[0]
        told += [pool.report(account, refused, now_unix_s=NOW) for _ in range(2)]
    (aside,) = [aside for aside in told if aside is not None]
    assert (aside.fault, aside.until_unix_s) == (refused, NOW + FIRST_REFUSAL_S)
    (passed,) = pool.choose(now_unix_s=NOW).passed_over
    assert (passed.why, passed.fault) == (Why.SET_ASIDE, refused)


def test_one_accepted_token_clears_the_rejected_ones_before_it() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS - 1)
    refresh(pool)
    report(pool, "work", None)
    reject_tokens(pool, MAX_REJECTED_TOKENS - 1)
    assert chosen(pool) == "work"


def test_new_tokens_in_the_file_of_a_refused_account_are_tried_at_once() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS)
    pool.update([an_account(token="access-new", refresh_token="refresh-new")])
    assert chosen(pool) == "work"
    assert not pool.is_rejected(pool.accounts[0])


def test_relays_over_one_store_do_not_refresh_in_turns_during_an_outage() -> None:
    pools, refreshes = [pool_of(an_account()), pool_of(an_account())], 0
    for pool in pools * 10:
        while chosen(pool) is not None:  # each asks until it has to wait
            if pool.is_rejected(pool.accounts[0]):
                refreshes += 1
                pair = an_account(token=f"access-r{refreshes}", refresh_token=f"r{refreshes}")
                for reader in pools:
                    reader.replace(pair)
            report(pool, "work", UNAUTHORIZED)
    assert [chosen(pool) for pool in pools] == [None, None]
    assert refreshes <= 2 * (MAX_REJECTED_TOKENS - 1)


def test_new_tokens_do_not_bring_back_an_account_without_codex() -> None:
    pool = pool_of(an_account())
    report(pool, "work", a_fault(FaultKind.UNUSABLE))
    refresh(pool)
    assert chosen(pool) is None


def test_an_account_that_was_marked_in_its_file_and_signed_in_again_is_usable() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS)
    marked = an_account(token="access-3", needs_reauth="refresh_token_reused")
    pool.update([marked])
    assert chosen(pool) is None
    pool.update([attrs.evolve(marked, needs_reauth=None)])
    assert chosen(pool) == "work"


def test_a_cool_down_that_is_not_on_disk_yet_stands_against_an_older_one() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    pool.update([an_account(limited_until_unix_s=NOW + 60)])
    assert pool.accounts[0].rate_limited_until_unix_s == NOW + 900


def test_a_cool_down_outlives_a_new_reading_of_the_files() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    pool.update([an_account(token="access-2", refresh_token="refresh-2")])
    assert chosen(pool) is None
    pool.take_unsaved()
    pool.update([an_account(token="access-2", refresh_token="refresh-2")])
    assert chosen(pool) is None


def test_a_cool_down_that_was_stored_and_then_cleared_by_hand_is_over() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    (marked,) = pool.take_unsaved()
    pool.update([marked])
    assert chosen(pool) is None
    pool.update([an_account()])
    assert chosen(pool) == "work"


def test_a_cool_down_that_another_process_stored_counts_here() -> None:
    pool = pool_of(an_account())
    pool.update([an_account(limited_until_unix_s=NOW + 60)])
    assert chosen(pool) is None
    assert chosen(pool, now=NOW + 60) == "work"


def test_what_was_learnt_is_handed_out_once_to_be_stored() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    report(pool, "b", LIMITED)
    assert pool.has_unsaved
    (unsaved,) = pool.take_unsaved()
    assert (unsaved.id, unsaved.rate_limited_until_unix_s) == ("b", NOW + 900)
    assert not pool.has_unsaved
    assert pool.take_unsaved() == ()


def test_a_removed_account_is_neither_chosen_nor_blamed() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    gone = pool.accounts[0]
    pool.update([an_account("b")])
    pool.report(gone, LIMITED, now_unix_s=NOW)
    assert pool.replace(gone) is None
    assert [chosen(pool) for _ in range(2)] == ["b", "b"]


class PoolMachine(RuleBasedStateMachine):
    """Turns, faults, refreshes, edits of files, and time, in any order."""

    names = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.serial = 0
        self.files: dict[str, Account] = {}
        self.pool = pool_of()
        self.used: list[Account] = []

    def fresh(self, name: str) -> Account:
        self.serial += 1
        return an_account(
            name, token=f"access-{self.serial}", refresh_token=f"refresh-{self.serial}"
        )

    @rule(name=st.sampled_from(names))
    def sign_in(self, name: str) -> None:
        self.files[name] = self.fresh(name)
        self.pool.update(self.files.values())
        assert next(a for a in self.pool.accounts if a.id == name).needs_reauth is None

    @rule(name=st.sampled_from(names))
    def remove(self, name: str) -> None:
        self.files.pop(name, None)
        self.pool.update(self.files.values())

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        new = self.fresh(name)
        self.files[name] = attrs.evolve(self.files[name], credentials=new.credentials)
        assert self.pool.replace(self.files[name]) is not None

    @precondition(lambda self: self.files)
    @rule(data=st.data(), reason=st.none() | st.just("refresh_token_reused"))
    def mark(self, data: st.DataObject, reason: str | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        self.files[name] = attrs.evolve(self.files[name], needs_reauth=reason)
        self.pool.update(self.files.values())

    @rule(rejected=st.frozensets(st.sampled_from(names)), prefer=st.none() | st.sampled_from(names))
    def lease(self, rejected: frozenset[str], prefer: str | None) -> None:
        choice = self.pool.choose(now_unix_s=self.now, rejected=rejected, prefer=prefer)
        passed_over = {passed.account.id for passed in choice.passed_over}
        if choice.account is None:
            assert passed_over == set(self.files)
            return
        assert choice.account.id not in passed_over | rejected
        assert choice.account.credentials == self.files[choice.account.id].credentials
        assert choice.account.status(now_unix_s=self.now) is Status.VALID
        if prefer is not None and prefer in self.files:
            assert choice.account.id == prefer or prefer in passed_over
        self.used.append(choice.account)

    @precondition(lambda self: self.used)
    @rule(
        data=st.data(),
        kind=st.none() | st.sampled_from(FaultKind),
        resets_in_s=st.none() | st.integers(-10, 1000),
    )
    def report(self, data: st.DataObject, kind: FaultKind | None, resets_in_s: int | None) -> None:
        account = self.used.pop(data.draw(st.integers(0, len(self.used) - 1)))
        resets_at = None if resets_in_s is None else self.now + resets_in_s
        fault = None if kind is None else a_fault(kind, resets_at_unix_s=resets_at)
        others = [a for a in self.pool.accounts if a.id != account.id]
        self.pool.report(account, fault, now_unix_s=self.now)
        assert [a for a in self.pool.accounts if a.id != account.id] == others
        if kind is FaultKind.LIMITED and account.id in self.files:
            choice = self.pool.choose(now_unix_s=self.now, prefer=account.id)
            assert choice.account is None or choice.account.id != account.id

    @rule()
    def save(self) -> None:
        for account in self.pool.take_unsaved():
            self.files[account.id] = account
        self.pool.update(self.files.values())

    @rule(seconds=st.integers(0, 2000))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def the_pool_holds_what_the_files_hold_in_order(self) -> None:
        assert [account.id for account in self.pool.accounts] == sorted(self.files)
        for account in self.pool.accounts:
            assert account.credentials == self.files[account.id].credentials


TestPoolMachine = PoolMachine.TestCase
