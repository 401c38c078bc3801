"""The speed that the relay promises, and whether a run shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.bridges import HTTP_WS, SSE_SSE, WS_HTTP, WS_WS
from benchmarks.subject import CODEXRELAY
from benchmarks.table import NOTHING, short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.figures import Figures


@attrs.frozen(kw_only=True)
class Target:
    """A bound on one figure."""

    measurement: str
    metric: str
    label: str
    #: Holds at the limit itself.
    limit: float
    #: The figure must not fall below the limit; otherwise it must not rise above it.
    at_least: bool = False
    #: Whose figure.
    subject: str = CODEXRELAY
    #: Another subject: the figure is the ratio to its own.
    base: str | None = None

    def value(self, figures: Figures) -> float | None:
        """Return the figure; None if it was not measured."""
        values = figures.get(self.measurement, {}).get(self.metric, {})
        value = values.get(self.subject)
        if value is None or self.base is None:
            return value
        base = values.get(self.base)
        return value / base if base else None

    def verdict(self, value: float | None) -> str:
        """Return `ok` or `missed`, or `not measured` for None."""
        if value is None:
            return "not measured"
        kept = value >= self.limit if self.at_least else value <= self.limit
        return "ok" if kept else "missed"


TARGETS: Final = (
    Target(
        measurement="first-event",
        metric="first",
        label="added time to first event p50, ms",
        limit=2.5,
    ),
    Target(
        measurement="burst",
        metric="rate",
        label="Responses burst, events/s",
        limit=100_000,
        at_least=True,
    ),
    Target(
        measurement="chat-burst",
        metric="rate",
        label="Chat burst, events/s",
        limit=40_000,
        at_least=True,
    ),
    Target(measurement="50x50", metric="p99", label="50 x 50/s: latency p99, ms", limit=5),
    Target(
        measurement="200x50",
        metric="finished",
        label="200 x 50/s: finished",
        limit=200,
        at_least=True,
    ),
    Target(
        measurement="500x5",
        metric="finished",
        label="500 x 5/s: finished",
        limit=500,
        at_least=True,
    ),
    Target(measurement="500x5", metric="p99", label="500 x 5/s: latency p99, ms", limit=60),
    Target(
        measurement="big-body",
        metric="first",
        label="5 MB request: added ms to first event",
        limit=25,
    ),
    Target(measurement="memory", metric="idle", label="idle RSS, MB", limit=80),
    Target(measurement="memory", metric="start", label="start to listening, s", limit=1.0),
    *(
        Target(
            measurement=measurement,
            metric="cpu",
            label=f"{measurement}, {bridge}: CPU per event, as a ratio to {SSE_SSE}",
            limit=1.3,
            subject=bridge,
            base=SSE_SSE,
        )
        for measurement in ("ws-burst", "ws-200x50", "ws-200x5")
        for bridge in (WS_WS, WS_HTTP, HTTP_WS)
    ),
    Target(
        measurement="ws-first",
        metric="first",
        label=f"warm connections, {WS_WS}: time to first event, as a ratio to {SSE_SSE}",
        limit=1.0,
        subject=WS_WS,
        base=SSE_SSE,
    ),
    Target(
        measurement="ws-200x50",
        metric="finished",
        label=f"200 x 50/s, {WS_WS}: finished",
        limit=200,
        at_least=True,
        subject=WS_WS,
    ),
)


def targets_table(targets: Iterable[Target], figures: Figures) -> str:
    """Return the targets with figures and verdicts, as a table in Markdown."""
    lines = ["| target | limit | measured | |", "| --- | --- | --- | --- |"]
    for target in targets:
        value = target.value(figures)
        sign = "≥" if target.at_least else "≤"
        measured = NOTHING if value is None else short(value)
        lines.append(
            f"| {target.label} | {sign} {short(target.limit)} | {measured} "
            f"| {target.verdict(value)} |"
        )
    return "\n".join(lines)
