"""Lets a mishap of accounts happen while the first answer is under way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from harness.compat.conversation import first_served
from harness.compat.scenarios import Mishap, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.simulator import Simulator

#: Turns of a window, all used up when quota is spent; the next window has as many.
_TURNS: Final = 100


async def let_happen(scenario: Scenario, simulator: Simulator) -> float | None:
    """Wait for the first answer to a request that carries tools, and let the mishap happen.

    Returns when spent quota is there again, on trio's clock; None if none was spent.
    """
    await simulator.wait_until(lambda: first_served(simulator.seen) is not None)
    first = first_served(simulator.seen)
    assert first is not None
    assert first.account is not None  # it was served
    match scenario.mishap:
        case Mishap.SPENT:
            return _spend(simulator, [first.account], spent_s=scenario.spent_s)
        case Mishap.ALL_SPENT:
            names = [account.name for account in simulator.accounts]
            return _spend(simulator, names, spent_s=scenario.spent_s)
        case Mishap.REVOKED:
            simulator.revoke(first.account)
        case Mishap.EXPIRED:
            simulator.expire(first.account)
        case None:
            pass
    return None


def _spend(simulator: Simulator, names: Iterable[str], *, spent_s: float) -> float:
    """Spend the quota of accounts. It comes back by itself, and there is enough of it then."""
    now_s = trio.current_time()
    now_unix_s = simulator.wall_clock()
    # The backend tells whole seconds. Were it sooner than told, nobody would have to wait for it.
    back_in_s = math.floor(now_unix_s + spent_s) - now_unix_s
    for name in names:
        simulator.limit(name, after=_TURNS, resets_in_s=back_in_s)
        simulator.quota(simulator.account(name)).turns = _TURNS
    return now_s + back_in_s
