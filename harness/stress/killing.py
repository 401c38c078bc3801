"""Relays are killed at random points of a refresh; what may be lost is an answer under way.

No order of steps saves a pair whose answer the killed process had not stored. Every other pair must
be on disk, no account may be given up without such a loss, and whoever is left goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.stress.books import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from harness.stress.books import Call
    from harness.stress.participants import Fourth, Relay
    from harness.stress.stage import Stage

#: From the victim's first call to the kill, at most: a slow call, and what is done with its answer.
WINDOW_S: Final = 0.7
#: How long that call is waited for before the others begin, so that it is mostly the victim that
#: calls. Some kills do not wait at all.
_PATIENCE_S: Final = 1.0
_BLIND: Final = 0.25
ROUND_S: Final = 120.0

#: Where a kill can meet a relay, the latest of its calls considered.
NO_CALL: Final = "before its call"
UNDECIDED: Final = "token sent, issuer undecided"
UNDER_WAY: Final = "pair made, answer under way"
ANSWERED: Final = "answered"
POINTS: Final = (NO_CALL, UNDECIDED, UNDER_WAY, ANSWERED)


@attrs.define(kw_only=True)
class Killed:
    """What came of it."""

    kills: int = 0
    #: Where the kills met their relays.
    points: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(POINTS, 0))
    refreshes: int = 0
    #: How often the others took over a stored pair, as far as they say so.
    adopted: int = 0
    #: Calls that ended with their caller before the issuer had looked at the token.
    dropped: int = 0
    #: Pairs whose answer was under way or not yet on disk when its relay was killed.
    lost: int = 0
    #: Accounts that were given up after such a loss; each signs in again.
    given_up: int = 0
    #: Requests of programs that were not killed, and how many of them were served.
    requests: int = 0
    served: int = 0
    #: Files of writes that were cut short; they are for the owner only, or else a problem.
    left_over: int = 0
    lost_wrongly: int = 0
    given_up_wrongly: int = 0
    problems: list[str] = attrs.field(factory=list)


async def kill_relays(
    stage: Stage, *, kills: int, rng: Random, tell: Callable[[Killed], None] = lambda _: None
) -> Killed:
    """Kill a relay during a refresh and start it again, `kills` times.

    Raises (inside a group):
        RelayStartError: a relay did not start again.
    """
    killed = Killed()
    for _ in range(kills):
        victim = rng.choice(stage.relays)
        with trio.fail_after(ROUND_S):
            await _round(stage, killed, victim, rng)
            await stage.nursery.start(victim.run)
            await _recover(stage, killed)
        tell(killed)
    killed.left_over = stage.left_over()
    return killed


async def _round(stage: Stage, killed: Killed, victim: Relay, rng: Random) -> None:
    first = len(stage.books.calls)
    statuses: list[int] = []

    async def take_turn(participant: Relay | Fourth) -> None:
        told = await participant.turn()
        if participant is not victim:
            statuses.extend(told.statuses)
            killed.adopted += told.adopted

    stage.expire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turn, victim)
        if rng.random() >= _BLIND:
            with trio.move_on_after(_PATIENCE_S):
                await stage.books.wait_until(lambda: _calls(victim, stage.books.calls[first:]))
        for participant in stage.participants:
            if participant is not victim:
                nursery.start_soon(take_turn, participant)
        await trio.sleep(rng.uniform(0, WINDOW_S))
        killed.points[point_of(victim.name, stage.books.calls[first:])] += 1
        await victim.kill()
        killed.kills += 1
    calls = stage.books.calls[first:]
    killed.refreshes += sum(call.renewed for call in calls)
    killed.dropped += sum(call.dropped for call in calls)
    killed.requests += len(statuses)
    killed.served += statuses.count(OK)
    lost = judge_files(stage, killed, victim.name, calls)
    if not lost:
        killed.problems += [
            f"kill {killed.kills}: {status} for a request although no pair was lost"
            for status in statuses
            if status != OK
        ]
    killed.problems += [f"kill {killed.kills}: {each}" for each in stage.file_problems()]


def _calls(relay: Relay, calls: Sequence[Call]) -> bool:
    return any(call.by == relay.name for call in calls)


def point_of(victim: str, calls: Sequence[Call]) -> str:
    """Return how far a relay is, given the calls of this round."""
    latest = next((call for call in reversed(calls) if call.by == victim), None)
    if latest is None:
        return NO_CALL
    if latest.status is None:
        return UNDECIDED
    return ANSWERED if latest.answered else UNDER_WAY


def judge_files(stage: Stage, killed: Killed, victim: str, calls: Sequence[Call]) -> set[str]:
    """Judge the files now that all is quiet, and sign in again whoever has lost a pair.

    `calls` are those since the kill was prepared, all of which have ended. Returns the accounts
    that had to sign in again.
    """
    lost = set()
    for name in stage.accounts:
        is_lost, marked = not stage.has_newest(name), stage.must_sign_in(name)
        last = stage.books.last_renewal(name)
        excused = last is not None and last.by == victim and last in calls
        if is_lost and excused:
            killed.lost += 1
            killed.given_up += marked
        elif is_lost:
            killed.lost_wrongly += 1
            killed.problems.append(f"kill {killed.kills}: {name} lost a pair it should have kept")
        elif marked:
            killed.given_up_wrongly += 1
            killed.problems.append(f"kill {killed.kills}: {name} was given up without a loss")
        if is_lost or marked:
            lost.add(name)
            stage.sign_in(name)
    return lost


async def _recover(stage: Stage, killed: Killed) -> None:
    """All programs, the one that was killed too, work again without anybody's help."""
    statuses: list[int] = []

    async def take_turn(participant: Relay | Fourth) -> None:
        statuses.extend((await participant.turn()).statuses)

    async with trio.open_nursery() as nursery:
        for participant in stage.participants:
            nursery.start_soon(take_turn, participant)
    killed.problems += [
        f"after kill {killed.kills}: a request was answered with {status}"
        for status in statuses
        if status != OK
    ]
