"""Lending a backend of another kind: whether it rests, is unwell, or its key is of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
import trio.testing

from codexrelay.accounts.pool import Ask, By
from codexrelay.accounts.waiting import Patience
from codexrelay.backends.openai.key import Key
from codexrelay.backends.openai.lender import KeyLender
from codexrelay.backends.openai.standing import (
    FIRST_UNWELL_S,
    LONGEST_LIMIT_S,
    LONGEST_UNWELL_S,
    Standing,
)
from codexrelay.errors import AllTriedError, BackendRestsError, KeyUnusableError
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.relay.account_faults import fault_of
from tests.fakes.upstream import wall_clock
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

ASK: Final = Ask(model="m", session="s")
NOW: Final = 1000.0
DOWN: Final = attrs.evolve(faults.broken("nobody listens"), reached=Reached.NOT_SENT)


def lending(key: Key | None = None) -> KeyLender:
    return KeyLender(name="local", key=key or Key(backend="local"), wall_clock=wall_clock)


def refusal(status: int, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b'{"error": {"message": "So it is", "type": "t", "code": "c"}}'
    fault = faults.from_response(status, named, body, now_unix_s=NOW)
    return attrs.evolve(fault, reached=Reached.SENT)


async def meet(lender: KeyLender, fault: Fault, ask: Ask = ASK) -> None:
    async with lender.lease(ask) as lease:
        lease.report(fault)


# What a turn is lent.


@in_virtual_time
async def test_any_number_of_turns_has_the_one_account_at_a_time() -> None:
    lender = lending()
    async with lender.lease(ASK) as one, lender.lease(ASK) as other:
        assert one.account is other.account
        assert [account.id for account in lender.accounts()] == ["local"]
        assert (one.account.id, one.by, one.candidates) == ("local", By.STRATEGY, ("local",))
        assert (one.bound, one.refreshed, one.passed_over) == (None, False, ())
        assert one.leased_at_unix_s == wall_clock()
        assert lender.leased == 2
    assert lender.leased == 0
    assert lender.bound("s") is None
    assert one.account.credentials.access_token == ""


@in_virtual_time
async def test_a_turn_that_has_tried_it_is_not_given_it_again() -> None:
    lender = lending()
    tried = attrs.evolve(ASK, rejected=frozenset({"local"}))
    assert not lender.can_take(tried)
    with pytest.raises(AllTriedError, match="backend local: it was asked"):
        async with lender.lease(tried):
            pass


# Keys.


@in_virtual_time
async def test_a_refused_key_is_not_sent_again_by_the_turn_that_met_it() -> None:
    lender = lending()
    async with lender.lease(ASK) as lease:
        lease.report(refusal(401))
        assert not await lease.renew()
    # As the ladder's step for it: the same account, with a token that was refreshed.
    with pytest.raises(AllTriedError, match="its key was refused"):
        async with lender.lease(attrs.evolve(ASK, again="local")):
            pass
    async with lender.lease(ASK):  # another turn finds out for itself
        pass


async def test_a_refused_key_that_was_written_anew_meanwhile_is_worth_another_try(
    tmp_path: Path,
) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"sk-1")
    file.chmod(0o600)
    lender = lending(Key(backend="local", file=file))
    async with lender.lease(ASK) as lease:
        file.write_bytes(b"sk-2-is-longer")
        lease.report(refusal(401))
        assert await lease.renew()
        assert (lease.refreshed, lease.by) == (True, By.AGAIN)
        assert lender.key.text == "sk-2-is-longer"
        assert "sk-2" not in repr(lease)
        lease.report(refusal(401))
        assert not await lease.renew()


@in_virtual_time
async def test_a_key_that_cannot_be_used_keeps_turns_away_with_a_401() -> None:
    lender = lending(Key(backend="local", variable="LOCAL_KEY"))
    assert not lender.can_take(ASK)
    with pytest.raises(KeyUnusableError) as caught:
        async with lender.lease(ASK):
            pass
    fault = fault_of([caught.value], after=None)
    assert (fault.kind, fault.status, fault.code) == (
        FaultKind.UNAUTHORIZED,
        401,
        "no_usable_api_key",
    )
    assert "backends.local.api_key_env" in fault.message


@in_virtual_time
async def test_another_try_on_an_overloaded_backend_needs_no_other_key() -> None:
    lender = lending()
    async with lender.lease(ASK) as lease:
        lease.report(refusal(503))
        assert await lease.renew()
        assert (lease.refreshed, lease.by) == (False, By.AGAIN)


# Resting.


@in_virtual_time
async def test_a_backend_that_asked_for_it_is_left_alone_for_so_long() -> None:
    lender = lending()
    await meet(lender, refusal(429, retry_after="20"))
    assert not lender.can_take(ASK)
    with pytest.raises(BackendRestsError) as caught:
        async with lender.lease(ASK):
            pass
    fault = fault_of([caught.value], after=None)
    assert (fault.kind, fault.status, fault.code) == (FaultKind.THROTTLED, 429, "c")
    assert fault.retry_after_s == 20.0
    assert fault.message.startswith("So it is")
    assert "backend local is asked again in 20 s" in fault.message
    assert "models.routes" in fault.message
    await trio.sleep(20)
    assert lender.can_take(ASK)
    async with lender.lease(ASK) as lease:
        assert lease.rested_s == 0


@in_virtual_time
async def test_a_turn_that_has_the_patience_waits_and_is_told_how_long_it_was() -> None:
    lender, told = lending(), []
    await meet(lender, refusal(429, retry_after="20"))
    patience = Patience(pause_s=30.0, told=told.append)
    async with lender.lease(ASK, patience) as lease:
        assert (lease.rested_s, lease.waited_s) == (20.0, 20.0)
    [choice] = told
    assert [passed.account.id for passed in choice.passed_over] == ["local"]
    await meet(lender, refusal(429, retry_after="20"))
    refused: list[object] = []
    with pytest.raises(BackendRestsError):
        async with lender.lease(ASK, Patience(pause_s=30.0, rested_s=20.0, refused=refused.append)):
            pass
    assert len(refused) == 1


@in_virtual_time
async def test_a_turn_with_another_place_to_go_to_does_not_wait() -> None:
    lender = lending()
    await meet(lender, refusal(429, retry_after="20"))
    with pytest.raises(BackendRestsError):
        async with lender.lease(ASK, Patience(pause_s=30.0, elsewhere=lambda: True)):
            pass
    assert wall_clock() == lender.wall_clock()
    assert trio.current_time() < 1


@in_virtual_time
async def test_a_turn_that_leaves_while_it_waits_leaves_nothing_behind() -> None:
    lender = lending()
    await meet(lender, refusal(429, retry_after="20"))
    with trio.move_on_after(5):
        async with lender.lease(ASK, Patience(pause_s=30.0)):
            raise AssertionError
    assert (lender.leased, trio.current_time()) == (0, 5.0)


@in_virtual_time
async def test_a_turn_that_is_served_ends_the_rest_for_those_who_wait() -> None:
    lender = lending()
    await meet(lender, refusal(429, retry_after="20"))
    await trio.sleep(1)
    waited: list[float] = []

    async def wait() -> None:
        async with lender.lease(ASK, Patience(pause_s=30.0)) as lease:
            waited.append(lease.rested_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(2)
        lender.standing.accept(leased_at_unix_s=wall_clock())
        lender.changed()
    assert waited == [2.0]


@in_virtual_time
async def test_a_fault_of_the_same_turn_is_told_rather_than_the_rest_that_came_of_it() -> None:
    lender, fault = lending(), refusal(429, retry_after="20")
    await meet(lender, fault)
    with pytest.raises(BackendRestsError) as caught:
        async with lender.lease(ASK):
            pass
    assert fault_of([caught.value], after=fault) is fault


@in_virtual_time
async def test_of_the_relays_own_questions_nothing_is_learnt() -> None:
    lender = lending()
    await meet(lender, refusal(429), attrs.evolve(ASK, aside=True))
    await meet(lender, DOWN, attrs.evolve(ASK, aside=True))
    assert lender.can_take(ASK)


# Being unwell.


@in_virtual_time
async def test_an_unwell_backend_is_not_preferred_and_lent_all_the_same() -> None:
    lender = lending()
    await meet(lender, DOWN)
    assert not lender.can_take(ASK)
    async with lender.lease(ASK) as lease:
        lease.accept()
    assert lender.can_take(ASK)


@pytest.mark.parametrize(
    ("fault", "unwell"),
    [
        (DOWN, True),
        (attrs.evolve(faults.broken("in the middle"), reached=Reached.SENT), False),
        (faults.slow("connect_s", 10), True),
        (faults.slow("first_event_s", 10), False),
        (refusal(503), True),
        (refusal(500), True),
        (refusal(401), True),
        (refusal(403), False),
        (refusal(400), False),
        (refusal(404), False),
    ],
    ids=["down", "cut", "no connection", "slow", "503", "500", "401", "403", "400", "404"],
)
def test_what_makes_a_backend_unwell(fault: Fault, *, unwell: bool) -> None:
    standing = Standing()
    standing.suffer(fault, now_unix_s=NOW)
    assert standing.is_unwell(now_unix_s=NOW) is unwell


def test_it_is_unwell_for_longer_each_time_until_it_serves_a_turn() -> None:
    standing, now, lasted = Standing(), NOW, []
    for _ in range(6):
        standing.suffer(DOWN, now_unix_s=now)
        standing.suffer(DOWN, now_unix_s=now + 1)  # of another turn; counts for nothing
        began = now
        while standing.is_unwell(now_unix_s=now):
            now += 1
        lasted.append(now - began)
    assert lasted == [FIRST_UNWELL_S, 10, 20, 40, LONGEST_UNWELL_S, LONGEST_UNWELL_S]
    standing.accept(leased_at_unix_s=now)
    standing.suffer(DOWN, now_unix_s=now)
    assert not standing.is_unwell(now_unix_s=now + FIRST_UNWELL_S)


@pytest.mark.parametrize(
    ("fault", "rests_s"),
    [
        (refusal(429), 5.0),
        (refusal(429, retry_after="0"), 0.5),
        (refusal(429, retry_after="7"), 7.0),
        (refusal(429, retry_after="86400"), 120.0),
        (
            faults.from_response(
                429, {}, b'{"error": {"code": "insufficient_quota"}}', now_unix_s=NOW
            ),
            30.0,
        ),
        (
            faults.from_response(
                429,
                {"retry-after": "86400"},
                b'{"error": {"code": "insufficient_quota"}}',
                now_unix_s=NOW,
            ),
            LONGEST_LIMIT_S,
        ),
    ],
    ids=["unsaid", "at once", "said", "too long", "quota", "quota for a day"],
)
def test_a_rest_lasts_as_long_as_was_said_within_bounds(fault: Fault, rests_s: float) -> None:
    standing = Standing()
    standing.suffer(fault, now_unix_s=NOW)
    rest = standing.rest(now_unix_s=NOW)
    assert rest is not None
    assert rest.until_unix_s - NOW == rests_s
    standing.accept(leased_at_unix_s=NOW - 1)  # leased before it was met, so it disproves nothing
    assert standing.rest(now_unix_s=NOW) is rest
    standing.accept(leased_at_unix_s=NOW + 1)
    assert standing.rest(now_unix_s=NOW) is None
