"""Several programs share accounts: each expiry is followed by one refresh, whoever makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.stress.books import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from harness.stress.books import Call
    from harness.stress.participants import Fourth, Relay, Told
    from harness.stress.stage import Stage

#: A round takes a second or two.
ROUND_S: Final = 120.0
#: Programs start their turns within this time: most are in the middle of theirs at once.
_SPREAD_S: Final = 0.2
#: What an `auth.json` held beside the tokens must be in it at the end.
_KEPT: Final = ("auth_mode", "OPENAI_API_KEY", "of_tomorrow")


@attrs.define(kw_only=True)
class Shared:
    """What came of it."""

    expiries: int = 0
    #: Requests, and those that were answered with 200.
    requests: int = 0
    served: int = 0
    #: Who refreshed, how often.
    refreshes: dict[str, int] = attrs.field(factory=dict)
    #: How often a pair that another program had stored was taken over, as far as programs say so.
    adopted: int = 0
    #: What must not be; empty when all is well.
    problems: list[str] = attrs.field(factory=list)


async def share(
    stage: Stage,
    *,
    expiries: int,
    rng: Random,
    tell: Callable[[Shared], None] = lambda _: None,
) -> Shared:
    """Let all access tokens expire, all programs use all accounts at once, and so on.

    Stops after the first round with a problem. `tell` hears of every round.

    Args:
        stage: where the programs run.
        expiries: how many in all; those of different accounts count separately.
        rng: draws who is how far ahead of the others in each round.
        tell: is called with the figures so far.
    """
    shared = Shared()
    before = stage.stored(stage.accounts[0])
    while shared.expiries < expiries and not shared.problems:
        await _round(stage, shared, rng)
        tell(shared)
    for name in stage.accounts:
        if not stage.has_newest(name):
            shared.problems.append(f"{name}: the newest pair is not on disk")
        if stage.must_sign_in(name):
            shared.problems.append(f"{name} must sign in again")
    shared.problems += stage.file_problems()
    if stage.legacy:
        after = stage.stored(stage.accounts[0])
        shared.problems += [f"{key} was not kept" for key in _KEPT if after[key] != before[key]]
        if list(after) != list(before):
            shared.problems.append("the order of the keys was not kept")
    return shared


async def _round(stage: Stage, shared: Shared, rng: Random) -> None:
    first = len(stage.books.calls)
    told: list[Told] = []

    async def take_turn(participant: Relay | Fourth) -> None:
        # One program is quicker than another and would always be the one that refreshes.
        await trio.sleep(rng.uniform(0, _SPREAD_S))
        told.append(await participant.turn())

    stage.expire()
    with trio.fail_after(ROUND_S):
        async with trio.open_nursery() as nursery:
            for participant in stage.participants:
                nursery.start_soon(take_turn, participant)
    calls = stage.books.calls[first:]
    statuses = [status for each in told for status in each.statuses]
    shared.expiries += len(stage.accounts)
    shared.requests += len(statuses)
    shared.served += statuses.count(OK)
    shared.adopted += sum(each.adopted for each in told)
    for call in calls:
        if call.renewed:
            shared.refreshes[call.by] = shared.refreshes.get(call.by, 0) + 1
    shared.problems += [
        f"expiry {shared.expiries}: {problem}"
        for problem in problems_of(stage.accounts, calls, statuses)
    ]


def problems_of(
    accounts: Iterable[str], calls: Sequence[Call], statuses: Iterable[int]
) -> list[str]:
    """Say what is wrong with a round: its calls of the issuer, and the answers to its requests."""
    problems = []
    for name in accounts:
        renewals = sum(call.renewed for call in calls if call.account == name)
        if renewals != 1:
            problems.append(f"{name} was refreshed {renewals} times")
    problems += [
        f"{call.by} was refused ({call.status} {call.code})" for call in calls if not call.renewed
    ]
    problems += [f"a request was answered with {status}" for status in statuses if status != OK]
    return problems
