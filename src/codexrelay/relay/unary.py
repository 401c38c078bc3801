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
from codexrelay.relay.record import Record
from codexrelay.relay.turn import cut_short

if TYPE_CHECKING:
    from codexrelay.backends.backend import Attempt
    from codexrelay.relay.budgets import Budgets
    from codexrelay.relay.climb import Wish
    from codexrelay.relay.leg import RequestFor
    from codexrelay.relay.lending import Lease, Target
    from codexrelay.relay.record import Tried
    from codexrelay.relay.turn import Relay

#: Largest body kept in memory.
MAX_BODY_BYTES: Final = 64 * 1024 * 1024


@attrs.frozen
class Fetched:
    """A 2xx answer, whole."""

    head: Head
    body: bytes
    #: Qualified.
    account_id: str


async def fetch(
    request_for: RequestFor, relay: Relay, wish: Wish, record: Record | None = None
) -> Fetched | Fault:
    """Send a request up the ladder and return the first 2xx answer, or what went wrong at last.

    `record` is told the way through the accounts. Cancelled when the client leaves.
    """
    fetched: Fetched | None = None
    ladder, budgets = Ladder(), wish.route[0].budgets

    async def attempt(instance: Target, lease: Lease, tried: Tried) -> Served | Fault:
        nonlocal fetched
        request = request_for(tried.account, stripped=ladder.stripped)
        tried.reasoning_stripped = request.reasoning_stripped
        async with instance.backend.attempt(request, lease.account) as attempt:
            try:
                result = await _ask(attempt, instance.budgets, tried.account)
            finally:  # also of one that its client leaves
                tried.reached = attempt.reached
        if isinstance(result, Fault):
            return attrs.evolve(result, reached=tried.reached)
        lease.accept(result.head.headers)
        tried.served, fetched = True, result
        return Served()

    with relay.active.enter(budget_s=budgets.turn_s):
        result = await climb(wish, ladder, record or Record(), attempt)
        if isinstance(result, Fault):
            return result
    return fetched or cut_short(relay, budgets)


async def _ask(attempt: Attempt, budgets: Budgets, account_id: str) -> Fetched | Fault:
    with trio.move_on_after(budgets.headers_s) as scope:
        head = await attempt.send()
    if scope.cancelled_caught:
        return faults.slow("headers_s", budgets.headers_s, block=budgets.block)
    if isinstance(head, Fault):
        return head
    body = await _read(attempt, budgets)
    return body if isinstance(body, Fault) else Fetched(head, body, account_id)


async def _read(attempt: Attempt, budgets: Budgets) -> bytes | Fault:
    pieces: list[bytes] = []
    size_bytes = 0
    while True:
        with trio.move_on_after(budgets.silence_s) as scope:
            received = await attempt.receive()
        if scope.cancelled_caught:
            return faults.slow("silence_s", budgets.silence_s, block=budgets.block)
        if not isinstance(received, bytes):
            return received
        if not received:
            return b"".join(pieces)
        pieces.append(received)
        size_bytes += len(received)
        if size_bytes > MAX_BODY_BYTES:
            return faults.broken(f"the backend's answer is larger than {MAX_BODY_BYTES} bytes")
