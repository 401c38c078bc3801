from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from codexrelay.accounts.pool import Ask
from codexrelay.backends.codex.catalogue import Catalogue
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.record import Record
from codexrelay.server.offer import ModelOffer
from tests.fakes.upstream import ScriptedBackend, lending
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from types import FrameType


class Calls:
    """Counts the calls of the block, of functions in Python and in C."""

    count = 0

    def __enter__(self) -> Calls:
        self._before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_raised: object) -> None:
        sys.setprofile(self._before)

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.count += event in ("call", "c_call")


def family(accounts: int) -> Instances:
    """Two instances with so many accounts each."""
    return Instances(
        tuple(
            Instance(
                name=name,
                lender=lending(*(f"account-{number}" for number in range(accounts))),
                backend=ScriptedBackend([]),  # type: ignore[arg-type] - a fake
                budgets=Budgets(),
            )
            for name in ("openai-codex", "openai-codex.2")
        )
    )


async def calls_for_an_attempt(instances: Instances, instance: Instance) -> int:
    """Return the calls of what is asked of the accounts for one attempt."""
    offer = ModelOffer(Catalogue(None), instances, "m")
    record = Record()
    with Calls() as calls:
        assert instance.has(instance.qualified("account-1"))
        assert offer.plans is None
        assert not instances.binds
        async with instance.lender.lease(Ask(model="m", plans=offer.plans)) as lease:
            record.begins_attempt(instance, lease, "m")
            lease.accept({"x-codex-primary-used-percent": "7"})
    return calls.count


@pytest.mark.parametrize("member", [0, 1], ids=["first instance", "another one"])
@in_virtual_time
async def test_a_turn_costs_the_same_however_many_accounts_there_are(member: int) -> None:
    counts = []
    for accounts in (2, 200):
        instances = family(accounts)
        instance = instances.members[member]
        for _ in range(3):  # the first turns look at each account, once
            calls = await calls_for_an_attempt(instances, instance)
        counts.append(calls)
    assert counts[0] == counts[1]


@in_virtual_time
async def test_accounts_of_a_further_instance_are_named_with_it_also_by_what_is_at_hand() -> None:
    instances = family(2)
    record = Record()
    for instance in (*instances.members, *instances.members):
        async with instance.lender.lease(Ask(rejected=frozenset({"account-0"}))) as lease:
            record.begins_attempt(instance, lease, "m")
    told = [(t.account, t.candidates, [name for name, _ in t.passed_over]) for t in record.tried]
    first = ("account-1", ("account-1",), ["account-0"])
    further = (
        "openai-codex.2/account-1",
        ("openai-codex.2/account-1",),
        ["openai-codex.2/account-0"],
    )
    assert told == [first, further, first, further]
