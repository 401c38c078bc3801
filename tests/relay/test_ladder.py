"""The attempt ladder: every rule, row by row, and what bounds a turn over a large pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest

from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.relay.ladder import LADDER, MAX_ATTEMPTS, Cost, Ladder, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ACCOUNTS: Final = "abcdefghijklmnopqrstuvwxyz"
_SENT: Final = (Reached.UNKNOWN, Reached.SENT)
_EACH: Final = tuple(Reached)


def fault(kind: FaultKind, reached: Reached | None = Reached.SENT) -> Fault:
    told = faults.broken("as the test wants it")
    return attrs.evolve(told, kind=kind, reached=reached)


def asked(met: Sequence[Fault], *, pool: str = _ACCOUNTS) -> str:
    """Return the accounts that a turn asks which meets these faults, one after the other.

    Of a pool, the turn is given the first account that it may be given; `.` marks the end of a
    climb that the ladder gave up, `-` of one that ran out of accounts.
    """
    ladder, told = Ladder(), ""
    resting: set[str] = set()
    for one in met:
        free = [name for name in pool if name not in ladder.rejected]
        rested = [name for name in free if name not in resting] or free
        if ladder.again is not None:
            rested.insert(0, ladder.again)
        if not rested:
            return told + "-"
        told += rested[0]
        match ladder.climb(one, rested[0]):
            case Step.GIVE_UP:
                return told + "."
            case Step.REST:
                resting.add(rested[0])
            case _:
                pass
    return told


def test_every_fault_has_its_rule_however_far_its_request_got() -> None:
    assert set(LADDER) == {(kind, reached) for kind in FaultKind for reached in Reached}


#: Fault, how far -> the accounts asked by a turn that meets nothing else, over a pool of three.
_CLIMBS: Final[Mapping[tuple[FaultKind, tuple[Reached, ...]], str]] = {
    (FaultKind.UNAUTHORIZED, _EACH): "aabbcc-",
    (FaultKind.FORBIDDEN, _EACH): "abc-",
    # Each may come back while the turn waits.
    (FaultKind.LIMITED, _EACH): "abcaabbcc-",
    (FaultKind.UNUSABLE, _EACH): "abc-",
    (FaultKind.UNSUPPORTED, _EACH): "abc-",
    # Each rests twice, and is tried three times in all.
    (FaultKind.THROTTLED, _EACH): "abcaabbcc-",
    (FaultKind.OVERLOADED, _EACH): "aab.",
    (FaultKind.BROKEN, (Reached.NOT_SENT,)): "aab.",
    (FaultKind.BROKEN, _SENT): "aa.",
    (FaultKind.SLOW, _EACH): "a.",
    # One other account, and then without the reasoning.
    (FaultKind.UNREADABLE, _EACH): "abb.",
    (FaultKind.REFUSED, _EACH): "a.",
}


@pytest.mark.parametrize(
    ("kind", "reached", "told"),
    [
        pytest.param(kind, reached, told, id=f"{kind.value}, {reached.value}")
        for (kind, far), told in _CLIMBS.items()
        for reached in far
    ],
)
def test_a_fault_asks_these_accounts(kind: FaultKind, reached: Reached, told: str) -> None:
    assert asked([fault(kind, reached)] * 12, pool="abc") == told


def test_the_table_above_speaks_of_every_rule() -> None:
    rows = [(kind, reached) for kind, far in _CLIMBS for reached in far]
    assert sorted(rows, key=str) == sorted(LADDER, key=str)


def test_only_a_connection_that_broke_after_sending_can_cost_a_turn_and_is_repeated_once() -> None:
    dear = {key: rule for key, rule in LADDER.items() if rule.cost is Cost.A_TURN}
    assert set(dear) == {(FaultKind.BROKEN, reached) for reached in _SENT}
    assert {rule.steps for rule in dear.values()} == {(Step.RETRY,)}


def test_a_fault_that_does_not_say_how_far_it_got_falls_under_the_dearer_rule() -> None:
    assert asked([fault(FaultKind.BROKEN, None)] * 5) == "aa."


def test_sent_and_perhaps_sent_are_repeated_once_together() -> None:
    met = [fault(FaultKind.BROKEN, reached) for reached in (*_SENT, *_SENT)]
    assert asked(met) == "aa."


@pytest.mark.parametrize(
    ("met", "told"),
    [
        ([FaultKind.LIMITED, FaultKind.OVERLOADED, FaultKind.OVERLOADED, FaultKind.SLOW], "abbc."),
        ([FaultKind.OVERLOADED, FaultKind.UNAUTHORIZED, FaultKind.UNAUTHORIZED], "aaa"),
        ([FaultKind.THROTTLED, FaultKind.LIMITED, FaultKind.REFUSED], "abc."),
        ([FaultKind.UNAUTHORIZED, FaultKind.BROKEN, FaultKind.BROKEN], "aaa."),
        ([FaultKind.UNSUPPORTED, FaultKind.UNSUPPORTED, FaultKind.UNAUTHORIZED], "abc"),
    ],
    ids=[
        "overload is counted over the turn",
        "a fault of another kind begins its own steps",
        "an account that rests is left alone",
        "a break counts beside a 401",
        "each account has its own refresh",
    ],
)
def test_faults_of_several_kinds_climb_side_by_side(met: list[FaultKind], told: str) -> None:
    assert asked([fault(kind) for kind in met]) == told


def test_a_turn_over_a_large_pool_ends() -> None:
    told = asked([fault(FaultKind.FORBIDDEN)] * 30)
    assert told == _ACCOUNTS[:MAX_ATTEMPTS] + "."


@pytest.mark.parametrize(
    "kind", [FaultKind.LIMITED, FaultKind.UNUSABLE, FaultKind.UNSUPPORTED], ids=lambda k: k.value
)
def test_accounts_that_cannot_take_the_turn_are_passed_over_however_many_there_are(
    kind: FaultKind,
) -> None:
    ladder = Ladder()
    steps = {ladder.climb(fault(kind), f"account-{number}") for number in range(100)}
    assert steps <= {Step.ROTATE, Step.REST}


def test_reasoning_is_stripped_in_a_large_pool_too() -> None:
    ladder = Ladder()
    met = [ladder.climb(fault(FaultKind.LIMITED), f"spent-{number}") for number in range(30)]
    assert Step.GIVE_UP not in met
    assert ladder.climb(fault(FaultKind.UNREADABLE), "a") is Step.ROTATE
    assert ladder.climb(fault(FaultKind.UNREADABLE), "b") is Step.STRIP
    assert (ladder.again, ladder.stripped, "a" in ladder.rejected) == ("b", True, False)
    assert ladder.climb(fault(FaultKind.UNREADABLE), "b") is Step.GIVE_UP


def test_a_400_never_rotates_and_is_never_repeated() -> None:
    for reached in Reached:
        assert LADDER[FaultKind.REFUSED, reached].steps == ()


def test_reasoning_is_stripped_once_and_only_if_some_account_could_not_read_it() -> None:
    ladder = Ladder()
    assert not ladder.strip()
    ladder.climb(fault(FaultKind.FORBIDDEN), "a")
    assert not ladder.strip(), "nobody was refused for it"
    ladder.climb(fault(FaultKind.UNREADABLE), "b")
    assert ladder.rejected == {"a", "b"}
    assert ladder.strip()
    assert ladder.stripped
    assert ladder.rejected == {"a"}, "who could not read it may be asked again"
    assert not ladder.strip()
