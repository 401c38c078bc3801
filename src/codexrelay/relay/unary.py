"""Requests whose answer is one JSON body that passes as it is: compaction by the client, models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.backends.backend import Head
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault
from codexrelay.relay.climb import Served, climb
from codexrelay.relay.ladder import Ladder
from codexrelay.relay.turn import send

if TYPE_CHECKING:
    from codexrelay.accounts.lender import Lease
    from codexrelay.backends.backend import Attempt
    from codexrelay.relay.budgets import Budgets
    from codexrelay.relay.turn import Relay, RequestFor

#: Largest body kept in memory.
MAX_BODY_BYTES: Final = 64 * 1024 * 1024


@attrs.frozen
class Fetched:
    """A 2xx answer, whole."""

    head: Head
    body: bytes
    account_id: str


async def fetch(request_for: RequestFor, relay: Relay, *, prefer: str | None) -> Fetched | Fault:
    """Send a request up the ladder and return the first 2xx answer, or what went wrong at last.

    Cancelled when the client leaves.
    """
    fetched: Fetched | None = None
    ladder = Ladder(prefer=prefer)

    async def attempt(lease: Lease) -> Served | Fault:
        nonlocal fetched
        request = request_for(lease.account.id, stripped=ladder.stripped)
        async with relay.backend.attempt(request, lease.account) as attempt:
            head = await send(attempt, relay.budgets)
            if isinstance(head, Fault):
                return head
            body = await _read(attempt, relay.budgets)
            if isinstance(body, Fault):
                return body
            fetched = Fetched(head, body, lease.account.id)
            return Served()

    with relay.active.enter(budget_s=relay.budgets.turn_s) as scope:
        result = await climb(relay.lender, ladder, attempt)
        if isinstance(result, Fault):
            return result
    if fetched is not None:
        return fetched
    if scope.cancelled_caught and relay.active.stopped:
        return faults.shutting_down()
    return faults.slow("turn_s", relay.budgets.turn_s)


async def _read(attempt: Attempt, budgets: Budgets) -> bytes | Fault:
    pieces: list[bytes] = []
    size_bytes = 0
    while True:
        with trio.move_on_after(budgets.silence_s) as scope:
            received = await attempt.receive()
        if scope.cancelled_caught:
            return faults.slow("silence_s", budgets.silence_s)
        if not isinstance(received, bytes):
            return received
        if not received:
            return b"".join(pieces)
        pieces.append(received)
        size_bytes += len(received)
        if size_bytes > MAX_BODY_BYTES:
            return faults.broken(f"the backend's answer is larger than {MAX_BODY_BYTES} bytes")
