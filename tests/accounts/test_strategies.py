"""Every strategy keeps the seam's promises, and each one its own."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import get_args, get_type_hints

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.accounts.settings import ManagedOAuthSettings, StrategyName
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.session_affinity import SessionAffinity
from codexrelay.accounts.strategies.strategy import (
    Candidates,
    Selector,
    Strategy,
    StrategySettings,
)

IDS = st.sets(st.text("abAB19-_", min_size=1, max_size=3), min_size=1, max_size=8)
SESSIONS = ("s1", "s2", "s3", "s4")
TTL_S = 100.0


def start(name: str, *, ttl_s: float = TTL_S, max_entries: int = 3, seed: int = 0) -> Selector:
    return find_strategies()[name].start(
        StrategySettings(
            session_affinity_ttl_s=ttl_s,
            session_affinity_max_entries=max_entries,
            rng=random.Random(seed),
        )
    )


def restorable(*, ttl_s: float = TTL_S, max_entries: int = 3) -> SessionAffinity:
    selector = start("session-affinity", ttl_s=ttl_s, max_entries=max_entries)
    assert isinstance(selector, SessionAffinity)
    return selector


def candidates(
    order: str,
    eligible: str | None = None,
    *,
    lost: str = "",
    session: str | None = None,
    now_s: float = 0.0,
) -> Candidates:
    return Candidates(
        order=tuple(order),
        eligible=frozenset(order if eligible is None else eligible),
        lost=frozenset(lost),
        session=session,
        now_s=now_s,
    )


def _turns(drawn: list[tuple[int, int, int, str | None, float]]) -> list[Candidates]:
    asked: list[Candidates] = []
    now_s = 0.0
    for present, able, gone, session, step_s in drawn:
        order = _members(EVERYONE, present) or EVERYONE
        eligible = _members(order, able) or order[:1]
        now_s += step_s
        asked.append(
            candidates(
                order,
                eligible,
                lost="".join(sorted(set(_members(order, gone)) - set(eligible))),
                session=session,
                now_s=now_s,
            )
        )
    return asked


def _members(of: str, bits: int) -> str:
    return "".join(account_id for place, account_id in enumerate(of) if bits >> place & 1)


EVERYONE = "ABab"
BITS = st.integers(0, 2 ** len(EVERYONE) - 1)
#: What a pool may ask for, one turn after the other: accounts come, go and are lost.
TURNS = st.lists(
    st.tuples(
        st.just(15) | BITS,
        BITS,
        BITS,
        st.sampled_from((None, *SESSIONS)),
        st.sampled_from((0.0, 1.0, TTL_S / 2, TTL_S, -1.0)),  # a clock that is set back, too
    ),
    min_size=1,
    max_size=15,
).map(_turns)


def test_the_names_in_the_configuration_are_those_of_the_modules() -> None:
    assert set(get_args(StrategyName)) == set(find_strategies())
    assert get_type_hints(ManagedOAuthSettings)["selection_strategy"] == StrategyName


@pytest.mark.parametrize("strategy", find_strategies().values(), ids=lambda s: s.name)
@given(asked=TURNS, ttl_s=st.sampled_from([0.0, TTL_S]), max_entries=st.integers(0, 3))
def test_a_strategy_chooses_who_is_eligible_and_asking_it_for_a_binding_changes_nothing(
    strategy: Strategy, asked: list[Candidates], ttl_s: float, max_entries: int
) -> None:
    asking, quiet = (
        start(strategy.name, ttl_s=ttl_s, max_entries=max_entries, seed=7) for _ in range(2)
    )
    for turn in asked:
        before = {session: asking.bound(session, now_s=turn.now_s) for session in SESSIONS}
        again = {session: asking.bound(session, now_s=turn.now_s) for session in SESSIONS}
        assert before == again
        chosen = asking.choose(turn)
        assert chosen in turn.eligible
        assert chosen == quiet.choose(turn)


# first-available


@given(asked=TURNS)
def test_first_available_is_the_first_in_order_every_time(asked: list[Candidates]) -> None:
    selector = start("first-available")
    assert [selector.choose(turn) for turn in asked] == [min(turn.eligible) for turn in asked]


# random

#: Of 2 degrees of freedom, exceeded by one fair draw in 1000.
CHI_SQUARE_LIMIT = 13.8


@pytest.mark.parametrize("seed", range(3))
def test_random_gives_every_eligible_account_the_same_chance(seed: int) -> None:
    selector, draws = start("random", seed=seed), 3000
    counts = Counter(selector.choose(candidates("abcd", "abd")) for _ in range(draws))
    expected = draws / 3
    chi_square = sum((counts[account_id] - expected) ** 2 / expected for account_id in "abd")
    assert set(counts) == set("abd")
    assert chi_square < CHI_SQUARE_LIMIT


@pytest.mark.parametrize("seed", range(3))
def test_random_does_not_look_at_what_it_chose_before(seed: int) -> None:
    selector, draws = start("random", seed=seed), 3000
    served = [selector.choose(candidates("abc")) for _ in range(draws)]
    repeated = sum(one == other for one, other in itertools.pairwise(served))
    # A third of them, with a standard deviation of 26.
    assert abs(repeated - draws / 3) < 3.3 * 26


def test_random_draws_with_the_generator_it_was_given() -> None:
    runs = [
        [selector.choose(candidates("abcd")) for _ in range(30)]
        for selector in (start("random", seed=seed) for seed in (1, 1, 2))
    ]
    assert runs[0] == runs[1] != runs[2]


# round-robin


@given(order=IDS, turns=st.integers(1, 40), data=st.data())
def test_round_robin_gives_constant_eligible_accounts_equal_shares_in_any_window(
    order: set[str], turns: int, data: st.DataObject
) -> None:
    everyone = tuple(sorted(order))
    eligible = frozenset(data.draw(st.sets(st.sampled_from(everyone), min_size=1)))
    selector = start("round-robin")
    selector.choose(Candidates(order=everyone, eligible=frozenset(everyone)))
    served = [selector.choose(Candidates(order=everyone, eligible=eligible)) for _ in range(turns)]
    begin = data.draw(st.integers(0, turns - 1))
    counts = Counter(served[begin:])
    shares = [counts[account_id] for account_id in eligible]
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("out", "served"),
    [
        pytest.param("a", "bcdbcd", id="first"),
        pytest.param("b", "acdacd", id="second"),
        pytest.param("d", "abcabc", id="last"),
    ],
)
def test_an_account_that_drops_out_never_makes_its_neighbour_skip_a_turn(
    out: str, served: str
) -> None:
    selector = start("round-robin")
    eligible = "abcd".replace(out, "")
    assert "".join(selector.choose(candidates("abcd", eligible)) for _ in range(6)) == served


def test_after_a_limited_account_comes_its_successor_and_not_the_one_behind() -> None:
    selector = start("round-robin")
    assert selector.choose(candidates("abc")) == "a"
    assert selector.choose(candidates("abc", "bc")) == "b"
    assert selector.choose(candidates("abc", "bc")) == "c"
    assert selector.choose(candidates("abc")) == "a"


def test_an_account_that_was_removed_keeps_its_place_in_the_order() -> None:
    selector = start("round-robin")
    assert [selector.choose(candidates("abc")) for _ in range(2)] == ["a", "b"]
    assert selector.choose(candidates("acd")) == "c"


def test_a_new_account_waits_for_its_place_in_the_order() -> None:
    selector = start("round-robin")
    assert [selector.choose(candidates("ac")) for _ in range(2)] == ["a", "c"]
    assert [selector.choose(candidates("abc")) for _ in range(3)] == ["a", "b", "c"]


# session-affinity


def choose(selector: Selector, session: str | None, now_s: float = 0.0, **more: str) -> str:
    asked: dict[str, str] = {"order": "abc", **more}
    return selector.choose(
        candidates(
            asked["order"],
            asked.get("eligible"),
            lost=asked.get("lost", ""),
            session=session,
            now_s=now_s,
        )
    )


def test_new_sessions_go_round_and_known_ones_stay() -> None:
    selector = start("session-affinity")
    sessions = ["s1", "s2", "s1", "s3", "s2", "s1"]
    assert [choose(selector, session) for session in sessions] == list("abacba")
    assert [selector.bound(session, now_s=0.0) for session in SESSIONS] == ["a", "b", "c", None]


def test_a_failover_and_back_gives_the_old_account() -> None:
    selector = start("session-affinity")
    choose(selector, "s1")
    away = [choose(selector, "s1", eligible="bc") for _ in range(3)]
    assert away == list("bcb")
    assert selector.bound("s1", now_s=0.0) == "a"
    assert choose(selector, "s1") == "a"


def test_the_turns_of_a_failover_take_their_place_in_the_round() -> None:
    selector = start("session-affinity")
    choose(selector, "s1")
    assert choose(selector, "s1", eligible="bc") == "b"
    assert choose(selector, "s2") == "c"


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param({"eligible": "bc", "lost": "a"}, id="its owner must sign in"),
        pytest.param({"order": "bc"}, id="removed"),
    ],
)
def test_a_session_moves_for_good_when_its_account_is_lost(gone: dict[str, str]) -> None:
    selector = start("session-affinity")
    assert choose(selector, "s1") == "a"
    assert choose(selector, "s1", **gone) == "b"
    assert selector.bound("s1", now_s=0.0) == "b"
    assert [choose(selector, "s1") for _ in range(2)] == ["b", "b"]


def test_another_account_that_is_lost_changes_nothing() -> None:
    selector = start("session-affinity")
    choose(selector, "s1")
    assert choose(selector, "s1", eligible="b", lost="c") == "b"
    assert choose(selector, "s1") == "a"


def test_a_binding_lasts_for_its_time_from_the_last_turn_of_the_session() -> None:
    selector = start("session-affinity")
    choose(selector, "s1")
    choose(selector, "s2")
    assert choose(selector, "s1", TTL_S - 1) == "a"
    assert selector.bound("s1", now_s=2 * TTL_S - 1.5) == "a"
    assert selector.bound("s2", now_s=TTL_S) is None
    assert selector.bound("s1", now_s=2 * TTL_S - 1) is None
    assert choose(selector, "s1", 2 * TTL_S - 1) == "c"


def test_a_turn_that_another_account_took_counts_as_the_last_one_too() -> None:
    selector = start("session-affinity")
    choose(selector, "s1")
    assert choose(selector, "s1", TTL_S - 1, eligible="bc") == "b"
    assert choose(selector, "s1", 2 * TTL_S - 2) == "a"


def test_a_turn_that_was_not_chosen_here_counts_as_the_last_one_and_binds_nothing() -> None:
    selector = start("session-affinity")
    choose(selector, "s1")
    selector.used("s1", now_s=TTL_S - 1)
    assert selector.bound("s1", now_s=2 * TTL_S - 2) == "a"
    for session, at_s in (("s2", 0.0), ("s1", 3 * TTL_S)):
        selector.used(session, now_s=at_s)
        assert selector.bound(session, now_s=at_s) is None


def test_the_session_used_longest_ago_is_forgotten_first() -> None:
    selector = start("session-affinity", max_entries=2)
    for session in ("s1", "s2", "s1", "s3"):
        choose(selector, session)
    assert [selector.bound(session, now_s=0.0) for session in SESSIONS] == ["a", None, "c", None]


@given(asked=TURNS, max_entries=st.integers(0, 3))
def test_no_more_sessions_are_remembered_than_allowed(
    asked: list[Candidates], max_entries: int
) -> None:
    selector = start("session-affinity", ttl_s=1e9, max_entries=max_entries)
    for turn in asked:
        selector.choose(turn)
        bound = [session for session in SESSIONS if selector.bound(session, now_s=turn.now_s)]
        assert len(bound) <= max_entries


@given(asked=TURNS)
def test_a_binding_changes_only_when_its_account_is_lost_or_its_time_is_over(
    asked: list[Candidates],
) -> None:
    selector = start("session-affinity", max_entries=len(SESSIONS))
    for turn in asked:
        before = {session: selector.bound(session, now_s=turn.now_s) for session in SESSIONS}
        chosen = selector.choose(turn)
        after = {session: selector.bound(session, now_s=turn.now_s) for session in SESSIONS}
        if turn.session is None:
            assert after == before
            continue
        bound = before[turn.session]
        kept = bound is not None and bound in turn.order and bound not in turn.lost
        assert after == before | {turn.session: bound if kept else chosen}
        if bound in turn.eligible:
            assert chosen == bound


@given(asked=TURNS)
@pytest.mark.parametrize(
    ("ttl_s", "max_entries", "sessions"), [(0.0, 3, True), (TTL_S, 0, True), (TTL_S, 3, False)]
)
def test_without_time_or_room_or_a_session_it_is_plain_round_robin(
    asked: list[Candidates], ttl_s: float, max_entries: int, sessions: object
) -> None:
    plain = start("round-robin")
    selector = start("session-affinity", ttl_s=ttl_s, max_entries=max_entries)
    for turn in asked:
        asking = turn if sessions else attrs.evolve(turn, session=None)
        assert selector.choose(asking) == plain.choose(turn)


def test_a_binding_from_before_a_restart_holds_and_the_others_go_round() -> None:
    selector = restorable()
    selector.restore("s1", "b", now_s=0)
    assert selector.bound("s1", now_s=0) == "b"
    assert [selector.choose(candidates("ab", session=s)) for s in ("s2", "s1", "s3")] == [
        "a",
        "b",
        "b",
    ]


def test_a_binding_from_before_a_restart_takes_the_place_of_none_that_is_there() -> None:
    selector = restorable()
    assert selector.choose(candidates("ab", session="s1")) == "a"
    selector.restore("s1", "b", now_s=1)
    assert selector.bound("s1", now_s=1) == "a"
    selector.restore("s1", "b", now_s=TTL_S)
    assert selector.bound("s1", now_s=TTL_S) == "b", "that one was over"


def test_a_binding_from_before_a_restart_needs_time_and_room_like_any() -> None:
    for limits in ({"ttl_s": 0.0}, {"max_entries": 0}):
        selector = restorable(**limits)  # type: ignore[arg-type]  # one of the two
        selector.restore("s1", "b", now_s=0)
        assert selector.bound("s1", now_s=0) is None
    selector = restorable(max_entries=2)
    for session in ("s1", "s2", "s3"):
        selector.restore(session, "b", now_s=0)
    assert [selector.bound(session, now_s=0) for session in SESSIONS] == [None, "b", "b", None]
    assert selector.bound("s3", now_s=TTL_S) is None


@given(asked=TURNS)
def test_other_strategies_bind_nothing(asked: list[Candidates]) -> None:
    for name in set(find_strategies()) - {"session-affinity"}:
        selector = start(name)
        for turn in asked:
            selector.choose(turn)
            selector.used("s1", now_s=turn.now_s)
            assert not any(selector.bound(session, now_s=turn.now_s) for session in SESSIONS)
