"""The attempt ladder on a backend of another kind, with its real lender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.backends.openai.listing import Listing
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.climb import Served, Wish, climb
from codexrelay.relay.ladder import RETRY_WAIT_S, Ladder
from codexrelay.relay.other import Other
from codexrelay.relay.record import Record
from tests.backends.test_openai_backend import open_backend
from tests.backends.test_openai_lender import DOWN, lending, refusal
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.relay.lending import Lease, Target
    from codexrelay.relay.record import Tried

SLOW: Final = attrs.evolve(faults.slow("headers_s", 1), reached=Reached.SENT)


async def climbing(*results: Fault | Served) -> tuple[Served | Fault, list[Fault | Served]]:
    """Run a turn whose attempts end so; return what it ended with, and what was left unused."""
    left = list(results)

    async def attempt(target: Target, lease: Lease, tried: Tried) -> Served | Fault:
        await trio.lowlevel.checkpoint()
        assert (lease.account.id, tried.account) == ("local", "local")
        result = left.pop(0)
        if isinstance(result, Served):
            lease.accept()
        return result

    made = open_backend("http://x/v1", _Unused())
    other = Other(
        name="local",
        wire="chat",
        lender=lending(),
        backend=made.backend,
        budgets=Budgets(),
        listing=Listing(made.backend),
    )
    result = await climb(Wish(route=(other,), model="m"), Ladder(), Record(), attempt)
    return result, left


class _Unused(httpx.AsyncBaseTransport):
    """Nobody asks it."""


@in_virtual_time
async def test_a_refused_key_is_sent_once_and_the_backends_words_are_the_answer() -> None:
    refused = refusal(401)
    assert await climbing(refused, Served()) == (refused, [Served()])
    assert trio.current_time() == 0


@in_virtual_time
async def test_a_throttle_is_waited_for_as_long_as_was_said() -> None:
    assert await climbing(refusal(429, retry_after="7"), Served()) == (Served(), [])
    assert trio.current_time() == 7


@in_virtual_time
async def test_a_throttle_that_lasts_too_long_is_told_in_the_backends_words() -> None:
    throttled = refusal(429, retry_after="100")
    result, left = await climbing(throttled, Served())
    assert (result, left) == (throttled, [Served()])


@in_virtual_time
async def test_a_backend_that_is_down_or_overloaded_is_tried_twice() -> None:
    for fault in (DOWN, refusal(503)):
        began_at_s = trio.current_time()
        result, left = await climbing(fault, fault, Served())
        assert (result, left) == (fault, [Served()])
        assert trio.current_time() - began_at_s == RETRY_WAIT_S


@in_virtual_time
async def test_what_no_repeat_would_mend_is_told_at_once() -> None:
    for fault in (SLOW, refusal(400), attrs.evolve(refusal(404), kind=FaultKind.UNSUPPORTED)):
        assert await climbing(fault, Served()) == (fault, [Served()])
