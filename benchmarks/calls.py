"""`python -m benchmarks.calls`: how many calls a request or an event takes, room by room.

CPU time on a shared machine varies by a factor of three; the number of calls hardly does. Counted
are calls of functions written in Python and of those written in C, by the relay's main thread,
while the usual work goes through it. What threads do is not counted, handing over to them is.
"""

from __future__ import annotations

import argparse
import contextlib
import marshal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.build import build
from benchmarks.load import LoadGenerator
from benchmarks.measurements import MEASUREMENTS, Measurement
from benchmarks.observing import CALLS, start_observed
from benchmarks.processes import allow_many_sockets, ended_by_sigterm
from benchmarks.rooms import C, room_of
from benchmarks.stub import start_stub
from benchmarks.subject import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.load import Work
    from benchmarks.observing import ObservedRelay

#: File, line, name.
Function = tuple[str, int, str]
#: What cProfile writes: primitive calls, all calls, own and whole time, and who called how often.
Profile = dict[Function, tuple[int, int, float, float, dict[Function, tuple[int, ...]]]]

#: Those whose figure hardly depends on how fast the machine is.
STEADY: Final = ("first-event", "chat", "burst", "chat-burst")
_WARM_UP_REPLIES: Final = 40
#: Replies that are counted, by what the figure is for.
_REPLIES: Final = {"request": 150, "event": 16}
#: Counting makes a relay slow.
_LIMIT_S: Final = 30.0
_TOP: Final = 25
#: Rooms with a smaller share are not shown.
_SHOWN_FROM: Final = 0.001


@attrs.frozen
class Room:
    """Calls within one room, for each unit of work."""

    name: str
    #: Of its functions that are written in Python.
    python: float
    #: Of functions written in C, by its own.
    c: float

    @property
    def all(self) -> float:
        """Both together."""
        return self.python + self.c


@attrs.frozen(kw_only=True)
class Counted:
    """What one piece of work took."""

    measurement: Measurement
    #: Requests or events.
    units: float
    #: The most expensive first.
    rooms: tuple[Room, ...]
    #: Function -> calls for each unit; the most called first.
    functions: dict[str, float]

    @property
    def all(self) -> float:
        """All calls for each unit."""
        return sum(room.all for room in self.rooms)

    def table(self, top: int) -> str:
        """Return the rooms, and the most called functions, in Markdown."""
        unit = self.measurement.per
        lines = [
            f"{self.measurement.name}: {self.all:,.2f} calls for each {unit} ({self.units:,.0f})",
            "",
            "| room | all | Python | C from there |",
            "| --- | --- | --- | --- |",
            *(
                f"| {room.name} | {room.all:,.2f} | {room.python:,.2f} | {room.c:,.2f} |"
                for room in self.rooms
                if room.all >= self.all * _SHOWN_FROM
            ),
        ]
        if top:
            lines += ["", f"| function | calls for each {unit} |", "| --- | --- |"]
            most = list(self.functions.items())[:top]
            lines += [f"| `{name}` | {calls:,.2f} |" for name, calls in most]
        return "\n".join(lines)


def main() -> None:
    """Count what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calls", description="Count the relay's calls, room by room."
    )
    names = [measurement.name for measurement in MEASUREMENTS]
    parser.add_argument("--only", default=",".join(STEADY), help=f"of {', '.join(names)}")
    parser.add_argument("--top", type=int, default=_TOP, help="functions that are named")
    given = parser.parse_args()
    only = given.only.split(",")
    if unknown := set(only) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    ended_by_sigterm()
    allow_many_sockets()
    try:
        for counted in count(only):
            print(f"{counted.table(given.top)}\n", flush=True)
    except MeasurementError as error:
        sys.exit(f"benchmarks: {error}")


def count(names: Sequence[str]) -> Iterator[Counted]:
    """Start stub and relay, and count the measurements of these names.

    Raises:
        MeasurementError: something did not start, or nothing came back.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="calls-")))
        build(folder)
        stub = start_stub(stack, folder, port=0)
        relay = start_observed(stack, stub_url=stub.url, folder=folder, kind=CALLS)
        load = LoadGenerator(folder)
        for measurement in MEASUREMENTS:
            if measurement.name in names:
                yield _count(measurement, relay, load)


def _count(measurement: Measurement, relay: ObservedRelay, load: LoadGenerator) -> Counted:
    work = measurement.work(0.5)
    load.run(relay.subject, _replies(work, _WARM_UP_REPLIES))
    with relay.observed():
        report = load.run(relay.subject, _replies(work, _REPLIES[measurement.per]))
    units = report.complete if measurement.per == "request" else report.events
    if not units or report.broken:
        raise MeasurementError(f"{measurement.name}: {report.complaint()}")
    return counted_of(measurement, marshal.loads(relay.file.read_bytes()), units)


def _replies(work: Work, replies: int) -> Work:
    """Return the work, ended by a number of replies and not by time; paced work ends by itself."""
    if work.once_within_ms is not None:
        return work
    return attrs.evolve(
        work, limit_s=_LIMIT_S, max_requests=min(replies, work.max_requests or replies)
    )


def counted_of(measurement: Measurement, profile: Profile, units: float) -> Counted:
    """Add a profile up by rooms; a call into C belongs to the room that makes it."""
    python: dict[str, float] = {}
    c: dict[str, float] = {}
    functions: dict[str, float] = {}
    for function, (_, calls, _, _, callers) in profile.items():
        _add(functions, said(function), calls / units)
        room = room_of(function[0])
        if room != C:
            _add(python, room, calls / units)
            continue
        known = 0
        for caller, (times, *_) in callers.items():
            _add(c, room_of(caller[0]), times / units)
            known += times
        if calls > known:  # without a caller: the profile began inside it
            _add(c, C, (calls - known) / units)
    rooms = [Room(name, python.get(name, 0.0), c.get(name, 0.0)) for name in {**python, **c}]
    return Counted(
        measurement=measurement,
        units=units,
        rooms=tuple(sorted(rooms, key=lambda room: -room.all)),
        functions=dict(sorted(functions.items(), key=lambda item: -item[1])),
    )


def said(function: Function) -> str:
    """Return a function as `room: file:line name`, without what differs between machines."""
    filename, line, name = function
    room = room_of(filename)
    return name if room == C else f"{room}: {Path(filename).name}:{line} {name}"


def _add(sums: dict[str, float], name: str, value: float) -> None:
    sums[name] = sums.get(name, 0.0) + value


if __name__ == "__main__":
    main()
