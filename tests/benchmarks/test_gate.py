"""The gate's judging, with made-up figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import bounds
from benchmarks.gate import Bound, CpuRatios, Verdict, calls_bounds, cpu_bounds, judge
from benchmarks.measurements import MEASUREMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.measurements import Measurement

CALLS = Bound(what="a: calls", noted=1000.0, tell_at=1.1, fail_at=1.1)
CPU = Bound(what="a: CPU", noted=10.0, tell_at=1.3, fail_at=2.0)


def looks(*figures: float) -> tuple[list[tuple[str, ...]], object]:
    """Return what was asked for, and a look that answers with these figures in turn."""
    asked: list[tuple[str, ...]] = []
    left = list(figures)

    def look(names: Iterable[str]) -> dict[str, float]:
        asked.append(tuple(names))
        return dict.fromkeys(asked[-1], left.pop(0))

    return asked, look


@pytest.mark.parametrize(
    ("bound", "figure", "verdict"),
    [
        (CALLS, 900.0, Verdict.STALE),
        (CALLS, 910.0, Verdict.KEPT),
        (CALLS, 1100.0, Verdict.KEPT),
        (CALLS, 1101.0, Verdict.FAILED),
        (CALLS, 1300.0, Verdict.FAILED),
        (CPU, 4.9, Verdict.STALE),
        (CPU, 5.0, Verdict.KEPT),
        (CPU, 13.0, Verdict.KEPT),
        (CPU, 13.1, Verdict.TOLD),
        (CPU, 20.0, Verdict.TOLD),
        (CPU, 20.1, Verdict.FAILED),
    ],
)
def test_a_figure_is_judged_by_how_far_it_is_above_the_noted_one(
    bound: Bound, figure: float, verdict: Verdict
) -> None:
    assert bound.verdict(figure) is verdict


def test_a_relay_that_takes_a_third_more_calls_for_a_request_does_not_pass() -> None:
    for name in ("first-event", "chat"):
        bound = calls_bounds()[name]
        assert bound.verdict(bounds.CALLS[name]) is Verdict.KEPT
        assert bound.verdict(bounds.CALLS[name] * 1.3) is Verdict.FAILED


def test_a_relay_that_takes_a_third_more_calls_for_an_event_is_told_of() -> None:
    for name in ("burst", "chat-burst"):
        bound = calls_bounds()[name]
        assert bound.verdict(bounds.CALLS[name] * 1.3) is Verdict.TOLD
        assert bound.verdict(bounds.CALLS[name] * 2.6) is Verdict.FAILED


def test_a_relay_that_takes_a_third_more_cpu_is_told_of() -> None:
    for name, bound in cpu_bounds().items():
        assert bound.verdict(bounds.CPU_RATIOS[name]) is Verdict.KEPT
        assert bound.verdict(bounds.CPU_RATIOS[name] * 1.31) is Verdict.TOLD
        assert bound.verdict(bounds.CPU_RATIOS[name] * 2.01) is Verdict.FAILED


def test_every_bound_is_of_a_measurement() -> None:
    names = {measurement.name for measurement in MEASUREMENTS}
    assert {*bounds.CALLS, *bounds.CPU_RATIOS} <= names


def test_what_passes_is_looked_at_once() -> None:
    asked, look = looks(1000.0)
    said: list[str] = []
    assert judge({"a": CALLS}, look, said.append)  # type: ignore[arg-type]
    assert asked == [("a",)]
    assert said == ["a: calls: 1000, noted 1000, +0%, fails at +10%: ok"]


def test_what_fails_is_looked_at_again_and_the_better_figure_counts() -> None:
    asked, look = looks(25.0, 15.0)
    said: list[str] = []
    assert judge({"a": CPU}, look, said.append)  # type: ignore[arg-type]
    assert asked == [("a",), ("a",)]
    assert said == [
        "looking again: a",
        "a: CPU: 15, noted 10, +50%, fails at +100%: DEARER: look whether it is the change",
    ]


def test_only_what_failed_is_looked_at_again() -> None:
    asked: list[tuple[str, ...]] = []

    def look(names: Iterable[str]) -> dict[str, float]:
        asked.append(tuple(names))
        return {"a": 25.0, "b": 10.0}

    assert not judge({"a": CPU, "b": CPU}, look, lambda _: None)
    assert asked == [("a", "b"), ("a",)]


def test_the_cheapest_rounds_are_compared() -> None:
    relay, bare_trio = iter([30.0, 20.0, 40.0, 50.0, 18.0, 60.0]), iter([2.0, 5.0, 1.0] * 2)

    def of(figures: Iterable[float]) -> object:
        each = iter(figures)

        def measured(_: Measurement) -> float:
            return next(each)

        return measured

    ratios = CpuRatios(of(relay), of(bare_trio))  # type: ignore[arg-type]
    assert ratios(["burst"]) == {"burst": 20.0}
    # A second look goes on from the first.
    assert ratios(["burst"]) == {"burst": 18.0}
