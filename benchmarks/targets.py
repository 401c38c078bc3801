"""The speed that the relay promises, and whether a run shows it.

Absolute limits were set on one machine, and machines differ by a factor of three. So a target may
also be a ratio to a yardstick of the same run: what the limit was there, divided by what the
yardstick took there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.bridges import HTTP_WS, SSE_SSE, WS_HTTP, WS_WS
from benchmarks.subject import BARE_TRIO, CODEXRELAY, NGINX
from benchmarks.table import NOTHING, short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.figures import Figures


@attrs.frozen
class Ratio:
    """A bound on the figure divided by that of another subject of the same run."""

    base: str
    limit: float


@attrs.frozen(kw_only=True)
class Target:
    """A bound on one figure: absolute, as a ratio, or both."""

    measurement: str
    metric: str
    label: str
    #: Holds at the limit itself; None: only the ratio counts.
    limit: float | None = None
    #: The first whose base was measured counts.
    ratios: tuple[Ratio, ...] = ()
    #: The figure must not fall below the limit; otherwise it must not rise above it.
    at_least: bool = False
    #: Whose figure.
    subject: str = CODEXRELAY

    def judge(self, figures: Figures) -> Judged:
        """Return what the figures say of it."""
        values = figures.get(self.measurement, {}).get(self.metric, {})
        value = values.get(self.subject)
        if value is None:
            return Judged(target=self)
        for ratio in self.ratios:
            if (base := values.get(ratio.base, 0.0)) > 0:
                return Judged(target=self, value=value, ratio=ratio, measured_ratio=value / base)
        return Judged(target=self, value=value)

    def keeps(self, value: float, limit: float) -> bool:
        """Tell whether a figure keeps a limit."""
        return value >= limit if self.at_least else value <= limit

    def said(self, limit: float) -> str:
        """Return the limit with its sign."""
        return f"{'≥' if self.at_least else '≤'} {short(limit)}"


@attrs.frozen(kw_only=True)
class Judged:
    """A target beside the figures of one run."""

    target: Target
    #: None: not measured.
    value: float | None = None
    #: The ratio that counts; None: no base was measured.
    ratio: Ratio | None = None
    measured_ratio: float | None = None

    @property
    def kept(self) -> bool | None:
        """Whether one of the limits holds; None: nothing to judge by."""
        known = [each for each in (self._absolutely, self._as_ratio) if each is not None]
        return any(known) if known else None

    @property
    def verdict(self) -> str:
        """Say whether it holds, and by which of the two limits."""
        match (self._absolutely, self._as_ratio):
            case (None, None):
                return "not measured"
            case (True, False):
                return "ok (not as a ratio: a fast machine)"
            case (False, True):
                return "ok as a ratio: a slow machine"
            case (False, _) | (_, False):
                return "missed"
            case _:
                return "ok"

    @property
    def _absolutely(self) -> bool | None:
        if self.value is None or self.target.limit is None:
            return None
        return self.target.keeps(self.value, self.target.limit)

    @property
    def _as_ratio(self) -> bool | None:
        if self.ratio is None or self.measured_ratio is None:
            return None
        return self.target.keeps(self.measured_ratio, self.ratio.limit)


def _finished(streams: int, per_s: int) -> Target:
    """Return the demand that every stream comes to its end."""
    return Target(
        measurement=f"{streams}x{per_s}",
        metric="finished",
        label=f"(c) {streams} x {per_s}/s: finished",
        limit=streams,
        at_least=True,
    )


def _bare_trio(limit: float, there: float) -> tuple[Ratio, ...]:
    """Return the limit as a ratio to bare trio, which took `there` where the limit was set."""
    return (Ratio(BARE_TRIO, limit / there),)


#: The letters are those of the table in README.md.
TARGETS: Final = (
    Target(
        measurement="first-event",
        metric="first",
        label="(a) added time to first event p50, ms",
        limit=0.6,
        ratios=_bare_trio(0.6, 0.06),
    ),
    Target(
        measurement="first-event",
        metric="cpu",
        label="(a) CPU per request, ms",
        limit=0.6,
        ratios=_bare_trio(0.6, 0.07),
    ),
    # nginx's own figures are the limit: 1.25 M/s and 0.69 µs where bare trio had 3.0 M and 0.24.
    Target(
        measurement="burst",
        metric="rate",
        label="(b) Responses burst, events/s",
        ratios=(Ratio(NGINX, 1.0), *_bare_trio(1.25, 3.0)),
        at_least=True,
    ),
    Target(
        measurement="burst",
        metric="cpu",
        label="(b) Responses burst, CPU per event, µs",
        ratios=(Ratio(NGINX, 1.0), *_bare_trio(0.69, 0.24)),
    ),
    _finished(200, 50),
    Target(
        measurement="200x50",
        metric="p50",
        label="(c) 200 x 50/s: latency p50, ms",
        limit=0.5,
        ratios=_bare_trio(0.5, 0.11),
    ),
    Target(
        measurement="200x50",
        metric="p99",
        label="(c) 200 x 50/s: latency p99, ms",
        limit=5,
        ratios=_bare_trio(5, 0.7),
    ),
    Target(
        measurement="200x50",
        metric="cpu",
        label="(c) 200 x 50/s: CPU per event, µs",
        limit=40,
        ratios=_bare_trio(40, 51),
    ),
    _finished(500, 50),
    Target(
        measurement="500x50",
        metric="p50",
        label="(c) 500 x 50/s: latency p50, ms",
        limit=1,
        ratios=_bare_trio(1, 2.7),
    ),
    Target(
        measurement="500x50",
        metric="p99",
        label="(c) 500 x 50/s: latency p99, ms",
        limit=10,
        ratios=_bare_trio(10, 27),
    ),
    Target(
        measurement="500x50",
        metric="cpu",
        label="(c) 500 x 50/s: CPU per event, µs",
        limit=33,
        ratios=_bare_trio(33, 40),
    ),
    _finished(500, 5),
    Target(
        measurement="500x5",
        metric="p50",
        label="(c) 500 x 5/s: latency p50, ms",
        limit=0.5,
        ratios=_bare_trio(0.5, 0.11),
    ),
    # Bare trio answered 8 k to 22 k requests per second there: the middle.
    Target(
        measurement="chat",
        metric="rate",
        label="(d) Chat, not streamed, requests/s",
        limit=1500,
        ratios=_bare_trio(1500, 15_000),
        at_least=True,
    ),
    # Bare trio only forwards what the relay translates; 5.0 M/s on the same machine.
    Target(
        measurement="chat-burst",
        metric="rate",
        label="(e) Chat burst, events/s",
        limit=200_000,
        ratios=_bare_trio(200_000, 5_000_000),
        at_least=True,
    ),
    Target(
        measurement="big-body",
        metric="first",
        label="(f) 5 MB request: added ms to first event",
        limit=8,
        ratios=_bare_trio(8, 3.7),
    ),
    Target(
        measurement="memory",
        metric="start",
        label="(g) start to listening, s",
        limit=0.5,
        ratios=_bare_trio(0.5, 0.1),
    ),
    # Memory does not depend on how fast a machine is.
    Target(measurement="memory", metric="idle", label="(g) idle RSS, MiB", limit=60),
    Target(measurement="memory", metric="stream", label="(g) RSS per open stream, KiB", limit=20),
    *(
        Target(
            measurement=measurement,
            metric="cpu",
            label=f"{measurement}, {bridge}: CPU per event, µs",
            ratios=(Ratio(SSE_SSE, 1.3),),
            subject=bridge,
        )
        for measurement in ("ws-burst", "ws-200x50", "ws-200x5")
        for bridge in (WS_WS, WS_HTTP, HTTP_WS)
    ),
    Target(
        measurement="ws-first",
        metric="first",
        label=f"warm connections, {WS_WS}: time to first event, ms",
        ratios=(Ratio(SSE_SSE, 1.0),),
        subject=WS_WS,
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


def judged(figures: Figures, subjects: Iterable[str]) -> list[Judged]:
    """Return every target of one of the subjects whose measurement was made."""
    known = set(subjects)
    return [
        target.judge(figures)
        for target in TARGETS
        if target.measurement in figures and target.subject in known
    ]


HEAD: Final = ("target", "limit", "measured", "as a ratio", "measured", "verdict")


def cells(judged: Judged) -> tuple[str, ...]:
    """Return one line of the table under `HEAD`."""
    target, ratio = judged.target, judged.ratio
    return (
        target.label,
        NOTHING if target.limit is None else target.said(target.limit),
        NOTHING if judged.value is None else short(judged.value),
        NOTHING if ratio is None else f"{target.said(ratio.limit)} x {ratio.base}",
        NOTHING if judged.measured_ratio is None else short(judged.measured_ratio),
        judged.verdict,
    )


def targets_table(judged: Iterable[Judged]) -> str:
    """Return the targets with figures and verdicts, as a table in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *map(cells, judged)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
