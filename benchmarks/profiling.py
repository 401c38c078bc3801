"""`python -m benchmarks.profiling`: what the relay's CPU time goes to, room by room.

py-spy looks at the relay from outside, where it is installed (group `bench`) and allowed to; else
the relay notes its own stack. Both see Python functions only: time in C and in the kernel counts
for the function that called it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.arguments import RESULTS
from benchmarks.build import build
from benchmarks.load import LoadGenerator
from benchmarks.measurements import MEASUREMENTS, Measurement
from benchmarks.observing import SAMPLES, start_observed
from benchmarks.processes import allow_many_sockets, ended_by_sigterm, user_and_system_s
from benchmarks.relay import start_relay
from benchmarks.stacks import Stack, collapsed, flame, functions, read_stacks, shares
from benchmarks.stub import start_stub
from benchmarks.subject import MeasurementError, Subject
from benchmarks.table import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Report, Work

PY_SPY: Final = "py-spy"
INSIDE: Final = "inside"
_RATE_HZ: Final = 300
_WARM_UP_S: Final = 0.5
#: For py-spy to look around before, and to write behind.
_AROUND_S: Final = 20.0
_FUNCTIONS: Final = 25
#: Fewer samples than this are no profile.
_FEWEST: Final = 50


@attrs.frozen(kw_only=True)
class Profile:
    """Where the relay was, again and again, while one piece of work went through it."""

    measurement: Measurement
    #: Who looked: `PY_SPY` or `INSIDE`.
    sampler: str
    stacks: Counter[Stack]
    #: CPU for each request or event, µs.
    cpu_us: float
    #: Of this time, 0 to 1.
    kernel_share: float

    def table(self) -> str:
        """Return rooms and functions in Markdown."""
        unit = self.measurement.per
        lines = [
            f"{self.measurement.name}: {short(self.cpu_us)} µs of CPU for each {unit}, "
            f"{self.kernel_share:.0%} of it in the kernel; {self.stacks.total():,} samples "
            f"({self.sampler})",
            "",
            f"| room | own | own, µs/{unit} | with the libraries it calls | the same, µs/{unit} |",
            "| --- | --- | --- | --- | --- |",
            *(
                f"| {share.room} | {share.own:.1%} | {short(share.own * self.cpu_us)} "
                f"| {share.caused:.1%} | {short(share.caused * self.cpu_us)} |"
                for share in shares(self.stacks)
            ),
            "",
            "| function | own | with all it calls |",
            "| --- | --- | --- |",
            *(
                f"| `{name}` | {own:.1%} | {within:.1%} |"
                for name, own, within in functions(self.stacks)[:_FUNCTIONS]
            ),
        ]
        return "\n".join(lines)


def main() -> None:
    """Profile what the command line asks for."""
    known = {measurement.name: measurement for measurement in MEASUREMENTS}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiling",
        description="Show what the relay's CPU time goes to, room by room.",
    )
    parser.add_argument("--only", default="first-event", help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=float, default=8.0, help="of work")
    parser.add_argument("--sampler", choices=(PY_SPY, INSIDE), help="the first that works")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    ended_by_sigterm()
    allow_many_sockets()
    samplers = (given.sampler,) if given.sampler else (PY_SPY, INSIDE)
    given.results.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            profile = _first_that_works(known[name], given.seconds, samplers)
            print(f"{profile.table()}\n", flush=True)
            stem = given.results / f"profile-{name}"
            stem.with_suffix(".stacks").write_text(collapsed(profile.stacks), "utf-8")
            page = flame(profile.stacks, title=f"codexrelay: {name}")
            stem.with_suffix(".html").write_text(page, "utf-8")
            print(f"written: {stem}.html, {stem}.stacks", file=sys.stderr)
    except MeasurementError as error:
        sys.exit(f"benchmarks: {error}")


def _first_that_works(
    measurement: Measurement, seconds: float, samplers: tuple[str, ...]
) -> Profile:
    *others, last = samplers
    for sampler in others:
        try:
            return profiled(measurement, seconds, sampler)
        except MeasurementError as reason:
            print(f"{sampler}: {reason}", file=sys.stderr)
    return profiled(measurement, seconds, last)


def profiled(measurement: Measurement, seconds: float, sampler: str) -> Profile:
    """Start stub and relay, send the work through, and look.

    Raises:
        MeasurementError: something did not start, or the sampler saw nothing.
    """
    work = _lasting(measurement.work(1.0), seconds)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="profile-")))
        build(folder)
        stub = start_stub(stack, folder, port=0)
        load = LoadGenerator(folder)
        file = folder / "stacks"
        if sampler == PY_SPY:
            program = _py_spy()
            relay = start_relay(stack, stub_url=stub.url, folder=folder)
            looking = _looked_at(program, relay, work, file)
        else:
            observed = start_observed(stack, stub_url=stub.url, folder=folder, kind=SAMPLES)
            relay, file, looking = observed.subject, observed.file, observed.observed()
        assert relay.pid is not None
        load.run(relay, _lasting(measurement.work(0.1), _WARM_UP_S))
        user_s, system_s = user_and_system_s(relay.pid)
        with looking:
            report = load.run(relay, work)
        user_s, system_s = (
            now - before
            for now, before in zip(user_and_system_s(relay.pid), (user_s, system_s), strict=True)
        )
        stacks = read_stacks(file.read_text("utf-8").splitlines())
    if stacks.total() < _FEWEST:
        raise MeasurementError(f"only {stacks.total()} samples")
    return Profile(
        measurement=measurement,
        sampler=sampler,
        stacks=stacks,
        cpu_us=_cpu_us(measurement, report),
        kernel_share=system_s / (user_s + system_s or 1.0),
    )


def _lasting(work: Work, seconds: float) -> Work:
    """Return work of that length; paced work has its own."""
    if work.once_within_ms is not None:
        return work
    return attrs.evolve(work, limit_s=seconds, max_requests=0)


def _cpu_us(measurement: Measurement, report: Report) -> float:
    units = report.complete if measurement.per == "request" else report.events
    if report.cpu_s is None or not units:
        raise MeasurementError(report.complaint() or "nothing came back")
    return report.cpu_s / units * 1e6


def _py_spy() -> str:
    beside = str(Path(sys.executable).parent)
    program = shutil.which(PY_SPY, path=beside) or shutil.which(PY_SPY)
    if program is None:
        raise MeasurementError("it is not installed (group bench)")
    return program


@contextlib.contextmanager
def _looked_at(program: str, relay: Subject, work: Work, file: Path) -> Iterator[None]:
    """Let py-spy look at the relay in the block; it ends by itself.

    Raises:
        MeasurementError: it may not, or failed otherwise.
    """
    command = [program, "record", "--pid", str(relay.pid), "--rate", str(_RATE_HZ)]
    command += ["--format", "raw", "--function", "--full-filenames", "--output", str(file)]
    command += ["--duration", str(max(1, round(work.limit_s)))]
    said = file.with_suffix(".said")
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield
            process.wait(_AROUND_S)
        except subprocess.TimeoutExpired:
            raise MeasurementError("it did not end") from None
        finally:
            process.kill()
    if process.returncode or not file.exists():
        words = said.read_text("utf-8", errors="replace").strip().splitlines()
        raise MeasurementError(words[0] if words else "it failed")


if __name__ == "__main__":
    main()
