from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.accounts.account import Attention, UsageLimit
from codexrelay.accounts.record import Record
from codexrelay.accounts.state import (
    AccountState,
    read_state,
    state_changes,
    state_of,
    with_state,
)
from codexrelay.protocol.limits import Credits, Limits, Window
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

NOTHING = AccountState()
FULL = AccountState(
    rate_limited_until_unix_s=NOW + 900,
    limits=Limits(
        observed_unix_s=NOW,
        plan_type="plus",
        primary=Window(used_percent=100.0, length_s=18_000.0, resets_at_unix_s=NOW + 3600),
        reached=False,
        credits=Credits(has_credits=False),
    ),
    usage_limit=UsageLimit(
        error_type="usage_limit_reached",
        message="The usage limit has been reached",
        plan_type="plus",
        resets_at_unix_s=NOW + 3600,
        observed_unix_s=NOW,
    ),
    last_used_unix_s=NOW - 5,
    attention=Attention(code="deactivated_workspace", message="gone", since_unix_s=NOW - 60),
)


def stored(raw: JsonObject | None, older: JsonObject | None = None) -> AccountState:
    """Return the state that the two files say, neither of which has a fault."""
    own = None if raw is None else Record(Path("work.state.json"), raw)
    state, problems = read_state(own, Record(Path("work.json"), older or {}))
    assert problems == ()
    return state


def test_what_is_written_is_read_back() -> None:
    assert stored(state_changes(FULL, before=NOTHING)) == FULL
    assert stored(state_changes(NOTHING, before=FULL)) == NOTHING


def test_only_what_differs_is_written() -> None:
    assert state_changes(FULL, before=FULL) == {}
    used = attrs.evolve(FULL, last_used_unix_s=NOW)
    assert state_changes(used, before=FULL) == {"last_used": "2026-11-22T12:20:00+00:00"}


@given(
    learnt=st.sets(st.sampled_from([field.name for field in attrs.fields(AccountState)])),
)
def test_what_is_learnt_leaves_the_rest_as_it_is_stored(learnt: set[str]) -> None:
    file = state_changes(FULL, before=NOTHING)
    after = attrs.evolve(NOTHING, **{name: getattr(FULL, name) for name in learnt})
    forgets = state_changes(NOTHING, before=after)
    kept = attrs.evolve(FULL, **dict.fromkeys(learnt))
    assert stored(file | forgets) == kept


def test_the_keys_are_those_of_the_store_that_the_format_comes_from() -> None:
    changes = state_changes(FULL, before=NOTHING)
    assert changes["rate_limited_until"] == (NOW + 900) * 1000
    assert changes["last_codex_quota_observed_at"] == "2026-11-22T12:20:00+00:00"
    headers = changes["last_codex_quota_headers"]
    assert isinstance(headers, dict)
    assert headers["x-codex-primary-used-percent"] == "100"
    assert changes["last_codex_usage_limit"] == {
        "error_type": "usage_limit_reached",
        "plan_type": "plus",
        "resets_in_seconds": 3600,
        "resets_at_unix": NOW + 3600,
        "message": "The usage limit has been reached",
        "observed_at": "2026-11-22T12:20:00+00:00",
    }


def test_without_a_state_file_the_account_file_says_it() -> None:
    in_account_file = state_changes(FULL, before=NOTHING)
    assert stored(None, in_account_file) == FULL
    assert stored({}, in_account_file) == FULL


def test_a_key_of_the_state_file_counts_although_it_is_null() -> None:
    in_account_file = state_changes(FULL, before=NOTHING)
    nulls: JsonObject = dict.fromkeys(in_account_file)
    assert stored(nulls, in_account_file) == NOTHING


def test_limits_of_unknown_age_are_none() -> None:
    headers: Json = {"x-codex-primary-used-percent": "12"}
    undated: JsonObject = {"last_codex_quota_headers": headers}
    assert stored(undated).limits is None
    # The date in the other file is that of other headers.
    assert stored(undated, {"last_codex_quota_observed_at": "2026-11-22T12:20:00Z"}).limits is None
    dated = undated | {"last_codex_quota_observed_at": "2026-11-22T12:20:00"}
    limits = stored(dated).limits
    assert limits is not None
    assert (limits.observed_unix_s, limits.primary) == (NOW, Window(used_percent=12.0))


@pytest.mark.parametrize(
    ("snapshot", "resets_at_unix_s"),
    [
        ({"resets_at_unix": NOW + 5, "resets_in_seconds": 9}, NOW + 5),
        ({"resets_in_seconds": 9, "observed_at": "2026-11-22T12:20:00+00:00"}, NOW + 9),
        ({"resets_in_seconds": 9}, None),
        ({"resets_at_unix": "soon", "message": 5, "observed_at": "yesterday"}, None),
    ],
)
def test_a_usage_limit_is_read_as_far_as_it_can_be(
    snapshot: JsonObject, resets_at_unix_s: float | None
) -> None:
    limit = stored({"last_codex_usage_limit": snapshot}).usage_limit
    assert limit is not None
    assert limit.resets_at_unix_s == resets_at_unix_s


def test_half_a_note_for_the_owner_is_one_too() -> None:
    assert stored({"attention": {"code": "x"}}).attention == Attention(
        code="x", message="", since_unix_s=0.0
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate_limited_until", "soon"),
        ("last_used", 5),
        ("last_used", "yesterday"),
        ("last_codex_quota_headers", ["x-codex"]),
        ("last_codex_usage_limit", True),
        ("attention", "look"),
    ],
)
def test_a_broken_field_is_one_problem_and_costs_no_other(field: str, value: Json) -> None:
    raw = state_changes(FULL, before=NOTHING) | {field: value}
    state, problems = read_state(Record(Path("work.state.json"), raw), Record(Path("x"), {}))
    assert [problem.where for problem in problems] == [f"work.state.json: {field}"]
    as_read = attrs.asdict(state, recurse=False)
    lost = [name for name, read in as_read.items() if read != getattr(FULL, name)]
    assert len(lost) == 1
    assert as_read[lost[0]] is None


def test_an_account_is_given_a_state_and_asked_for_it() -> None:
    account = with_state(an_account(), FULL)
    assert state_of(account) == FULL
    assert with_state(account, NOTHING) == an_account()
