"""`python -m benchmarks.gate`: has a change made the relay dearer? Part of `.ci/run`.

Two looks at it. *Calls* for each request hardly vary, so that a quarter more fails; those for each
event vary with the size of blocks. *CPU* for each is compared with bare trio in one interleaved
run: the cheapest of several rounds of the one by the cheapest of the other. It sees what no count
of calls does, such as a slow call, and varies with the neighbours on the machine: so only twice as
much fails, after a second look.
"""

from __future__ import annotations

import contextlib
import enum
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from benchmarks import bounds
from benchmarks.build import build
from benchmarks.calls import count
from benchmarks.load import LoadGenerator
from benchmarks.measurements import MEASUREMENTS, Measurement
from benchmarks.processes import allow_many_sockets, ended_by_sigterm
from benchmarks.relay import start_relay
from benchmarks.stub import start_stub
from benchmarks.subject import BARE_TRIO, MeasurementError, Subject
from benchmarks.table import short
from benchmarks.yardsticks import start_script

#: Measures what it is told to; returns a figure by measurement.
Look = Callable[[Iterable[str]], Mapping[str, float]]

_ROUNDS: Final = 3
#: Short: a gate that takes long is left out.
_SCALE: Final = 0.15
_BY_NAME: Final = {measurement.name: measurement for measurement in MEASUREMENTS}


class Verdict(enum.Enum):
    """How a figure stands to what was noted."""

    KEPT = "ok"
    #: Nothing is wrong, but a change could cost so much more unseen.
    STALE = "much cheaper: note it anew in benchmarks/bounds.py"
    TOLD = "DEARER: look whether it is the change"
    FAILED = "FAILED"


@attrs.frozen(kw_only=True)
class Bound:
    """What was noted of one figure, and how much more is too much."""

    what: str
    noted: float
    #: Multiples of `noted`.
    tell_at: float
    fail_at: float

    def verdict(self, figure: float) -> Verdict:
        """Judge one figure."""
        if figure > self.noted * self.fail_at:
            return Verdict.FAILED
        if figure * self.fail_at < self.noted:
            return Verdict.STALE
        return Verdict.TOLD if figure > self.noted * self.tell_at else Verdict.KEPT

    def said(self, figure: float) -> str:
        """Return the line that a person reads."""
        return (
            f"{self.what}: {short(figure)}, noted {short(self.noted)}, "
            f"{figure / self.noted - 1:+.0%}, fails at {self.fail_at - 1:+.0%}: "
            f"{self.verdict(figure).value}"
        )


def calls_bounds() -> dict[str, Bound]:
    """Return the bounds of the calls, by measurement."""
    return {
        name: Bound(
            what=f"{name}: calls for each {_BY_NAME[name].per}",
            noted=noted,
            tell_at=bounds.CALLS_TELL_AT,
            fail_at=bounds.CALLS_FAIL_AT[name],
        )
        for name, noted in bounds.CALLS.items()
    }


def cpu_bounds() -> dict[str, Bound]:
    """Return the bounds of the CPU, by measurement."""
    return {
        name: Bound(
            what=f"{name}: CPU for each {_BY_NAME[name].per}, in multiples of bare trio's",
            noted=noted,
            tell_at=bounds.CPU_TELL_AT,
            fail_at=bounds.CPU_FAIL_AT,
        )
        for name, noted in bounds.CPU_RATIOS.items()
    }


def judge(known: Mapping[str, Bound], look: Look, say: Callable[[str], None]) -> bool:
    """Look, look again at what failed, and tell whether all is well; the better figure counts."""
    figures = dict(look(known))
    failed = [name for name, bound in known.items() if _fails(bound, figures[name])]
    if failed:
        say(f"looking again: {', '.join(failed)}")
        again = look(failed)
        figures |= {name: min(figures[name], again[name]) for name in failed}
    for name, bound in known.items():
        say(bound.said(figures[name]))
    return not any(_fails(bound, figures[name]) for name, bound in known.items())


def _fails(bound: Bound, figure: float) -> bool:
    return bound.verdict(figure) is Verdict.FAILED


def calls_by_name(names: Iterable[str]) -> dict[str, float]:
    """Count the calls; a `Look`."""
    return {counted.measurement.name: counted.all for counted in count(tuple(names))}


@attrs.frozen
class CpuRatios:
    """Compares the relay with bare trio; a `Look`."""

    #: Return the CPU that one piece of work took, for each request or event.
    relay: Callable[[Measurement], float]
    bare_trio: Callable[[Measurement], float]
    #: The least that was ever seen, of the relay and of bare trio.
    _least: dict[str, tuple[float, float]] = attrs.field(factory=dict, init=False)

    def __call__(self, names: Iterable[str]) -> dict[str, float]:
        """Measure a few rounds, interleaved, and return the ratios of the cheapest ones."""
        names = tuple(names)
        for _ in range(_ROUNDS):
            for name in names:
                measurement = _BY_NAME[name]
                bare_trio, relay = self.bare_trio(measurement), self.relay(measurement)
                before = self._least.get(name, (relay, bare_trio))
                self._least[name] = (min(before[0], relay), min(before[1], bare_trio))
        return {name: self._least[name][0] / self._least[name][1] for name in names}


@contextlib.contextmanager
def cpu_ratios() -> Iterator[CpuRatios]:
    """Start the relay and bare trio, to be compared in the block.

    Raises:
        MeasurementError: something did not start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-")))
        build(folder)
        stub = start_stub(stack, folder, port=0)
        load = LoadGenerator(folder)

        def cpu_of(subject: Subject) -> Callable[[Measurement], float]:
            def measured(measurement: Measurement) -> float:
                report = load.run(subject, measurement.work(_SCALE))
                return measurement.read(report, subject)["cpu"]

            return measured

        bare_trio = start_script(
            stack, BARE_TRIO, "bare_trio.py", upstream_url=stub.url, folder=folder
        )
        relay = start_relay(stack, stub_url=stub.url, folder=folder)
        yield CpuRatios(cpu_of(relay), cpu_of(bare_trio))


def main() -> None:
    """Judge this tree; the exit status says whether it passes."""
    ended_by_sigterm()
    allow_many_sockets()

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        try:
            fine = _look(say)
        except MeasurementError as error:  # a machine too busy to start something in time
            say(f"once more: {error}")
            fine = _look(say)
    except MeasurementError as error:
        sys.exit(f"benchmarks: {error}")
    if not fine:
        sys.exit(
            "The relay has become dearer. `python -m benchmarks.calls` and `make profile` show "
            "where; what it is worth is noted in benchmarks/bounds.py."
        )


def _look(say: Callable[[str], None]) -> bool:
    """Look at both, and tell whether all is well.

    Raises:
        MeasurementError: something did not start or gave no figure.
    """
    if sys.version_info[:2] == bounds.CALLS_PYTHON:
        fine = judge(calls_bounds(), calls_by_name, say)
    else:
        fine = True
        say(f"calls: not judged: they were noted with Python {bounds.CALLS_PYTHON}")
    with cpu_ratios() as ratios:
        return judge(cpu_bounds(), ratios, say) and fine


if __name__ == "__main__":
    main()
