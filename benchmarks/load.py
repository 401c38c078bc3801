"""Running the load generator, and what it reports."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import attrs

from benchmarks.processes import cpu_s, rss_bytes
from benchmarks.subject import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.subject import Subject

#: How long replies that still run may go on after the timed part.
_DRAIN_S: Final = 5
#: The load generator ends by itself; this is for one that does not.
_OVERDUE_S: Final = 20.0
_LOOK_EVERY_S: Final = 0.2


@attrs.frozen(kw_only=True)
class Work:
    """One run of the load generator."""

    path: str
    body: Mapping[str, object]
    connections: int
    #: Text deltas that make a reply complete.
    deltas: int
    #: Length of the timed part.
    limit_s: float
    #: Replies after which the timed part ends early; 0: none.
    max_requests: int = 0
    #: One request per connection, the starts spread over this many milliseconds; None: each
    #: connection repeats its request.
    once_within_ms: int | None = None
    #: Look at the subject's resident memory meanwhile.
    watches_memory: bool = False
    #: Each connection is a session of its own.
    sessions: bool = False
    #: The requests take turns at so many sessions of this name; None: no session is named.
    sessions_in_turn: tuple[int, str] | None = None
    #: WebSockets are opened and kept, and nothing is asked.
    idle: bool = False

    def options(self) -> Iterator[str]:
        """Yield the load generator's arguments, except the URL, the body and the headers."""
        yield from ("-c", str(self.connections), "-n", str(self.deltas))
        yield from ("-t", f"{self.limit_s:.2f}", "-w", str(_DRAIN_S), "-r", str(self.max_requests))
        if self.once_within_ms is not None:
            yield from ("-o", "-l", "-s", str(self.once_within_ms))
        if self.sessions:
            yield "-S"
        if self.sessions_in_turn is not None:
            count, name = self.sessions_in_turn
            yield from ("-k", str(count), "-p", name)
        if self.idle:
            yield "-i"


class Said(TypedDict):
    """The load generator's line of JSON, as far as it is read; the head of `load.c` explains it."""

    ok: int
    err: int
    unfinished: int
    error: str
    events_all: int
    ev_s: float
    req_s: float
    ttfe_us: list[float]
    lat_us: list[float]


@attrs.frozen(kw_only=True)
class Window:
    """What passed between two moments of a run, and what it cost the subject."""

    events: int
    length_s: float
    #: None: the subject's process is unknown.
    cpu_s: float | None


@attrs.frozen(kw_only=True)
class Report:
    """What came back, and what it cost the subject."""

    complete: int
    broken: int
    unfinished: int
    #: The first thing that went wrong, or empty.
    error: str
    #: Events after the timed part included.
    events: int
    events_per_s: float
    requests_per_s: float
    #: From the request to the first delta.
    first_event_p50_us: float
    #: From the stub's send to our receive, of each delta; 0 unless `Work.once_within_ms` is set.
    latency_p50_us: float
    latency_p99_us: float
    #: None: the subject's process is unknown.
    cpu_s: float | None
    #: How far the resident memory rose at most; None unless it was watched.
    growth_bytes: float | None

    def complaint(self) -> str | None:
        """Say what a reader must know beside the figures, None if every reply was complete."""
        if not self.broken and not self.unfinished:
            return None
        return (
            f"{self.complete} replies complete, {self.broken} broken, "
            f"{self.unfinished} unfinished. {self.error}"
        ).rstrip()


class _Costs:
    """What a subject uses from now on; nothing where its process is unknown."""

    def __init__(self, pid: int | None, *, watches_memory: bool) -> None:
        self._pid = pid
        self._cpu_before_s = 0.0 if pid is None else cpu_s(pid)
        self._watched = pid if watches_memory else None
        self._rss_bytes: list[float] = []
        self.look()

    def look(self) -> None:
        """Note the resident memory, if it is watched."""
        if self._watched is not None:
            self._rss_bytes.append(rss_bytes(self._watched))

    def used_s(self) -> float | None:
        """Return the CPU seconds used so far."""
        return None if self._pid is None else cpu_s(self._pid) - self._cpu_before_s

    def growth_bytes(self) -> float | None:
        """Return how far the resident memory rose at most."""
        return max(self._rss_bytes) - self._rss_bytes[0] if self._rss_bytes else None


@attrs.frozen
class LoadGenerator:
    """The compiled `load.c`."""

    #: Where `build` has put it; requests are written there too.
    folder: Path
    #: Extra request headers, such as a client key, as `name: value`.
    headers: tuple[str, ...] = ()

    def run(self, subject: Subject, work: Work) -> Report:
        """Send the work through the subject.

        Raises:
            MeasurementError: nothing came back.
        """
        command = self._command(subject, work)
        costs = _Costs(subject.pid, watches_memory=work.watches_memory)
        with _started(command) as process:
            for _ in _while_running(process, work.limit_s + _DRAIN_S + _OVERDUE_S):
                costs.look()
            said = _last_words(process)
        report = report_of(said, cpu_s=costs.used_s(), growth_bytes=costs.growth_bytes())
        if not report.events and not (work.idle and report.complete):
            raise MeasurementError(report.error or "nothing arrived in time")
        return report

    def run_window(self, subject: Subject, work: Work, *, begins_s: float) -> tuple[Report, Window]:
        """Send the work, and look also at what passes from `begins_s` to the end of the timed part.

        So what the streams cost until all have begun, and when they end, does not count.

        Raises:
            MeasurementError: nothing came back.
        """
        command = [*self._command(subject, work), "-m", f"{begins_s * 1e3:.0f}"]
        costs = _Costs(subject.pid, watches_memory=False)
        with _started(command) as process:
            (begin_events, begin_s, begin_cpu_s), (end_events, end_s, end_cpu_s) = (
                (_events_so_far(process), time.monotonic(), costs.used_s()) for _ in range(2)
            )
            for _ in _while_running(process, _DRAIN_S + _OVERDUE_S):
                pass
            report = report_of(_last_words(process), cpu_s=costs.used_s(), growth_bytes=None)
        if end_events <= begin_events:
            raise MeasurementError(report.error or "nothing arrived in time")
        return report, Window(
            events=end_events - begin_events,
            length_s=end_s - begin_s,
            cpu_s=None if end_cpu_s is None or begin_cpu_s is None else end_cpu_s - begin_cpu_s,
        )

    def _command(self, subject: Subject, work: Work) -> list[str]:
        body = self.folder / "body.json"
        content = {"type": "response.create", **work.body} if subject.websocket else work.body
        body.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        command = [str(self.folder / "load"), "-u", subject.url + work.path, "-b", str(body)]
        command += work.options()
        if subject.websocket:
            command.append("-W")
        for header in self.headers:
            command += ["-H", header]
        return command


def report_of(said: Said, *, cpu_s: float | None, growth_bytes: float | None) -> Report:
    """Return what the load generator says, joined with what it cost the subject."""
    return Report(
        complete=said["ok"],
        broken=said["err"],
        unfinished=said["unfinished"],
        error=said["error"],
        events=said["events_all"],
        events_per_s=said["ev_s"],
        requests_per_s=said["req_s"],
        first_event_p50_us=said["ttfe_us"][0],
        latency_p50_us=said["lat_us"][0],
        latency_p99_us=said["lat_us"][2],
        cpu_s=cpu_s,
        growth_bytes=growth_bytes,
    )


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the load generator, whose few lines fit into its pipes; killed if the block fails."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _while_running(process: subprocess.Popen[bytes], overdue_s: float) -> Iterator[None]:
    """Yield a few times a second until the process has ended.

    Raises:
        MeasurementError: it has not after `overdue_s`.
    """
    for _ in range(round(overdue_s / _LOOK_EVERY_S)):
        try:
            process.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            yield
        else:
            return
    raise MeasurementError("the load generator did not end")


def _events_so_far(process: subprocess.Popen[bytes]) -> int:
    """Wait for the next line that speaks of a moment; it comes at that moment."""
    line = process.stdout.readline() if process.stdout is not None else b""
    if not line:
        raise MeasurementError("the load generator ended early")
    events: int = json.loads(line)["events"]
    return events


def _last_words(process: subprocess.Popen[bytes]) -> Said:
    out, err = process.communicate()
    if process.returncode:
        raise MeasurementError(err.decode().strip() or "the load generator failed")
    said: Said = json.loads(out)
    return said
