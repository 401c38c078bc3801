from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.limits import (
    Credits,
    Family,
    HeaderReader,
    Limits,
    Window,
    from_event,
    from_headers,
    from_usage,
    to_headers,
)
from codexrelay.protocol.raw import Json, JsonObject, get_list, get_object, is_object, parse_object
from tests.fakes.recordings import observed, sample
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIMARY = Window(used_percent=12.0, length_s=18_000.0, resets_at_unix_s=NOW + 689)
SECONDARY = Window(used_percent=41.0, length_s=604_800.0, resets_at_unix_s=NOW + 450_000)
NO_CREDITS = Credits(has_credits=False, balance="0")


def window(used_percent: float = 100.0, *, resets_in_s: float | None = None) -> Window:
    resets_at = None if resets_in_s is None else NOW + resets_in_s
    return Window(used_percent=used_percent, resets_at_unix_s=resets_at)


def limits(primary: Window | None = None, secondary: Window | None = None) -> Limits:
    return Limits(observed_unix_s=NOW, primary=primary, secondary=secondary)


def primary_of(headers: dict[str, str]) -> Window | None:
    found = from_headers(headers, now_unix_s=NOW)
    return found.primary if found is not None else None


def test_a_429s_headers_say_plan_windows_credits_and_what_was_reached() -> None:
    headers = {
        name: str(value)
        for name, value in parse_object(sample("error_429_usage_limit_headers.json")).items()
    }
    assert from_headers(headers, now_unix_s=NOW) == Limits(
        observed_unix_s=NOW,
        plan_type="plus",
        primary=attrs.evolve(PRIMARY, used_percent=100.0),
        secondary=SECONDARY,
        reached=True,
        reached_type="rate_limit_reached",
        active_limit="codex",
        credits=NO_CREDITS,
    )


def test_the_event_says_windows_credits_and_whether_the_limit_is_reached() -> None:
    event = parse_object(sample("event_codex_rate_limits.json"))
    assert from_event(event, now_unix_s=NOW) == Limits(
        observed_unix_s=NOW,
        plan_type="plus",
        primary=PRIMARY,
        secondary=SECONDARY,
        reached=False,
        credits=Credits(has_credits=False),
    )


def test_the_usage_endpoint_says_the_limits_of_single_models_too() -> None:
    body = parse_object(sample("usage_response.json"))
    spark = Window(used_percent=0.0, length_s=18_000.0, resets_at_unix_s=1_795_365_089.0)
    assert from_usage(body, now_unix_s=NOW) == Limits(
        observed_unix_s=NOW,
        plan_type="plus",
        primary=PRIMARY,
        secondary=SECONDARY,
        reached=False,
        credits=NO_CREDITS,
        families=(Family(id="codex-bengalfox", name="gpt-5.3-codex-spark", primary=spark),),
    )


def test_windows_are_measured_in_minutes_or_seconds_under_either_name() -> None:
    told = {
        "primary": {"used_percent": 12, "window_minutes": 300, "reset_at": NOW + 689},
        "secondary_window": {
            "used_percent": 41,
            "limit_window_seconds": 604_800,
            "reset_after_seconds": 450_000,
        },
    }
    expected = limits(PRIMARY, SECONDARY)
    assert from_event({"rate_limits": told}, now_unix_s=NOW) == expected
    assert from_usage({"rate_limit": told}, now_unix_s=NOW) == expected


def test_of_the_further_limits_those_that_are_one_are_families() -> None:
    some: JsonObject = {"secondary_window": {"used_percent": 3}}
    entries: list[Json] = [
        {"metered_feature": "codex_z", "limit_name": "Z", "rate_limit": some},
        {"limit_name": "A_model", "rate_limit": some},
        {"metered_feature": "codex", "rate_limit": some},
        {"metered_feature": "codex_empty", "rate_limit": {"primary_window": None}},
        {"metered_feature": "not a name", "rate_limit": some},
    ]
    found = from_usage({"additional_rate_limits": entries}, now_unix_s=NOW)
    assert found is not None
    assert found.families == (
        Family(id="a-model", name="A_model", secondary=window(3.0)),
        Family(id="codex-z", name="Z", secondary=window(3.0)),
    )


def test_a_family_is_told_in_headers_as_the_backend_spells_it() -> None:
    headers = {
        "x-codex-bengalfox-primary-used-percent": "7.5",
        "x-codex-bengalfox-primary-window-minutes": "300",
        "x-codex-bengalfox-limit-name": "gpt-5.2-codex-sonic",
        "x-codex-other-secondary-used-percent": "7",  # without a first window: no family
    }
    found = from_headers(headers, now_unix_s=NOW)
    assert found is not None
    (family,) = found.families
    assert family == Family(
        id="codex-bengalfox",
        name="gpt-5.2-codex-sonic",
        primary=Window(used_percent=7.5, length_s=18_000.0),
    )
    assert (found.primary, found.exhausted) == (None, False)


def test_a_models_own_limit_does_not_exhaust_the_account() -> None:
    headers = {
        "x-codex-active-limit": "codex_bengalfox",
        "x-codex-rate-limit-reached-type": "rate_limit_reached",
        "x-codex-primary-used-percent": "20",
        "x-codex-bengalfox-primary-used-percent": "100",
    }
    found = from_headers(headers, now_unix_s=NOW)
    assert found is not None
    assert (found.reached, found.exhausted) == (None, False)
    found = from_headers(headers | {"x-codex-active-limit": "codex"}, now_unix_s=NOW)
    assert found is not None
    assert (found.reached, found.exhausted) == (True, True)


@pytest.mark.parametrize(
    ("window_headers", "there"),
    [
        pytest.param({"used-percent": "0"}, False, id="zero percent and nothing else"),
        pytest.param(
            {
                "used-percent": "0",
                "window-minutes": "0",
                "reset-after-seconds": "0",
                "reset-at": "",
            },
            False,
            id="as plans without a second window send it",
        ),
        pytest.param({"used-percent": "0", "window-minutes": "300"}, True, id="with minutes"),
        pytest.param({"used-percent": "0", "reset-after-seconds": "9"}, True, id="with a reset"),
        pytest.param({"used-percent": "1"}, True, id="one percent"),
        pytest.param({"window-minutes": "300", "reset-at": "1795350001"}, False, id="no percent"),
        pytest.param({"used-percent": "nan", "window-minutes": "300"}, False, id="NaN percent"),
        pytest.param({"used-percent": "-1", "window-minutes": "300"}, False, id="negative percent"),
        pytest.param({"used-percent": "much", "window-minutes": "300"}, False, id="words"),
        pytest.param({"used-percent": "1e999", "window-minutes": "300"}, False, id="infinite"),
    ],
)
def test_a_window_is_there_if_it_says_something(
    window_headers: dict[str, str], there: bool
) -> None:
    headers = {f"x-codex-primary-{name}": value for name, value in window_headers.items()}
    assert (primary_of(headers) is not None) is there


@pytest.mark.parametrize(
    ("at", "after", "resets_in_s"),
    [
        pytest.param(str(NOW + 60), None, 60, id="the instant"),
        pytest.param(None, "60", 60, id="the seconds alone"),
        pytest.param(str(NOW + 60), "90", 60, id="the instant wins"),
        pytest.param(str(NOW - 1), "90", 90, id="an instant that has passed does not"),
        pytest.param(str((NOW + 60) * 1000), "90", 90, id="nor one in milliseconds"),
        pytest.param("", "90", 90, id="nor an empty one"),
        pytest.param(str(NOW - 1), None, None, id="both useless"),
        pytest.param("soon", "-5", None, id="words and a negative number"),
        pytest.param(None, "1e30", None, id="beyond all windows"),
        pytest.param(None, "59.2", 60, id="whole seconds"),
    ],
)
def test_a_reset_is_read_from_the_instant_else_from_the_seconds(
    at: str | None, after: str | None, resets_in_s: float | None
) -> None:
    headers = {"x-codex-primary-used-percent": "5"}
    if at is not None:
        headers["x-codex-primary-reset-at"] = at
    if after is not None:
        headers["x-codex-primary-reset-after-seconds"] = after
    assert primary_of(headers) == window(5.0, resets_in_s=resets_in_s)


@pytest.mark.parametrize(
    ("text", "has_credits"),
    [("True", True), ("true", True), ("1", True), ("FALSE", False), ("0", False), ("maybe", None)],
)
def test_credits_are_spelled_in_many_ways(text: str, has_credits: bool | None) -> None:
    found = from_headers({"x-codex-credits-has-credits": text}, now_unix_s=NOW)
    assert (found.credits.has_credits if found and found.credits else None) is has_credits


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-codex-turn-state": "x", "content-type": "text/event-stream"},
        {"x-codex-plan-type": "plus", "x-codex-active-limit": "codex"},
        {"x-codex-primary-over-secondary-limit-percent": "0"},
    ],
)
def test_headers_without_a_limit_are_no_limits(headers: dict[str, str]) -> None:
    assert from_headers(headers, now_unix_s=NOW) is None


@pytest.mark.parametrize(
    ("told", "exhausted", "resets_in_s"),
    [
        pytest.param(limits(), False, None, id="nothing known"),
        pytest.param(limits(window(99.9, resets_in_s=5)), False, None, id="nearly full"),
        pytest.param(limits(window(100.0, resets_in_s=5)), True, 5, id="one full"),
        pytest.param(limits(window(104.0)), True, None, id="overfull, reset unknown"),
        pytest.param(
            limits(window(resets_in_s=5), window(resets_in_s=900)), True, 900, id="both full"
        ),
        pytest.param(
            limits(window(resets_in_s=900), window(resets_in_s=5)), True, 900, id="latest counts"
        ),
        pytest.param(
            limits(window(resets_in_s=5), window(50.0, resets_in_s=900)),
            True,
            5,
            id="the other one does not count",
        ),
        pytest.param(
            attrs.evolve(limits(window(50.0, resets_in_s=5)), reached=True),
            True,
            None,
            id="reached, by no window",
        ),
        pytest.param(
            attrs.evolve(limits(window(100.0, resets_in_s=5)), reached=False),
            False,
            5,
            id="not reached, says the backend",
        ),
        pytest.param(
            attrs.evolve(limits(window()), reached=True, credits=Credits(has_credits=True)),
            False,
            None,
            id="credits pay",
        ),
        pytest.param(
            attrs.evolve(limits(window()), credits=Credits(has_credits=False, unlimited=True)),
            False,
            None,
            id="unlimited",
        ),
        pytest.param(
            attrs.evolve(limits(window()), credits=NO_CREDITS), True, None, id="no credits"
        ),
    ],
)
def test_whether_the_next_turn_would_be_refused_and_until_when(
    told: Limits, exhausted: bool, resets_in_s: float | None
) -> None:
    resets_at = None if resets_in_s is None else NOW + resets_in_s
    assert (told.exhausted, told.resets_at_unix_s) == (exhausted, resets_at)


@pytest.mark.parametrize(
    ("main", "reached"),
    [
        ({"limit_reached": True, "allowed": False}, True),
        ({"limit_reached": False, "allowed": True}, False),
        ({"allowed": False}, True),
        ({"allowed": True}, False),
        ({"limit_reached": "?", "primary": {"used_percent": 1}}, None),
    ],
)
def test_the_backends_own_word_on_the_limit(main: JsonObject, reached: bool | None) -> None:
    found = from_event({"rate_limits": main}, now_unix_s=NOW)
    assert found is not None
    assert found.reached is reached


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"rate_limits": None, "rate_limit": None},
        {"rate_limits": [], "rate_limit": "none", "credits": 5},
        {"rate_limits": {"primary": {"used_percent": 10**400}}},
        {"rate_limits": {"primary": {"used_percent": True}}},
        {"rate_limit": {"primary_window": [1]}, "additional_rate_limits": [None, {}, "x"]},
        {"additional_rate_limits": [{"metered_feature": "a b", "rate_limit": {}}]},
        {"additional_rate_limits": {"metered_feature": "codex_x"}},
    ],
)
def test_odd_bodies_say_nothing(odd: JsonObject) -> None:
    assert from_event(odd, now_unix_s=NOW) is None
    assert from_usage(odd, now_unix_s=NOW) is None


def test_everything_observed_of_the_backend_can_be_read() -> None:
    seen = list(_observed_headers())
    told = [from_headers(headers, now_unix_s=_first_reset(headers) - 1) for headers in seen]
    assert len([one for one in told if one is not None and one.primary is not None]) >= 3
    events = [event for event in _observed_frames() if event.get("type") == "codex.rate_limits"]
    assert len(events) >= 3
    assert all(from_event(event, now_unix_s=NOW) is not None for event in events)


def test_a_free_plans_only_window_is_weekly_and_stands_first() -> None:
    headers = next(
        headers
        for headers in _observed_headers()
        if headers.get("x-codex-plan-type") == "free" and "x-codex-primary-reset-at" in headers
    )
    found = from_headers(headers, now_unix_s=_first_reset(headers) - 60)
    assert found is not None
    assert found.primary == Window(
        used_percent=100.0, length_s=604_800.0, resets_at_unix_s=_first_reset(headers)
    )
    assert (found.secondary, found.exhausted) == (None, True)


def test_stored_headers_are_as_the_backend_writes_them() -> None:
    told = attrs.evolve(limits(PRIMARY, window(100.0, resets_in_s=5)), credits=NO_CREDITS)
    assert to_headers(told) == {
        "x-codex-primary-used-percent": "12",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": "1795350689",
        "x-codex-secondary-used-percent": "100",
        "x-codex-secondary-reset-at": "1795350005",
        "x-codex-credits-has-credits": "False",
        "x-codex-credits-unlimited": "False",
        "x-codex-credits-balance": "0",
    }


_words = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=12)
_windows = st.builds(
    Window,
    used_percent=st.floats(0, 200),
    length_s=st.none() | st.integers(1, 50_000).map(lambda minutes: minutes * 60.0),
    resets_at_unix_s=st.none() | st.floats(NOW + 0.01, NOW + 8_000_000),
).filter(lambda w: bool(w.used_percent or w.length_s or w.resets_at_unix_s))
_families = st.builds(
    Family,
    id=st.from_regex(r"codex-[a-z0-9]{1,8}", fullmatch=True),
    name=st.none() | _words,
    primary=st.none() | _windows,
    secondary=_windows,
)
_limits = st.builds(
    Limits,
    observed_unix_s=st.just(NOW),
    plan_type=st.none() | _words,
    primary=_windows,
    secondary=st.none() | _windows,
    reached=st.none() | st.booleans(),
    reached_type=st.none() | _words,
    active_limit=st.none() | st.just("codex"),
    credits=st.none()
    | st.builds(
        Credits, has_credits=st.booleans(), unlimited=st.booleans(), balance=st.none() | _words
    ),
    families=st.lists(_families, max_size=3, unique_by=lambda family: family.id).map(
        lambda families: tuple(sorted(families, key=lambda family: family.id))
    ),
)


@given(told=_limits)
def test_what_is_stored_as_headers_is_read_back(told: Limits) -> None:
    # Headers cannot say "not reached", and "reached" only by its type.
    sayable = attrs.evolve(told, reached=True if told.reached_type else None)
    assert from_headers(to_headers(told), now_unix_s=NOW) == sayable
    assert from_headers(to_headers(sayable), now_unix_s=NOW) == sayable


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_json: st.SearchStrategy[Json] = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "rate_limit",
                    "rate_limits",
                    "primary",
                    "primary_window",
                    "used_percent",
                    "window_minutes",
                    "reset_at",
                    "reset_after_seconds",
                    "additional_rate_limits",
                    "metered_feature",
                    "limit_name",
                    "credits",
                    "has_credits",
                    "balance",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_header_names = st.from_regex(
    r"x-codex-(a-)?(primary|secondary|credits)-"
    r"(used-percent|window-minutes|reset-at|reset-after-seconds|has-credits|balance)",
    fullmatch=True,
)
_header_values = st.text(max_size=6) | st.floats().map(str) | st.integers().map(str)


_top = st.sampled_from(["rate_limit", "rate_limits", "credits", "additional_rate_limits"])


@given(body=st.dictionaries(_top, _json))
def test_no_body_raises(body: JsonObject) -> None:
    for found in (from_event(body, now_unix_s=NOW), from_usage(body, now_unix_s=NOW)):
        assert found is None or all(to_headers(found).values())


@given(headers=st.dictionaries(_header_names, _header_values))
def test_no_headers_raise_and_what_they_say_survives_being_stored(headers: dict[str, str]) -> None:
    found = from_headers(headers, now_unix_s=NOW)
    if found is not None:
        assert from_headers(to_headers(found), now_unix_s=NOW) == found


_told_instants = ["0", f"{NOW + 2:g}", f"{NOW + 3.5:g}", f"{NOW + 600:.0f}", f"{NOW - 9:.0f}", "x"]
_answers = st.fixed_dictionaries(
    {"x-codex-primary-used-percent": st.sampled_from(["12", "100"])},
    optional={
        "x-codex-primary-reset-at": st.sampled_from(_told_instants),
        "x-codex-primary-reset-after-seconds": st.sampled_from(["0", "2", "3.5", "600", "-1"]),
        "x-codex-secondary-used-percent": st.sampled_from(["0", "3"]),
        "x-codex-secondary-reset-at": st.sampled_from(_told_instants),
        "x-codex-secondary-reset-after-seconds": st.sampled_from(["0", "2", "600"]),
        "x-codex-plan-type": st.sampled_from(["plus", "pro"]),
        "x-codex-bengalfox-primary-used-percent": st.sampled_from(["0", "7"]),
        "x-codex-bengalfox-primary-reset-at": st.sampled_from(_told_instants),
        "x-other-primary-used-percent": st.just("5"),
        "x-other-primary-reset-after-seconds": st.sampled_from(["2", "600"]),
        "x-codex-turn-state": st.text(max_size=2),
        "date": st.text(max_size=2),
    },
)


@given(
    answers=st.lists(_answers, min_size=1, max_size=3),
    told=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.25, 1.0, 2.5, -1.0, 700.0]))
    ),
)
def test_one_accounts_headers_are_read_as_each_of_them_would_be(
    answers: list[dict[str, str]], told: list[tuple[int, float]]
) -> None:
    reader, now = HeaderReader(), NOW
    for which, later_s in told:
        now += later_s
        headers = answers[which % len(answers)]
        assert reader.read(headers, now_unix_s=now) == from_headers(headers, now_unix_s=now)


def test_headers_that_say_nothing_new_are_not_read_again_until_a_reset() -> None:
    reader, headers = HeaderReader(), to_headers(limits(window(12.0, resets_in_s=60.0), SECONDARY))
    turn = iter(range(100))

    def read(after_s: float) -> Limits:
        said = headers | {
            "x-codex-turn-state": f"ts-{next(turn)}",
            "x-codex-primary-reset-after-seconds": f"{60 - after_s:g}",
        }
        found = reader.read(said, now_unix_s=NOW + after_s)
        assert found is not None
        return found

    first, second, third = read(0), read(1.5), read(60)
    assert second == attrs.evolve(first, observed_unix_s=NOW + 1.5)
    assert second.primary is first.primary
    assert third.primary == window(12.0), "it has passed, and what begins then is not told"


def _observed_headers() -> Iterator[dict[str, str]]:
    for fact in observed():
        held = [get_object(fact, "headers")]
        held += [get_object(frame, "headers") for frame in _frames_of(fact)]
        for headers in held:
            lower = {name.lower(): str(value) for name, value in headers.items()}
            if any(name.startswith("x-codex-primary") for name in lower):
                yield lower


def _observed_frames() -> Iterator[JsonObject]:
    for fact in observed():
        yield from _frames_of(fact)


def _frames_of(fact: JsonObject) -> Iterator[JsonObject]:
    for frame in get_list(fact, "frames"):
        if is_object(frame):
            yield frame


def _first_reset(headers: dict[str, str]) -> float:
    return float(headers.get("x-codex-primary-reset-at") or NOW)
