"""Attempt after attempt, as the ladder says, until one is served or no rung is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from codexrelay.errors import AccountError
from codexrelay.protocol.faults import Fault
from codexrelay.relay.account_faults import fault_of
from codexrelay.relay.ladder import RETRY_WAIT_S, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from codexrelay.accounts.lender import Lease, Lender
    from codexrelay.relay.ladder import Ladder


@attrs.frozen
class Served:
    """An attempt that reached the client: nothing is tried again, even if it failed later."""

    fault: Fault | None = None


async def climb(
    lender: Lender, ladder: Ladder, attempt: Callable[[Lease], Awaitable[Served | Fault]]
) -> Served | Fault:
    """Run `attempt` on one account after the other; return the first `Served`, or the last fault.

    Each rung begins with a checkpoint, so a turn whose client has left climbs no further.
    """
    last: Fault | None = None
    while True:
        try:
            async with lender.lease(rejected=ladder.rejected, prefer=ladder.prefer) as lease:
                result = await attempt(lease)
                lease.report(result.fault if isinstance(result, Served) else result)
        except AccountError as error:
            if ladder.strip():
                continue
            return fault_of(error, after=last)
        if isinstance(result, Served):
            return result
        last = result
        match ladder.climb(result, lease.account.id):
            case Step.GIVE_UP:
                return result
            case Step.RETRY:
                await trio.sleep(RETRY_WAIT_S)
            case Step.REFRESH | Step.ROTATE:
                pass
