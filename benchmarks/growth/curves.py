"""The curves: for each its axis, its unit, and how one point of it is measured."""

from __future__ import annotations

import json
import marshal
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from benchmarks.growth.curve import Curve
from benchmarks.growth.ground import RELAY, RELAY_AS_IS, TRIO, Ground, Kind
from benchmarks.load import Work
from benchmarks.requests import RESPONSES, instruction, long_history, responses_body
from benchmarks.subject import MeasurementError
from benchmarks.table import short

if TYPE_CHECKING:
    from benchmarks.calls import Profile
    from benchmarks.observing import ObservedRelay
    from benchmarks.subject import Subject

#: Streams begin so far apart that opening them costs a part of what their events cost later: a turn
#: costs as much as some 20 events, and there are 40 events to each.
_EVENTS_PER_BEGIN: Final = 40
#: From the last stream's begin to the first moment that counts.
_SETTLE_S: Final = 0.5
#: From the last moment that counts to the first stream's end: no end counts.
_AFTER_S: Final = 0.5
#: So much of what the stub was to send must have come.
_KEPT_UP: Final = 0.95
_TURN_CONNECTIONS: Final = 4
_TURN_DELTAS: Final = 5
#: Of which the calls are counted; counting makes a relay slow.
_COUNTED_TURNS: Final = 150
_LONG_S: Final = 300.0
_MB: Final = 1e6
#: How many, and their name.
_Sessions: TypeAlias = "tuple[int, str]"


@attrs.frozen(kw_only=True)
class Cost:
    """What a unit cost at one point."""

    value: float
    #: What a reader must know beside it, or empty.
    note: str = ""


@attrs.frozen(kw_only=True)
class Measured:
    """A curve, and how it is measured."""

    curve: Curve
    #: Who takes part.
    kinds: tuple[Kind, ...]
    #: Takes the point and the share of the full length. Raises MeasurementError.
    measure: Callable[[Ground, Kind, float, float], Cost]


def _per_event(ground: Ground, kind: Kind, point: float, scale: float) -> Cost:
    """CPU for each event while so many streams are open, in µs; no begin and no end counts."""
    streams = round(point)
    rate = ground.events_per_s
    ramp_ms = max(200, streams * _EVENTS_PER_BEGIN * 1000 // rate)
    begins_s = ramp_ms / 1e3 + _SETTLE_S
    limit_s = begins_s + max(1.5, 4 * scale)
    # All send until after the window, the first one longest.
    deltas = round(rate / streams * (limit_s + _AFTER_S))
    work = Work(
        path=RESPONSES,
        body=responses_body(instruction(deltas, pause_us=1_000_000 * streams // rate)),
        connections=streams,
        deltas=deltas,
        limit_s=limit_s,
        once_within_ms=ramp_ms,
    )
    with ground.started(kind) as subject:
        report, window = ground.load.run_window(subject, work, begins_s=begins_s)
    cost = _known(window.cpu_s) / window.events * 1e6
    if (share := window.events / window.length_s / rate) < _KEPT_UP:
        # It finds many events at once and looks cheap.
        raise MeasurementError(
            f"it fell behind: {share:.0%} of the events came in time, for {short(cost)} µs each"
        )
    return Cost(value=cost, note=report.complaint() or "")


def _turns(ground: Ground, subject: Subject, scale: float, sessions: _Sessions) -> Cost:
    """CPU for each small turn, in ms, after every session, or 100, had one."""
    _warm_up(ground, subject, sessions, max(sessions[0], 100))
    report = ground.load.run(subject, _small(sessions, 0, max(1.5, 4 * scale)))
    cpu_s = _known(report.cpu_s)
    return Cost(value=cpu_s / report.complete * 1e3, note=report.complaint() or "")


def _calls(ground: Ground, relay: ObservedRelay, warm_up: int, sessions: _Sessions) -> Cost:
    """Calls for each small turn, whose number does not depend on who else uses the machine."""
    _warm_up(ground, relay.subject, sessions, warm_up)
    with relay.observed():
        report = ground.load.run(relay.subject, _small(sessions, _COUNTED_TURNS, _LONG_S))
    profile: Profile = marshal.loads(relay.file.read_bytes())
    calls = sum(calls for _, calls, *_ in profile.values())
    return Cost(value=calls / report.complete, note=report.complaint() or "")


def _warm_up(ground: Ground, subject: Subject, sessions: _Sessions, turns: int) -> None:
    """Let so many turns pass that do not count."""
    report = ground.load.run(subject, _small(sessions, turns))
    if report.complete < turns:
        raise MeasurementError(
            f"only {report.complete:,} of {turns:,} turns to warm it up came in time"
        )


def _small(sessions: _Sessions, turns: int, limit_s: float = _LONG_S) -> Work:
    """Return small turns of so many sessions; 0 turns: as many as the time allows."""
    return Work(
        path=RESPONSES,
        body=responses_body(instruction(_TURN_DELTAS)),
        connections=_TURN_CONNECTIONS,
        deltas=_TURN_DELTAS,
        limit_s=limit_s,
        max_requests=turns,
        sessions_in_turn=sessions,
    )


def _per_turn_with_sessions(ground: Ground, kind: Kind, point: float, scale: float) -> Cost:
    sessions = round(point)
    with ground.started(kind, max_sessions=2 * sessions) as subject:
        return _turns(ground, subject, scale, (sessions, _new_name()))


def _per_turn_with_accounts(ground: Ground, kind: Kind, point: float, scale: float) -> Cost:
    accounts = round(point)
    with ground.started(kind, accounts=accounts) as subject:
        # As many sessions at every point, and several turns for each account.
        return _turns(ground, subject, scale, (1000, _new_name()))


def _calls_with_sessions(ground: Ground, _kind: Kind, point: float, _scale: float) -> Cost:
    sessions = round(point)
    with ground.observed(max_sessions=2 * sessions) as relay:
        return _calls(ground, relay, max(sessions, 100), (sessions, _new_name()))


def _calls_with_accounts(ground: Ground, _kind: Kind, point: float, _scale: float) -> Cost:
    accounts = round(point)
    with ground.observed(accounts=accounts) as relay:
        # Each account has had a turn, and the relay has asked about it what it asks.
        return _calls(ground, relay, accounts + 100, (100, _new_name()))


def _per_mb(ground: Ground, kind: Kind, point: float, scale: float) -> Cost:
    """CPU for each MB of the request, in ms, beyond that of a small request."""

    def run(body: dict[str, object], limit_s: float, turns: int = 0) -> float:
        work = Work(
            path=RESPONSES,
            body=body,
            connections=1,
            deltas=_TURN_DELTAS,
            limit_s=limit_s,
            max_requests=turns,
        )
        report = ground.load.run(subject, work)
        if not report.complete or report.broken:
            raise MeasurementError(report.complaint() or "no reply was complete in time")
        return _known(report.cpu_s) / report.complete * 1e3

    small = responses_body(instruction(_TURN_DELTAS))
    large = responses_body(instruction(_TURN_DELTAS), long_history(point * _MB))
    size_mb = len(json.dumps(large, ensure_ascii=False).encode()) / _MB
    with ground.started(kind) as subject:
        run(small, 10, turns=100)  # what is done once is done now
        run(large, 10, turns=3)
        small_ms = run(small, max(1.0, 2 * scale))
        large_ms = run(large, max(1.5, 4 * scale))
    return Cost(value=(large_ms - small_ms) / size_mb)


def _known(cpu_s: float | None) -> float:
    if not cpu_s:
        raise MeasurementError("it used no CPU that the clock can see")
    return cpu_s


def _new_name() -> str:
    """Return a name for sessions that nobody knows."""
    return uuid.uuid4().hex[:8]


CURVES: Final = (
    Measured(
        curve=Curve(
            name="streams",
            title="Open streams, at one rate of events in all",
            x_label="streams",
            y_label="CPU per event, µs",
            points=(1, 10, 50, 200, 500, 1000, 2000),
            bound=1.5,
        ),
        kinds=(TRIO, RELAY),
        measure=_per_event,
    ),
    Measured(
        curve=Curve(
            name="sessions",
            title="Sessions, turn by turn",
            x_label="sessions",
            y_label="CPU per turn, ms",
            points=(10, 100, 1000, 10_000),
            bound=1.3,
        ),
        kinds=(TRIO, RELAY, RELAY_AS_IS),
        measure=_per_turn_with_sessions,
    ),
    Measured(
        curve=Curve(
            name="accounts",
            title="Accounts in the pool",
            x_label="accounts",
            y_label="CPU per turn, ms",
            points=(1, 10, 50, 200, 500),
            bound=1.3,
        ),
        kinds=(TRIO, RELAY),
        measure=_per_turn_with_accounts,
    ),
    Measured(
        curve=Curve(
            name="session-calls",
            title="Sessions, turn by turn, in calls",
            x_label="sessions",
            y_label="calls per turn",
            points=(10, 100, 1000, 10_000),
            bound=1.2,
        ),
        kinds=(RELAY,),
        measure=_calls_with_sessions,
    ),
    Measured(
        curve=Curve(
            name="account-calls",
            title="Accounts in the pool, in calls",
            x_label="accounts",
            y_label="calls per turn",
            points=(1, 10, 50, 200, 500),
            bound=1.2,
        ),
        kinds=(RELAY,),
        measure=_calls_with_accounts,
    ),
    Measured(
        curve=Curve(
            name="history",
            title="History in a request",
            x_label="MB of history",
            y_label="CPU per MB, ms",
            points=(0.1, 0.5, 1, 2, 5, 10),
            bound=1.3,
        ),
        kinds=(TRIO, RELAY),
        measure=_per_mb,
    ),
)
