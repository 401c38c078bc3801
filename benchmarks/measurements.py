"""What is measured: for each measurement its work, what is read off it, and its rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from benchmarks.load import Report, Work
from benchmarks.requests import (
    CHAT,
    RESPONSES,
    chat_body,
    instruction,
    long_history,
    responses_body,
)
from benchmarks.subject import MeasurementError, Subject

#: Metric -> value.
Result = dict[str, float]

_OPEN_STREAMS: Final = 500
KIB: Final = 1024
MIB: Final = 1024 * KIB
#: No multiple of any pause: it spreads the streams over the pause instead of putting them in step.
_RAMP_MS: Final = 1013


@attrs.frozen(kw_only=True)
class Row:
    """One metric in the table."""

    metric: str
    label: str
    #: Makes one figure of those of the rounds.
    fold: Callable[[Sequence[float]], float] = statistics.median
    #: The direct figure of the same round is taken off.
    added: bool = False
    #: Shown beside the figure: its ratio to nginx and to bare trio.
    ratio: bool = True


@attrs.frozen(kw_only=True)
class Measurement:
    """One piece of work and the metrics read off it."""

    name: str
    #: Takes the share of the full length, 0 to 1.
    work: Callable[[float], Work]
    #: Raises MeasurementError where the report gives nothing to show.
    read: Callable[[Report, Subject], Result]
    rows: tuple[Row, ...]
    #: What its CPU figure is for: `request` or `event`.
    per: str = "event"
    #: Also in a quick run, unless others are asked for.
    quick: bool = True
    #: In the first round only.
    once: bool = False
    #: Says nothing of what has no process, such as the stub behind its own port.
    of_processes: bool = False
    #: Only through what serves WebSockets.
    websocket_only: bool = False


def _one_after_the_other(scale: float) -> Work:
    body = responses_body(instruction(5))
    return Work(
        path=RESPONSES, body=body, connections=1, deltas=5, limit_s=4 * scale, max_requests=4000
    )


def _big_body(scale: float) -> Work:
    body = responses_body(instruction(5), long_history())
    return Work(
        path=RESPONSES, body=body, connections=1, deltas=5, limit_s=6 * scale, max_requests=200
    )


def _burst(scale: float) -> Work:
    body = responses_body(instruction(2000))
    return Work(path=RESPONSES, body=body, connections=8, deltas=2000, limit_s=3 * scale)


def _chat_burst(scale: float) -> Work:
    body = chat_body(instruction(2000), stream=True)
    return Work(path=CHAT, body=body, connections=4, deltas=2000, limit_s=3 * scale)


def _chat_whole(scale: float) -> Work:
    body = chat_body(instruction(20), stream=False)
    return Work(path=CHAT, body=body, connections=16, deltas=20, limit_s=3 * scale)


def paced_work(scale: float, *, streams: int, per_s: int) -> Work:
    """Return so many streams, so many events per second in each, for some six seconds."""
    length_s = max(1.5, 6 * scale)
    deltas = round(per_s * length_s)
    return Work(
        path=RESPONSES,
        body=responses_body(instruction(deltas, pause_us=1_000_000 // per_s)),
        connections=streams,
        deltas=deltas,
        limit_s=length_s + 1.5,
        once_within_ms=_RAMP_MS,
    )


def _open_streams(scale: float) -> Work:
    pause_us = round(400_000 * max(0.25, scale))
    return Work(
        path=RESPONSES,
        body=responses_body(instruction(10, pause_us=pause_us)),
        connections=_OPEN_STREAMS,
        deltas=10,
        limit_s=7,
        once_within_ms=700,
        watches_memory=True,
    )


def cpu(report: Report, count: float, *, unit: float) -> Result:
    """CPU for each thing counted; nothing where the process is unknown."""
    return {} if report.cpu_s is None or not count else {"cpu": report.cpu_s / count * unit}


def _need_complete(report: Report) -> None:
    if not report.complete:
        raise MeasurementError("no reply was complete in time")


def read_first_event(report: Report, _: Subject) -> Result:
    """Return the first event's time and the CPU for each request, in milliseconds."""
    _need_complete(report)
    first_event_ms = report.first_event_p50_us / 1e3
    return {"first": first_event_ms} | cpu(report, report.complete, unit=1e3)


def read_events(report: Report, _: Subject) -> Result:
    """Return the events per second, and the CPU for each in microseconds."""
    return {"rate": report.events_per_s} | cpu(report, report.events, unit=1e6)


def _read_requests(report: Report, _: Subject) -> Result:
    _need_complete(report)
    return {"rate": report.requests_per_s} | cpu(report, report.complete, unit=1e3)


def read_latency(report: Report, _: Subject) -> Result:
    """Return the streams that finished, their latency in ms, and the CPU for each event in µs."""
    return {
        "finished": report.complete,
        "p50": report.latency_p50_us / 1e3,
        "p99": report.latency_p99_us / 1e3,
    } | cpu(report, report.events, unit=1e6)


def _read_memory(report: Report, subject: Subject) -> Result:
    result: Result = {}
    if subject.start_s is not None:
        result["start"] = subject.start_s
    if subject.idle_rss_bytes is not None:
        result["idle"] = subject.idle_rss_bytes / MIB
    # Fewer open streams than asked for would make each look cheap.
    if report.growth_bytes is not None and report.complete == _OPEN_STREAMS:
        result["stream"] = report.growth_bytes / _OPEN_STREAMS / KIB
    return result


def paced(
    streams: int,
    per_s: int,
    *,
    work: Callable[..., Work] | None = None,
    prefix: str = "",
    quick: bool = True,
) -> Measurement:
    """Return the measurement of so many streams of so many events per second each.

    `work` takes both figures, by default those of plain HTTP; `prefix` stands before its name.
    """
    said = f"{streams} x {per_s}/s"
    return Measurement(
        name=f"{prefix}{streams}x{per_s}",
        work=partial(work or paced_work, streams=streams, per_s=per_s),
        read=read_latency,
        rows=(
            # The worst round counts: a stream lost once is lost.
            Row(metric="finished", label=f"{said}: finished", fold=min, ratio=False),
            Row(metric="p50", label=f"{said}: latency p50, ms"),
            Row(metric="p99", label=f"{said}: latency p99, ms"),
            Row(metric="cpu", label=f"{said}: **CPU per event, µs**"),
        ),
        quick=quick,
    )


#: In the order of running, lightest first, because a measurement leaves traces in a relay: memory
#: comes before anything that makes the allocator keep a heap, and 500 streams, which leave a pool
#: of as many idle connections, come last.
MEASUREMENTS: Final = (
    Measurement(
        name="first-event",
        work=_one_after_the_other,
        read=read_first_event,
        rows=(
            Row(metric="first", label="added time to first event p50, ms", added=True),
            Row(metric="cpu", label="small request: **CPU, ms**"),
        ),
        per="request",
    ),
    Measurement(
        name="memory",
        work=_open_streams,
        read=_read_memory,
        rows=(
            Row(metric="start", label="start to listening, s", ratio=False),
            Row(metric="idle", label="idle RSS, MiB", ratio=False),
            Row(metric="stream", label="RSS per open stream, KiB"),
        ),
        once=True,
        of_processes=True,
    ),
    Measurement(
        name="burst",
        work=_burst,
        read=read_events,
        rows=(
            Row(metric="rate", label="Responses burst x 8, events/s"),
            Row(metric="cpu", label="Responses burst: **CPU per event, µs**"),
        ),
    ),
    Measurement(
        name="chat-burst",
        work=_chat_burst,
        read=read_events,
        rows=(
            Row(metric="rate", label="Chat burst x 4, events/s"),
            Row(metric="cpu", label="Chat burst: **CPU per event, µs**"),
        ),
    ),
    Measurement(
        name="chat",
        work=_chat_whole,
        read=_read_requests,
        rows=(
            Row(metric="rate", label="Chat, not streamed x 16, requests/s"),
            Row(metric="cpu", label="Chat, not streamed: **CPU per request, ms**"),
        ),
        per="request",
    ),
    Measurement(
        name="big-body",
        work=_big_body,
        read=read_first_event,
        rows=(
            Row(metric="first", label="5 MB request: added ms to first event", added=True),
            Row(metric="cpu", label="5 MB request: **CPU, ms**"),
        ),
        per="request",
    ),
    paced(50, 50, quick=False),
    paced(200, 50),
    paced(500, 50),
    paced(500, 5),
)
