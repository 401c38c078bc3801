from __future__ import annotations

import contextlib
import copy
import random
from collections import Counter
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from codexrelay.accounts.account import Account, Status, UsageLimit
from codexrelay.accounts.pool import Ask, By, Choice, Place, Pool
from codexrelay.accounts.standing import (
    EFFECTS,
    FIRST_REFUSAL_S,
    MAX_REJECTED_TOKENS,
    NO_CODEX_S,
    NO_MODEL_S,
    NO_REFRESH_TOKEN_REASON,
    PROBE_EVERY_S,
    Effect,
    PassedOver,
    Saving,
    Standing,
    Why,
)
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.strategy import StrategySettings
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.limits import Limits, Window
from tests.fakes.faults import a_fault
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 24 * 3600.0


def pool_of(
    *accounts: Account,
    strategy: str = "round-robin",
    cap: int | None = None,
    probe_every_s: float = PROBE_EVERY_S,
) -> Pool:
    selector = find_strategies()[strategy].start(
        StrategySettings(
            session_affinity_ttl_s=DAY_S, session_affinity_max_entries=100, rng=random.Random(7)
        )
    )
    pool = Pool(selector, max_concurrent_turns=cap, probe_every_s=probe_every_s)
    pool.update(accounts, now_unix_s=NOW)
    return pool


def chosen(pool: Pool, *, now: float = NOW, **ask: object) -> str | None:
    choice = pool.choose(Ask(**ask), now_unix_s=now)  # type: ignore[arg-type] - passed on as given
    return None if choice.account is None else choice.account.id


def take(pool: Pool, *, now: float = NOW, **ask: object) -> Place:
    """Choose an account and take a place on it."""
    asked = Ask(**ask)  # type: ignore[arg-type] - passed on as given
    return pool.take(pool.choose(asked, now_unix_s=now), asked)


def whys(choice: Choice) -> dict[str, Why]:
    return {passed.account.id: passed.why for passed in choice.passed_over}


def named(pool: Pool, account_id: str) -> Account:
    return next(account for account in pool.accounts if account.id == account_id)


def report(
    pool: Pool,
    account_id: str,
    fault: Fault,
    *,
    model: str | None = None,
    leased_at: float = NOW,
    now: float = NOW,
) -> Account:
    """Report on the account as it stands; return it as it stood."""
    account = named(pool, account_id)
    pool.report(account, fault, model=model, leased_at_unix_s=leased_at, now_unix_s=now)
    return account


def accept(
    pool: Pool, account_id: str, *, leased_at: float = NOW, now: float = NOW, aside: bool = False
) -> None:
    account = named(pool, account_id)
    pool.accept(account, leased_at_unix_s=leased_at, now_unix_s=now, aside=aside)


LIMITED = a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + 900)
UNAUTHORIZED = a_fault(FaultKind.UNAUTHORIZED)


def test_accounts_take_turns_in_the_byte_order_of_their_ids() -> None:
    pool = pool_of(*(an_account(name) for name in ("b", "a", "B", "a-1")))
    assert [chosen(pool) for _ in range(5)] == ["B", "a", "a-1", "b", "B"]


def test_what_the_accounts_are_is_one_value_until_something_of_one_changes() -> None:
    plus, pro = an_account("a", plan_type="plus"), an_account("b", plan_type="pro")
    pool = pool_of(plus, pro)
    before = pool.census
    assert (before.ids, before.plans) == ({"a", "b"}, {"plus", "pro"})
    accept(pool, "a")
    pool.observe(named(pool, "a"), Limits(observed_unix_s=NOW, primary=Window(used_percent=7)))
    assert pool.census is before, "its latest use and figures decide nothing"
    pool.observe(named(pool, "a"), Limits(observed_unix_s=NOW + 1, plan_type="team"))
    told = pool.census
    assert (told.plans, told.possible_plans) == ({"team", "pro"}, {"team", "plus", "pro"})
    pool.update([plus, pro, an_account("c", plan_type=None)], now_unix_s=NOW)
    assert pool.census.plans == {"team", "pro", None}
    pool.update([pro], now_unix_s=NOW)
    assert (pool.census.ids, pool.census.possible_plans) == ({"b"}, {"pro"})


def test_headers_of_answers_are_heard_of_each_account_for_itself() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    for name, used in (("a", "1"), ("b", "2"), ("a", "1"), ("b", "3")):
        told = {"x-codex-primary-used-percent": used}
        pool.hear(named(pool, name), told, now_unix_s=NOW)
    found = {name: named(pool, name).limits for name in ("a", "b")}
    assert {name: told and told.primary for name, told in found.items()} == {
        "a": Window(used_percent=1.0),
        "b": Window(used_percent=3.0),
    }


def test_nine_turns_over_three_accounts_are_three_each() -> None:
    pool = pool_of(an_account("a"), an_account("b"), an_account("c"))
    assert "".join(str(chosen(pool)) for _ in range(9)) == "abcabcabc"


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if EFFECTS[kind] is Effect.NONE])
def test_a_fault_that_is_not_the_accounts_changes_nothing(kind: FaultKind) -> None:
    pool = pool_of(an_account())
    before = report(pool, "work", a_fault(kind))
    assert pool.accounts == (before,)
    assert chosen(pool) == "work"
    assert pool.saving is Saving.NO


def test_a_usage_limit_cools_only_the_account_it_was_met_on_until_its_reset() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    report(pool, "a", LIMITED)
    assert [chosen(pool) for _ in range(3)] == ["b", "b", "b"]
    assert chosen(pool, now=NOW + 899) == "b"
    assert chosen(pool, now=NOW + 900) == "a"


def test_of_two_resets_for_one_limit_the_later_counts() -> None:
    pool = pool_of(an_account())
    account = report(pool, "work", LIMITED)
    pool.report(account, a_fault(FaultKind.LIMITED), leased_at_unix_s=NOW, now_unix_s=NOW)
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
    choice = pool.choose(Ask(rejected=frozenset({"tried", "cooling"})), now_unix_s=NOW)
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
    pool.update([an_account(plan_type="plus")], now_unix_s=NOW)
    assert chosen(pool) == "work"


def test_an_expired_account_is_chosen_because_using_it_refreshes_it() -> None:
    pool = pool_of(an_account(expires_at_unix_s=NOW - 1))
    assert chosen(pool) == "work"


def test_a_preferred_account_is_chosen_and_the_order_goes_on_as_if_it_had_not_been() -> None:
    pool = pool_of(an_account("a"), an_account("b"), an_account("c"))
    assert chosen(pool) == "a"
    assert chosen(pool, again="a") == "a"
    assert chosen(pool, again="c") == "c"
    assert chosen(pool) == "b"


@pytest.mark.parametrize("prefer", ["a", "gone"])
def test_a_preferred_account_that_cannot_be_used_falls_through(prefer: str) -> None:
    pool = pool_of(an_account("a", needs_reauth="x"), an_account("b"))
    assert chosen(pool, again=prefer) == "b"


def test_a_401_rejects_that_exact_access_token() -> None:
    pool = pool_of(an_account(token="access-1"))
    old = report(pool, "work", UNAUTHORIZED)
    assert pool.is_rejected(old)
    assert chosen(pool) == "work"  # a refresh comes first
    new = an_account(token="access-2", refresh_token="refresh-2")
    pool.replace(new, now_unix_s=NOW)
    assert not pool.is_rejected(new)


def test_a_late_401_for_a_token_that_was_replaced_does_not_blame_the_new_one() -> None:
    old = an_account(token="access-1")
    pool = pool_of(old)
    new = an_account(token="access-2", refresh_token="refresh-2")
    pool.replace(new, now_unix_s=NOW)
    pool.report(old, UNAUTHORIZED, leased_at_unix_s=NOW, now_unix_s=NOW)
    assert not pool.is_rejected(new)


def reject_tokens(pool: Pool, count: int, *, now: float = NOW) -> None:
    """Let the backend reject the present token and `count - 1` that are refreshed after it."""
    for serial in range(count):
        if serial:
            refresh(pool)
        report(pool, "work", UNAUTHORIZED, now=now)
        report(pool, "work", UNAUTHORIZED, now=now)  # another turn with the same token


def refresh(pool: Pool) -> None:
    """Give the account another pair, as a refresh does."""
    serial = int(pool.accounts[0].credentials.access_token.removeprefix("access-")) + 1
    pool.replace(
        an_account(token=f"access-{serial}", refresh_token=f"refresh-{serial}"), now_unix_s=NOW
    )


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
    assert pool.saving is Saving.NO
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
        (passed,) = pool.choose(Ask(), now_unix_s=now).passed_over
        assert passed.until_unix_s is not None
        waits.append(passed.until_unix_s - now)
        now = passed.until_unix_s
        assert not pool.is_rejected(account)  # sent as it is first
        pool.report(account, UNAUTHORIZED, leased_at_unix_s=now, now_unix_s=now)
        assert chosen(pool, now=now) == "work"  # and a fresh one after it
    assert waits == [60, 120, 240, 480, 900, 900, 900]
    accept(pool, "work", now=now)
    reject_tokens(pool, MAX_REJECTED_TOKENS, now=now)
    assert chosen(pool, now=now + FIRST_REFUSAL_S) == "work"


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
    accept(pool, "work")
    assert chosen(pool) == "work"


def test_who_is_set_aside_is_told_once_with_what_the_backend_said() -> None:
    pool = pool_of(an_account())
    refused = a_fault(FaultKind.UNAUTHORIZED, code="token_expired")
    told = []
    for _ in range(MAX_REJECTED_TOKENS):
        refresh(pool)
        account = pool.accounts[0]
        told += [
            pool.report(account, refused, leased_at_unix_s=NOW, now_unix_s=NOW) for _ in range(2)
        ]
    (aside,) = [aside for aside in told if aside is not None]
    assert (aside.fault, aside.until_unix_s) == (refused, NOW + FIRST_REFUSAL_S)
    (passed,) = pool.choose(Ask(), now_unix_s=NOW).passed_over
    assert (passed.why, passed.fault) == (Why.SET_ASIDE, refused)


def test_one_accepted_token_clears_the_rejected_ones_before_it() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS - 1)
    refresh(pool)
    accept(pool, "work")
    reject_tokens(pool, MAX_REJECTED_TOKENS - 1)
    assert chosen(pool) == "work"


def test_new_tokens_in_the_file_of_a_refused_account_are_tried_at_once() -> None:
    pool = pool_of(an_account())
    reject_tokens(pool, MAX_REJECTED_TOKENS)
    pool.update([an_account(token="access-new", refresh_token="refresh-new")], now_unix_s=NOW)
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
                    reader.replace(pair, now_unix_s=NOW)
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
    pool.update([marked], now_unix_s=NOW)
    assert chosen(pool) is None
    pool.update([attrs.evolve(marked, needs_reauth=None)], now_unix_s=NOW)
    assert chosen(pool) == "work"


def test_a_cool_down_that_is_not_on_disk_yet_stands_against_an_older_one() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    pool.update([an_account(limited_until_unix_s=NOW + 60)], now_unix_s=NOW)
    assert pool.accounts[0].rate_limited_until_unix_s == NOW + 900


def test_a_cool_down_outlives_a_new_reading_of_the_files() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    pool.update([an_account(token="access-2", refresh_token="refresh-2")], now_unix_s=NOW)
    assert chosen(pool) is None
    pool.take_unsaved()
    pool.update([an_account(token="access-2", refresh_token="refresh-2")], now_unix_s=NOW)
    assert chosen(pool) is None


def test_a_cool_down_that_was_stored_and_then_cleared_by_hand_is_over() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    (learnt,) = pool.take_unsaved()
    pool.update([learnt.account], now_unix_s=NOW)
    assert chosen(pool) is None
    pool.update([an_account()], now_unix_s=NOW)
    assert chosen(pool) == "work"


@pytest.mark.parametrize("stored", [True, False])
def test_a_cool_down_that_is_cleared_before_anybody_has_read_it_is_over(stored: bool) -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    (learnt,) = pool.take_unsaved()
    if stored:
        pool.note_saved(learnt)
    pool.update([an_account()], now_unix_s=NOW)
    assert (chosen(pool) == "work") is stored


def test_a_cool_down_that_another_process_stored_counts_here() -> None:
    pool = pool_of(an_account())
    pool.update([an_account(limited_until_unix_s=NOW + 60)], now_unix_s=NOW)
    assert chosen(pool) is None
    assert chosen(pool, now=NOW + 60) == "work"


def test_what_was_learnt_is_handed_out_once_to_be_stored() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    report(pool, "b", LIMITED)
    assert pool.saving is not Saving.NO
    (learnt,) = pool.take_unsaved()
    assert (learnt.before, learnt.account) == (an_account("b"), pool.accounts[1])
    assert learnt.account.rate_limited_until_unix_s == NOW + 900
    assert pool.saving is Saving.NO
    assert pool.take_unsaved() == ()


def test_a_removed_account_is_neither_chosen_nor_blamed() -> None:
    pool = pool_of(an_account("a"), an_account("b"))
    gone = pool.accounts[0]
    pool.update([an_account("b")], now_unix_s=NOW)
    pool.report(gone, LIMITED, leased_at_unix_s=NOW, now_unix_s=NOW)
    pool.accept(gone, leased_at_unix_s=NOW, now_unix_s=NOW)
    pool.observe(gone, Limits(observed_unix_s=NOW, reached=True))
    assert pool.replace(gone, now_unix_s=NOW) is None
    assert [chosen(pool) for _ in range(2)] == ["b", "b"]


# Whom the turn asks for.


@pytest.mark.parametrize(
    ("ask", "account_id", "by"),
    [
        ({}, "a", By.STRATEGY),
        ({"session": "new"}, "a", By.STRATEGY),
        ({"session": "bound"}, "b", By.BINDING),
        ({"session": "bound", "opens": True}, "b", By.BINDING),
        ({"session": "bound", "claim": "c"}, "c", By.CLAIM),
        ({"session": "bound", "claim": "c", "opens": True}, "b", By.BINDING),
        ({"session": "bound", "claim": "b"}, "b", By.BINDING),
        ({"session": "bound", "claim": "c", "again": "a", "opens": True}, "a", By.AGAIN),
        ({"session": "new", "claim": "c", "opens": True}, "c", By.CLAIM),
        ({"claim": "c"}, "c", By.CLAIM),
        ({"claim": "gone", "again": "gone"}, "a", By.STRATEGY),
        ({"claim": "c", "rejected": frozenset("c")}, "a", By.STRATEGY),
        ({"session": "bound", "rejected": frozenset("b"), "opens": True}, "c", By.STRATEGY),
        ({"session": "bound", "claim": "c", "aside": True}, "a", By.ASIDE),
    ],
    ids=str,
)
def test_who_decides_on_the_account(ask: dict[str, object], account_id: str, by: By) -> None:
    pool = pool_of(*map(an_account, "abc"), strategy="session-affinity")
    assert [chosen(pool, session=session) for session in ("x", "bound", "y")] == ["a", "b", "c"]
    if ask.get("session") == "bound" and "rejected" in ask:
        chosen(pool)  # the order goes on: a has had its turn
        chosen(pool)
    choice = pool.choose(Ask(**ask), now_unix_s=NOW)  # type: ignore[arg-type] - passed on as given
    assert choice.account is not None
    assert (choice.account.id, choice.by) == (account_id, by)


def test_a_session_returns_to_its_account_with_the_next_user_turn_and_not_before() -> None:
    pool = pool_of(an_account("a"), an_account("b"), strategy="session-affinity")
    assert chosen(pool, session="s") == "a"
    report(pool, "a", LIMITED)
    assert chosen(pool, session="s", opens=True, claim="a") == "b"
    back = NOW + 900
    assert chosen(pool, session="s", claim="b", now=back) == "b"  # in mid-turn
    assert chosen(pool, session="s", claim="b", opens=True, now=back) == "a"


def test_turns_that_a_claim_decides_keep_the_sessions_binding_alive() -> None:
    pool = pool_of(an_account("a"), an_account("b"), strategy="session-affinity")
    assert chosen(pool, session="s") == "a"
    almost_s = DAY_S - 1
    for turn in (1, 2, 3):
        assert chosen(pool, session="s", claim="b", now=NOW + turn * almost_s) == "b"
    assert chosen(pool, session="s", opens=True, now=NOW + 4 * almost_s) == "a"


def test_the_account_that_a_session_is_bound_to_is_told_also_when_it_cannot_be_used() -> None:
    pool = pool_of(an_account("a"), an_account("b"), strategy="session-affinity")
    assert pool.choose(Ask(session="s"), now_unix_s=NOW).bound == "a"
    report(pool, "a", LIMITED)
    choice = pool.choose(Ask(session="s"), now_unix_s=NOW)
    assert (choice.bound, whys(choice)) == ("a", {"a": Why.COOLING})
    assert pool.bound("s", now_unix_s=NOW) == "a"
    pool.update(
        [an_account("a", needs_reauth="refresh_token_reused"), an_account("b")], now_unix_s=NOW
    )
    choice = pool.choose(Ask(session="s"), now_unix_s=NOW)
    assert choice.bound == "b"  # it does not come back by itself


@pytest.mark.parametrize("strategy", sorted(find_strategies()))
def test_only_a_strategy_that_binds_is_told_of_bindings_from_before_a_restart(
    strategy: str,
) -> None:
    pool = pool_of(an_account("a"), an_account("b"), strategy=strategy)
    pool.restore("s", "b", now_unix_s=NOW)
    binds = strategy == "session-affinity"
    assert pool.bound("s", now_unix_s=NOW) == ("b" if binds else None)
    assert pool.binds is binds
    if binds:
        choice = pool.choose(Ask(session="s"), now_unix_s=NOW)
        assert (choice.account, choice.by) == (named(pool, "b"), By.BINDING)


def test_a_session_is_bound_to_no_account_that_is_gone_since_the_restart() -> None:
    pool = pool_of(an_account("a"), strategy="session-affinity")
    pool.restore("s", "b", now_unix_s=NOW)
    assert pool.bound("s", now_unix_s=NOW) is None
    assert chosen(pool, session="s") == "a"


def test_a_session_whose_account_is_lost_since_the_restart_moves_for_good() -> None:
    lost = an_account("b", needs_reauth="refresh_token_reused")
    pool = pool_of(an_account("a"), lost, strategy="session-affinity")
    pool.restore("s", "b", now_unix_s=NOW)
    assert chosen(pool, session="s") == "a"
    assert pool.bound("s", now_unix_s=NOW) == "a"


# Questions of the relay's own.


def test_a_question_of_the_relays_own_disturbs_neither_order_nor_bindings() -> None:
    pool = pool_of(*map(an_account, "abc"), strategy="session-affinity")
    assert chosen(pool, session="s") == "a"
    for _ in range(5):
        assert chosen(pool, session="t", aside=True) == "a"
    assert pool.bound("t", now_unix_s=NOW) is None
    assert [chosen(pool), chosen(pool, session="s"), chosen(pool)] == ["b", "a", "c"]


def test_a_question_of_the_relays_own_takes_no_turns_place() -> None:
    pool = pool_of(an_account(), cap=1)
    question = take(pool, aside=True)
    turn = take(pool)
    assert chosen(pool) is None
    assert chosen(pool, aside=True) == "work"
    pool.give_back(question)
    assert pool.leases_of(named(pool, "work")) == 1
    pool.give_back(turn)
    assert not pool.is_in_use


def test_a_question_of_the_relays_own_is_no_probe_and_proves_nothing_of_the_quota() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    due = NOW + PROBE_EVERY_S
    assert chosen(pool, now=NOW + 900, aside=True) == "work"
    report(pool, "work", a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + DAY_S))
    question = take(pool, aside=True, now=due)
    accept(pool, "work", leased_at=due, now=due, aside=True)
    assert named(pool, "work").rate_limited_until_unix_s == NOW + DAY_S
    assert named(pool, "work").last_used_unix_s is None
    take(pool, now=due)  # the probe itself
    pool.give_back(question)
    assert chosen(pool, now=due) is None


def test_a_question_of_the_relays_own_proves_that_the_token_is_good() -> None:
    pool = pool_of(an_account(refresh_token=None))
    report(pool, "work", UNAUTHORIZED)
    accept(pool, "work", aside=True)
    assert chosen(pool) == "work"


# Finding out whether a quota is back.


def test_after_the_reset_one_turn_at_a_time_finds_out_while_others_are_free() -> None:
    pool = pool_of(*map(an_account, "ab"), strategy="first-available")
    report(pool, "a", LIMITED)
    back = NOW + 900
    probe = take(pool, now=back)
    assert (probe.account_id, probe.probes) == ("a", True)
    choice = pool.choose(Ask(), now_unix_s=back)
    assert choice.account is not None
    assert (choice.account.id, whys(choice)) == ("b", {"a": Why.PROBED})
    assert chosen(pool, now=back, again="a") == "a"  # the turn belongs to it
    pool.give_back(probe)
    probe = take(pool, now=back)  # nothing was found out, so the next one is asked
    assert (probe.account_id, probe.probes) == ("a", True)
    accept(pool, "a", leased_at=back, now=back + 1)
    assert not take(pool, now=back + 1).probes  # at once, while the turn that found out goes on
    assert chosen(pool, now=back + 1) == "a"


def test_the_only_account_is_used_as_soon_as_its_reset_has_come() -> None:
    pool = pool_of(an_account("a"), an_account("b", needs_reauth="x"))
    report(pool, "a", LIMITED)
    assert [take(pool, now=NOW + 900).account_id for _ in range(3)] == ["a", "a", "a"]


def test_of_two_accounts_that_are_being_found_out_about_each_is_used() -> None:
    pool = pool_of(*map(an_account, "ab"))
    report(pool, "a", LIMITED)
    report(pool, "b", LIMITED)
    assert [take(pool, now=NOW + 900).account_id for _ in range(4)] == ["a", "b", "a", "b"]


def test_before_the_reset_exactly_one_turn_at_a_time_asks_again() -> None:
    pool = pool_of(an_account(), probe_every_s=60)
    report(pool, "work", a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + DAY_S))
    assert chosen(pool, now=NOW + 59) is None
    probe = take(pool, now=NOW + 60)
    assert whys(pool.choose(Ask(), now_unix_s=NOW + 70)) == {"work": Why.COOLING}
    report(pool, "work", LIMITED, leased_at=NOW + 60, now=NOW + 70)
    pool.give_back(probe)
    assert chosen(pool, now=NOW + 129) is None
    probe = take(pool, now=NOW + 130)
    accept(pool, "work", leased_at=NOW + 130, now=NOW + 131)
    assert chosen(pool, now=NOW + 131) == "work"


def test_a_turn_that_was_under_way_before_the_limit_is_no_probe_and_lifts_nothing() -> None:
    pool = pool_of(an_account())
    old = take(pool)
    report(pool, "work", LIMITED, now=NOW + 1)
    accept(pool, "work", leased_at=NOW, now=NOW + 2)
    pool.give_back(old)
    assert chosen(pool, now=NOW + 2) is None


def test_a_turn_whose_token_was_replaced_meanwhile_lifts_the_limit_all_the_same() -> None:
    pool = pool_of(an_account(token="access-1"))
    report(pool, "work", LIMITED)
    old = named(pool, "work")
    pool.replace(an_account(token="access-2"), now_unix_s=NOW)
    pool.accept(old, leased_at_unix_s=NOW + 900, now_unix_s=NOW + 901)
    assert named(pool, "work").rate_limited_until_unix_s is None


def test_a_turn_of_another_workspace_lifts_nothing() -> None:
    pool = pool_of(an_account(token="access-1"))
    report(pool, "work", LIMITED)
    old = attrs.evolve(named(pool, "work"), workspace_id="another")
    pool.accept(old, leased_at_unix_s=NOW + 60, now_unix_s=NOW + 61)
    assert chosen(pool, now=NOW + 61) is None


def test_the_headers_of_a_refusal_tell_of_the_quota_too() -> None:
    pool = pool_of(an_account())
    headers = {"x-codex-primary-used-percent": "97", "x-codex-primary-window-minutes": "300"}
    report(pool, "work", a_fault(FaultKind.OVERLOADED, headers=headers))
    seen = named(pool, "work").limits
    assert seen is not None
    assert seen.primary == Window(used_percent=97, length_s=18_000)


def test_headers_that_came_with_the_limit_do_not_lift_it() -> None:
    pool = pool_of(an_account())
    headers = {"x-codex-primary-used-percent": "97"}
    limited = a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + 900, headers=headers)
    report(pool, "work", limited)
    assert chosen(pool) is None


def test_what_is_observed_after_the_limit_lifts_it() -> None:
    pool = pool_of(an_account())
    account = report(pool, "work", LIMITED)
    pool.observe(account, Limits(observed_unix_s=NOW + 1, reached=False))
    assert chosen(pool, now=NOW + 1) == "work"


# Models and plans.


def test_an_account_whose_plan_lacks_the_model_is_no_candidate() -> None:
    pool = pool_of(
        an_account("free", plan_type="free"),
        an_account("plus", plan_type="plus"),
        an_account("unknown"),
    )
    plans = frozenset({"plus", "pro"})
    assert {chosen(pool, plans=plans) for _ in range(4)} == {"plus", "unknown"}
    choice = pool.choose(Ask(plans=frozenset({"pro"})), now_unix_s=NOW)
    assert choice.account is not None
    assert choice.account.id == "unknown"
    assert [(p.account.id, p.why, p.reason) for p in choice.passed_over] == [
        ("free", Why.NO_MODEL, "free"),
        ("plus", Why.NO_MODEL, "plus"),
    ]


def test_a_refused_model_is_not_asked_of_this_account_again_but_of_others() -> None:
    pool = pool_of(*map(an_account, "ab"))
    report(pool, "a", a_fault(FaultKind.UNSUPPORTED), model="gpt")
    assert {chosen(pool, model="gpt") for _ in range(3)} == {"b"}
    assert {chosen(pool, model="other") for _ in range(3)} == {"a", "b"}
    assert {chosen(pool, model="gpt", now=NOW + NO_MODEL_S) for _ in range(3)} == {"a", "b"}


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        pytest.param(frozenset(), {"c", "d"}, id="in no list"),
        pytest.param(frozenset({"plus"}), {"b", "d"}, id="offered to the plan"),
        pytest.param(None, {"b", "c", "d"}, id="not known"),
    ],
)
def test_one_account_speaks_for_its_plan_about_a_model_that_is_in_no_list(
    plans: frozenset[str] | None, expected: set[str]
) -> None:
    pool = pool_of(
        an_account("a", plan_type="plus"),
        an_account("b", plan_type="plus"),
        an_account("c", plan_type="free"),
        an_account("d", plan_type=None),
    )
    report(pool, "a", a_fault(FaultKind.UNSUPPORTED), model="gpt")
    assert {chosen(pool, model="gpt", plans=plans) for _ in range(6)} == expected
    later = NOW + NO_MODEL_S
    assert "a" in {chosen(pool, model="gpt", plans=plans, now=later) for _ in range(6)}


# Places.


def test_at_its_cap_an_account_is_passed_over_and_taken_again_once_a_turn_ends() -> None:
    pool = pool_of(*map(an_account, "ab"), cap=2)
    places = [take(pool) for _ in range(4)]
    assert Counter(place.account_id for place in places) == {"a": 2, "b": 2}
    assert whys(pool.choose(Ask(), now_unix_s=NOW)) == {"a": Why.BUSY, "b": Why.BUSY}
    pool.give_back(places[1])
    assert chosen(pool) == places[1].account_id


def test_what_else_speaks_against_a_busy_account_is_told_first() -> None:
    pool = pool_of(an_account(), cap=1)
    take(pool)
    assert whys(pool.choose(Ask(rejected=frozenset({"work"})), now_unix_s=NOW)) == {
        "work": Why.RULED_OUT
    }
    report(pool, "work", LIMITED)
    assert whys(pool.choose(Ask(), now_unix_s=NOW)) == {"work": Why.COOLING}


def test_an_account_whose_file_is_gone_for_a_moment_comes_back_with_its_turns() -> None:
    pool = pool_of(an_account("a"), an_account("b"), cap=1)
    place = take(pool)
    report(pool, "a", LIMITED)
    pool.update([an_account("b")], now_unix_s=NOW)
    assert [account.id for account in pool.accounts] == ["b"]
    pool.update([an_account("a"), an_account("b")], now_unix_s=NOW)
    assert pool.leases_of(named(pool, "a")) == 1
    assert chosen(pool, now=NOW + 900) == "b"
    pool.give_back(place)
    assert pool.leases_of(named(pool, "a")) == 0
    assert chosen(pool, now=NOW + 900) == "a"


def test_an_account_that_comes_back_after_its_turns_have_ended_is_a_new_one() -> None:
    pool = pool_of(an_account())
    place = take(pool)
    report(pool, "work", LIMITED)
    pool.update([], now_unix_s=NOW)
    pool.give_back(place)
    pool.update([], now_unix_s=NOW)
    pool.update([an_account()], now_unix_s=NOW)
    assert chosen(pool) == "work"


# Telling.


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (None, "valid"),
        (LIMITED, "rate_limited"),
        (a_fault(FaultKind.UNUSABLE), "set_aside"),
        (a_fault(FaultKind.THROTTLED), "valid"),
        (a_fault(FaultKind.OVERLOADED), "valid"),
    ],
)
def test_how_an_account_stands_is_one_word(fault: Fault | None, word: str) -> None:
    pool = pool_of(an_account())
    if fault is not None:
        report(pool, "work", fault)
    assert pool.state_of(named(pool, "work"), now_unix_s=NOW) == word


def test_the_most_urgent_account_says_how_soon_to_save() -> None:
    pool = pool_of(*map(an_account, "ab"))
    assert pool.saving is Saving.NO
    accept(pool, "a")
    assert pool.saving is Saving.LATER
    report(pool, "b", LIMITED)
    assert pool.saving is Saving.NOW
    assert [learnt.account.id for learnt in pool.take_unsaved()] == ["a", "b"]


def test_what_differs_is_told_from_what_was_stored_last() -> None:
    pool = pool_of(an_account())
    report(pool, "work", LIMITED)
    (first,) = pool.take_unsaved()
    pool.note_saved(first)
    accept(pool, "work", leased_at=NOW + 900, now=NOW + 901)
    (second,) = pool.take_unsaved()
    assert second.before == first.account
    assert (second.before.rate_limited_until_unix_s, second.before.last_used_unix_s) == (
        NOW + 900,
        None,
    )
    assert (second.account.rate_limited_until_unix_s, second.account.last_used_unix_s) == (
        None,
        NOW + 901,
    )


@attrs.frozen(eq=False)
class Held:
    """An attempt of the machine's."""

    place: Place
    ask: Ask
    account: Account
    leased_at: float
    #: It was leased although the reset had not come.
    early: bool


class PoolMachine(RuleBasedStateMachine):
    """Turns, faults, signals, refreshes, edits of files, and time, in any order."""

    names = ("a", "b", "c")
    models = ("gpt", "mini")
    plans = (None, "free", "plus")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.serial = 0
        self.files: dict[str, Account] = {}
        self.held: list[Held] = []
        #: What the machine itself knows of what was met, by account.
        self.limited_at: dict[str, float] = {}
        self.paused_until: dict[str, float] = {}
        self.refused: dict[tuple[str, str], float] = {}

    @initialize(
        strategy=st.sampled_from(sorted(find_strategies())),
        cap=st.none() | st.integers(1, 3),
        probe_every_s=st.sampled_from((0, 300)),
    )
    def start(self, strategy: str, cap: int | None, probe_every_s: int) -> None:
        self.cap, self.probe_every_s = cap, probe_every_s
        self.pool = pool_of(strategy=strategy, cap=cap, probe_every_s=probe_every_s)

    def fresh(self, name: str) -> Account:
        self.serial += 1
        return an_account(
            name, token=f"access-{self.serial}", refresh_token=f"refresh-{self.serial}"
        )

    def forget(self, name: str) -> None:
        for key in [key for key in self.refused if key[0] == name]:
            del self.refused[key]

    # Files.

    @rule(name=st.sampled_from(names))
    def sign_in(self, name: str) -> None:
        if name not in self.files:  # unless a turn holds on to it, all of it is forgotten
            self.forget(name)
            self.paused_until.pop(name, None)
        self.files[name] = self.fresh(name)
        self.pool.update(self.files.values(), now_unix_s=self.now)
        assert named(self.pool, name).needs_reauth is None

    @rule(name=st.sampled_from(names))
    def remove(self, name: str) -> None:
        self.files.pop(name, None)
        self.pool.update(self.files.values(), now_unix_s=self.now)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        new = self.fresh(name)
        self.files[name] = attrs.evolve(self.files[name], credentials=new.credentials)
        assert self.pool.replace(self.files[name], now_unix_s=self.now) is not None

    @precondition(lambda self: self.files)
    @rule(data=st.data(), reason=st.none() | st.just("refresh_token_reused"))
    def mark(self, data: st.DataObject, reason: str | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        self.files[name] = attrs.evolve(self.files[name], needs_reauth=reason)
        self.pool.update(self.files.values(), now_unix_s=self.now)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), plan=st.sampled_from(plans))
    def change_plan(self, data: st.DataObject, plan: str | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        if plan != self.files[name].plan_type:
            self.forget(name)
        self.files[name] = attrs.evolve(self.files[name], plan_type=plan)
        self.pool.update(self.files.values(), now_unix_s=self.now)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), minutes=st.none() | st.integers(1, 60), told=st.booleans())
    def another_process_stores(self, data: st.DataObject, minutes: int | None, told: bool) -> None:
        self.save()
        name = data.draw(st.sampled_from(sorted(self.files)))
        known = self.files[name]
        until = None if minutes is None else self.now + 60 * minutes
        known_until = known.rate_limited_until_unix_s
        if until is not None and known_until is not None and abs(until - known_until) < 1:
            return
        if until is not None:
            self.limited_at[name] = self.now
            if told:
                usage_limit = UsageLimit(observed_unix_s=self.now)
                known = attrs.evolve(known, usage_limit=usage_limit)
        self.files[name] = attrs.evolve(known, rate_limited_until_unix_s=until)
        self.pool.update(self.files.values(), now_unix_s=self.now)
        assert named(self.pool, name).rate_limited_until_unix_s == until

    @rule()
    def save(self) -> None:
        for learnt in self.pool.take_unsaved():
            self.files[learnt.account.id] = learnt.account
            self.pool.note_saved(learnt)
        self.pool.update(self.files.values(), now_unix_s=self.now)

    # Turns.

    @rule(
        rejected=st.frozensets(st.sampled_from(names), max_size=2),
        again=st.none() | st.sampled_from(names),
        claim=st.none() | st.sampled_from(names),
        session=st.none() | st.sampled_from(("s", "t")),
        model=st.none() | st.sampled_from(models),
        plans=st.none() | st.just(frozenset({"plus"})),
        opens=st.booleans(),
        aside=st.booleans(),
    )
    def lease(self, **wish: object) -> None:
        ask = Ask(**wish)  # type: ignore[arg-type] - as drawn
        choice = self.pool.choose(ask, now_unix_s=self.now)
        passed = {passed.account.id for passed in choice.passed_over}
        assert len(passed) == len(choice.passed_over)
        account = choice.account
        if account is None:
            assert passed == set(self.files)
            return
        able = set(self.files) - passed
        assert account.id in able
        for name, why in whys(choice).items():
            assert why is not Why.PROBED or self.pool._standings[name].is_unproved
        assert account.credentials == self.files[account.id].credentials
        assert account.needs_reauth is None
        assert account.id not in ask.rejected
        assert self.paused_until.get(account.id, 0) <= self.now
        assert self.refused.get((account.id, ask.model or ""), 0) <= self.now
        assert not ask.plans or account.plan_type in (None, *ask.plans)
        assert self.cap is None or ask.aside or self.turns_on(account.id) < self.cap
        early = account.status(now_unix_s=self.now) is Status.RATE_LIMITED
        if early:
            assert self.probe_every_s
            assert self.now - self.limited_at[account.id] >= self.probe_every_s
            assert not any(h.early and h.account.id == account.id for h in self.held)
        probing = {h.account.id for h in self.held if h.place.probes}
        assert account.id not in probing or ask.again == account.id or able <= probing
        assert (choice.by is By.AGAIN) is (ask.again in able)
        if choice.by is By.CLAIM:
            assert ask.claim == account.id
        place = self.pool.take(choice, ask)
        self.held.append(Held(place, ask, account, self.now, early and not ask.aside))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        held = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.give_back(held.place)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        name = held.account.id
        with self.nobody_else_changes(name):
            self.pool.accept(
                held.account,
                leased_at_unix_s=held.leased_at,
                now_unix_s=self.now,
                aside=held.ask.aside,
            )
        if name in self.files and not held.ask.aside:
            until = named(self.pool, name).rate_limited_until_unix_s
            if held.leased_at > self.limited_at.get(name, 0):
                assert until is None

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(), used_percent=st.sampled_from((50, 100)), resets_in_s=st.integers(10, 9000)
    )
    def observe(self, data: st.DataObject, used_percent: int, resets_in_s: int) -> None:
        held = data.draw(st.sampled_from(self.held))
        window = Window(used_percent=used_percent, resets_at_unix_s=self.now + resets_in_s)
        with self.nobody_else_changes(held.account.id):
            self.pool.observe(held.account, Limits(observed_unix_s=self.now, primary=window))
        if held.account.id in self.files and self.now > self.limited_at.get(held.account.id, 0):
            until = named(self.pool, held.account.id).rate_limited_until_unix_s
            spent = used_percent == 100
            assert until is None or (spent and abs(until - self.now - resets_in_s) < 1)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        kind=st.sampled_from(FaultKind),
        seconds=st.none() | st.integers(-10, 5000),
    )
    def report(self, data: st.DataObject, kind: FaultKind, seconds: int | None) -> None:
        held = data.draw(st.sampled_from(self.held))
        name = held.account.id
        resets_at = None if seconds is None else self.now + seconds
        pause_s = None if seconds is None else max(0, seconds)
        fault = a_fault(kind, resets_at_unix_s=resets_at, retry_after_s=pause_s)
        with self.nobody_else_changes(name):
            self.pool.report(
                held.account,
                fault,
                model=held.ask.model,
                leased_at_unix_s=held.leased_at,
                now_unix_s=self.now,
            )
        if name not in self.files:
            return
        effect = EFFECTS[kind]
        if effect is Effect.COOL_DOWN:
            self.limited_at[name] = self.now
        if effect is Effect.PAUSE:
            until = self.now + min(120, 5 if pause_s is None else pause_s)
            self.paused_until[name] = max(until, self.paused_until.get(name, 0))
        if effect is Effect.LEARN_MODEL and held.ask.model is not None:
            self.refused[name, held.ask.model] = self.now + NO_MODEL_S
        if effect in (Effect.COOL_DOWN, Effect.SET_ASIDE):
            assert name in whys(self.pool.choose(Ask(again=name, aside=True), now_unix_s=self.now))

    @rule(seconds=st.integers(1, 2000))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    # What always holds.

    def turns_on(self, name: str) -> int:
        return sum(h.account.id == name and not h.ask.aside for h in self.held)

    @contextlib.contextmanager
    def nobody_else_changes(self, name: str) -> Iterator[None]:
        def others() -> dict[str, object]:
            return {
                other: attrs.asdict(standing, recurse=False)
                for other, standing in self.pool._standings.items()
                if other != name
            }

        before = copy.deepcopy(others())
        yield
        assert others() == before

    @invariant()
    def the_pool_holds_what_the_files_hold_in_order(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert [account.id for account in self.pool.accounts] == sorted(self.files)
        for account in self.pool.accounts:
            assert account.credentials == self.files[account.id].credentials

    @invariant()
    def the_places_are_counted_right(self) -> None:
        if not hasattr(self, "pool"):
            return
        for account in self.pool.accounts:
            assert self.pool.leases_of(account) == self.turns_on(account.id)
            probes = self.pool._standings[account.id].probes
            assert probes == sum(h.place.probes for h in self.held if h.account.id == account.id)
            assert 0 <= probes <= self.turns_on(account.id)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# What is found out once


def test_five_hundred_accounts_are_looked_at_once_while_nothing_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, obstacle = Counter[str](), Standing.obstacle

    def counted(standing: Standing, **about: object) -> PassedOver | None:
        looks[standing.bearer.id] += 1
        return obstacle(standing, **about)  # type: ignore[arg-type] - passed on as given

    monkeypatch.setattr(Standing, "obstacle", counted)
    pool = pool_of(*(an_account(f"a{n:03}", plan_type="plus") for n in range(500)))
    report(pool, "a000", LIMITED)
    looks.clear()
    for turn in range(1000):
        ask = Ask(model="gpt-5.5", plans=frozenset({"plus"}))
        choice = pool.choose(ask, now_unix_s=NOW + turn / 10)
        assert choice.account is not None
        place = pool.take(choice, ask)
        pool.accept(choice.account, leased_at_unix_s=NOW + turn / 10, now_unix_s=NOW + turn / 10)
        pool.observe(choice.account, Limits(observed_unix_s=NOW + turn / 10, plan_type="plus"))
        pool.give_back(place)
    assert set(looks.values()) == {1}
    assert len(looks) == 500


def test_what_turns_bring_stands_in_the_accounts_all_the_same() -> None:
    pool = pool_of(an_account())
    seen = Limits(observed_unix_s=NOW + 1, primary=Window(used_percent=7.0))
    pool.accept(named(pool, "work"), leased_at_unix_s=NOW, now_unix_s=NOW + 2)
    pool.observe(named(pool, "work"), seen)
    assert pool.saving is Saving.LATER
    [account] = pool.accounts
    assert (account.last_used_unix_s, account.limits) == (NOW + 2, seen)
    [learnt] = pool.take_unsaved()
    assert learnt.account == account
    assert pool.saving is Saving.NO


@pytest.mark.parametrize("strategy", ["round-robin", "session-affinity", "first-available"])
@pytest.mark.parametrize("cap", [None, 1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_the_choice_is_as_if_each_account_were_looked_at(
    seed: int, cap: int | None, strategy: str
) -> None:
    rng, now = random.Random(seed), NOW
    accounts = [
        an_account("a", plan_type="plus"),
        an_account("b", plan_type="free"),
        an_account("c", refresh_token=None, expires_at_unix_s=NOW + 3000),
        an_account("d", limited_until_unix_s=NOW + 500),
    ]
    pools = [pool_of(*accounts, strategy=strategy, cap=cap, probe_every_s=300) for _ in range(2)]
    held: list[tuple[str, list[Place]]] = []
    kinds = [*FaultKind]
    for _ in range(200):
        now += rng.choice((0, 0, 1, 40, 400, -5))
        ask = Ask(
            model=rng.choice((None, "gpt-5.5", "o-9")),
            plans=rng.choice((None, frozenset(), frozenset({"plus"}))),
            session=rng.choice((None, "s1", "s2")),
            rejected=rng.choice((frozenset(), frozenset({"a"}))),
            again=rng.choice((None, None, "b")),
            opens=rng.random() < 0.5,
            aside=rng.random() < 0.1,
        )
        pools[1]._surveys.clear()
        assert pools[0].can_take(ask, now_unix_s=now) is pools[1].can_take(ask, now_unix_s=now)
        pools[1]._surveys.clear()
        one, other = (pool.choose(ask, now_unix_s=now) for pool in pools)
        assert (one.account is None) is (other.account is None)
        assert (one.by, one.bound, one.candidates) == (other.by, other.bound, other.candidates)
        told = [
            [(p.account.id, p.why, p.reason, p.until_unix_s) for p in choice.passed_over]
            for choice in (one, other)
        ]
        assert told[0] == told[1]
        if one.account is not None:
            assert other.account is not None
            assert one.account.id == other.account.id
            taken = [pool.take(one, ask) for pool in pools]
            held.append((one.account.id, taken))
        if held and rng.random() < 0.8:
            name, places = held.pop(rng.randrange(len(held)))
            fault = a_fault(rng.choice(kinds), resets_at_unix_s=now + rng.choice((10, 900)))
            seen = Limits(
                observed_unix_s=now,
                plan_type=rng.choice(("plus", "free", None)),
                primary=Window(used_percent=rng.choice((10.0, 100.0)), resets_at_unix_s=now + 60),
            )
            what = rng.choice(("accept", "observe", "report", "read again", "nothing"))
            for pool, place in zip(pools, places, strict=True):
                if what == "accept":
                    accept(pool, name, leased_at=now - 1, now=now)
                elif what == "observe":
                    pool.observe(named(pool, name), seen)
                elif what == "report":
                    report(pool, name, fault, model=ask.model, leased_at=now - 1, now=now)
                elif what == "read again":
                    pool.update(pool.accounts, now_unix_s=now)
                pool.give_back(place)
    assert pools[0].accounts == pools[1].accounts
