"""Every strategy keeps the seam's promises; round-robin also its own."""

from __future__ import annotations

from collections import Counter
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.accounts.settings import ManagedOAuthSettings, StrategyName
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.round_robin import RoundRobin
from codexrelay.accounts.strategies.strategy import Candidates, Strategy

IDS = st.sets(st.text("abAB19-_", min_size=1, max_size=3), min_size=1, max_size=8)


def candidates(order: str, eligible: str | None = None) -> Candidates:
    return Candidates(
        order=tuple(order), eligible=frozenset(order if eligible is None else eligible)
    )


def test_the_names_in_the_configuration_are_those_of_the_modules() -> None:
    assert set(get_args(StrategyName)) == set(find_strategies())
    assert get_type_hints(ManagedOAuthSettings)["selection_strategy"] == StrategyName


@pytest.mark.parametrize("strategy", find_strategies().values(), ids=lambda s: s.name)
@given(data=st.data())
def test_a_strategy_chooses_only_who_is_eligible(strategy: Strategy, data: st.DataObject) -> None:
    order = tuple(sorted(data.draw(IDS)))
    selector = strategy.start()
    for _ in range(data.draw(st.integers(1, 12))):
        eligible = frozenset(data.draw(st.sets(st.sampled_from(order), min_size=1)))
        assert selector.choose(Candidates(order=order, eligible=eligible)) in eligible


@given(order=IDS, turns=st.integers(1, 40), data=st.data())
def test_round_robin_gives_constant_eligible_accounts_equal_shares_in_any_window(
    order: set[str], turns: int, data: st.DataObject
) -> None:
    everyone = tuple(sorted(order))
    eligible = frozenset(data.draw(st.sets(st.sampled_from(everyone), min_size=1)))
    selector = RoundRobin()
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
    selector = RoundRobin()
    eligible = "abcd".replace(out, "")
    assert "".join(selector.choose(candidates("abcd", eligible)) for _ in range(6)) == served


def test_after_a_limited_account_comes_its_successor_and_not_the_one_behind() -> None:
    selector = RoundRobin()
    assert selector.choose(candidates("abc")) == "a"
    assert selector.choose(candidates("abc", "bc")) == "b"
    assert selector.choose(candidates("abc", "bc")) == "c"
    assert selector.choose(candidates("abc")) == "a"


def test_an_account_that_was_removed_keeps_its_place_in_the_order() -> None:
    selector = RoundRobin()
    assert [selector.choose(candidates("abc")) for _ in range(2)] == ["a", "b"]
    assert selector.choose(candidates("acd")) == "c"


def test_a_new_account_waits_for_its_place_in_the_order() -> None:
    selector = RoundRobin()
    assert [selector.choose(candidates("ac")) for _ in range(2)] == ["a", "c"]
    assert [selector.choose(candidates("abc")) for _ in range(3)] == ["a", "b", "c"]
