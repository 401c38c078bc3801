"""The four bridges of one relay: client and backend, each over HTTP or a WebSocket.

`ws-http` is a client on a WebSocket and a backend over HTTP. All four take the same work in one
interleaved run, and each is shown beside `sse-sse`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.load import Work
from benchmarks.measurements import (
    KIB,
    Measurement,
    Result,
    Row,
    paced,
    paced_work,
    read_events,
    read_first_event,
)
from benchmarks.relay import start_relay
from benchmarks.requests import RESPONSES, instruction, responses_body
from benchmarks.stub import answers_given
from benchmarks.subject import DIRECT, MeasurementError, Subject

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.load import Report
    from benchmarks.stub import Answers

SSE_SSE: Final = "sse-sse"
WS_WS: Final = "ws-ws"
WS_HTTP: Final = "ws-http"
HTTP_WS: Final = "http-ws"
#: The stub itself, its clients on WebSockets.
DIRECT_WS: Final = "direct ws"
#: Those whose backend is asked over WebSockets.
_UPSTREAM_SOCKETS: Final = frozenset({WS_WS, HTTP_WS, DIRECT_WS})

_IDLE_SOCKETS: Final = 500
#: Fewer than the idle WebSockets that the relay keeps.
_SESSIONS: Final = 100


def start_bridges(stack: contextlib.ExitStack, *, stub: Subject, folder: Path) -> list[Subject]:
    """Start two relays, whose backend is asked over HTTP and over WebSockets, for the four bridges.

    Raises:
        MeasurementError: one did not start.
    """
    start = partial(start_relay, stack, stub_url=stub.url, folder=folder)
    plain = start(name="relay-http", websocket="off")
    sockets = start(name="relay-ws", websocket="on")
    return [
        attrs.evolve(stub, name=DIRECT, pid=None, start_s=None),
        attrs.evolve(stub, name=DIRECT_WS, pid=None, start_s=None, websocket=True),
        attrs.evolve(plain, name=SSE_SSE),
        attrs.evolve(sockets, name=WS_WS, websocket=True),
        attrs.evolve(plain, name=WS_HTTP, websocket=True),
        attrs.evolve(sockets, name=HTTP_WS),
    ]


def counted(
    run: Callable[[Subject, Work], Report],
    stub: Subject,
    on_note: Callable[[str], None],
    *,
    ask: Callable[[Subject], Answers] = answers_given,
) -> Callable[[Subject, Work], Report]:
    """Let `run` be followed by a look at how the stub was asked.

    A bridge that fell back to HTTP would otherwise show the figures of another one.
    """

    def run_and_count(subject: Subject, work: Work) -> Report:
        before = ask(stub)
        report = run(subject, work)
        after = ask(stub)
        asked, messages = after.all - before.all, after.messages - before.messages
        if messages != (asked if subject.name in _UPSTREAM_SOCKETS else 0):
            on_note(f"{subject.name}: {messages} of {asked} answers came over a WebSocket")
        return report

    return run_and_count


def _one_after_the_other(scale: float) -> Work:
    return Work(
        path=RESPONSES,
        body=responses_body(instruction(5)),
        connections=1,
        deltas=5,
        limit_s=4 * scale,
        max_requests=4000,
        sessions=True,
    )


def _burst(scale: float) -> Work:
    return Work(
        path=RESPONSES,
        body=responses_body(instruction(2000)),
        connections=8,
        deltas=2000,
        limit_s=3 * scale,
        sessions=True,
    )


def _paced_sessions(scale: float, *, streams: int, per_s: int) -> Work:
    return attrs.evolve(paced_work(scale, streams=streams, per_s=per_s), sessions=True)


def _idle_sockets(_: float) -> Work:
    return Work(
        path=RESPONSES,
        body={},
        connections=_IDLE_SOCKETS,
        deltas=0,
        limit_s=2.5,
        watches_memory=True,
        sessions=True,
        idle=True,
    )


def _sessions_of_one_turn(_: float) -> Work:
    return Work(
        path=RESPONSES,
        body=responses_body(instruction(5)),
        connections=_SESSIONS,
        deltas=5,
        limit_s=4,
        once_within_ms=1500,
        watches_memory=True,
        sessions=True,
    )


def _read_growth(report: Report, _: Subject, *, connections: int) -> Result:
    # Fewer than asked for would make each look cheap.
    if report.complete < connections:
        raise MeasurementError("not every connection was served")
    if report.growth_bytes is None:
        return {}
    return {"rss": report.growth_bytes / connections / KIB}


#: Memory first, before anything that makes the allocator keep a heap.
BRIDGE_MEASUREMENTS: Final = (
    Measurement(
        name="ws-sessions",
        work=_sessions_of_one_turn,
        read=partial(_read_growth, connections=_SESSIONS),
        rows=(Row(metric="rss", label="RSS per session behind its first turn, KiB"),),
        once=True,
        quick=False,
    ),
    Measurement(
        name="ws-idle",
        work=_idle_sockets,
        read=partial(_read_growth, connections=_IDLE_SOCKETS),
        rows=(Row(metric="rss", label="RSS per idle client socket, KiB", ratio=False),),
        once=True,
        websocket_only=True,
        quick=False,
    ),
    Measurement(
        name="ws-first",
        work=_one_after_the_other,
        read=read_first_event,
        rows=(
            Row(metric="first", label="warm connections: time to first event p50, ms"),
            Row(metric="cpu", label="warm connections: **CPU per turn, ms**"),
        ),
        per="request",
        quick=False,
    ),
    Measurement(
        name="ws-burst",
        work=_burst,
        read=read_events,
        rows=(
            Row(metric="rate", label="burst x 8, events/s"),
            Row(metric="cpu", label="burst x 8: **CPU per event, µs**"),
        ),
        quick=False,
    ),
    paced(200, 50, work=_paced_sessions, prefix="ws-", quick=False),
    paced(200, 5, work=_paced_sessions, prefix="ws-", quick=False),
)
