"""Ten thousand sessions come, leave, come back and live through restarts: the rule stays true."""

from __future__ import annotations

import contextlib
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs
import trio
import trio.testing
from structlog.testing import capture_logs

from codexrelay.errors import SessionLostError
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.state import TurnFacts, TurnOutcome
from tests.fakes.session_store import MemoryStore
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence

SESSIONS: Final = 10_000
MOST: Final = 200
#: Restarts of the relay; sessions come back after some of them.
LIVES: Final = 6
TURNS: Final = 1_850
AT_ONCE: Final = 30
#: Share of the turns that begin a session, until all have begun.
NEW: Final = 0.92
IDLE_S: Final = 600.0
LOCAL: Final = TurnFacts(user_turn="t", compaction=True)
FAMILY: Final = attrs.evolve(LOCAL, family=True)


@attrs.define(eq=False)
class Crowd:
    """Who asks, and what may be answered."""

    rng: random.Random
    #: Sessions of which a turn to the family has been answered.
    switched: set[str] = attrs.field(factory=set)
    #: Sessions that were seen at all, in the order of their first turns.
    seen: list[SessionKey] = attrs.field(factory=list)
    #: Turns of sessions that had switched before.
    after: int = 0
    #: Turns that gave up before they were answered.
    left: int = 0

    def next(self) -> SessionKey:
        """Return a new session, or one that was there before, often long ago."""
        if len(self.seen) < SESSIONS and self.rng.random() < NEW:
            key = SessionKey(text=f"ses_{len(self.seen)}")
            self.seen.append(key)
            return key
        return self.rng.choice(self.seen[-MOST:] if self.rng.random() < 0.3 else self.seen)

    async def turn(self, sessions: SessionRegistry, key: SessionKey) -> None:
        """Run a turn of some kind; some leave in the middle."""
        before = key.text in self.switched
        self.after += before
        kind = self.rng.random()
        impatient = self.rng.random() < 0.05
        with trio.CancelScope() as scope:
            if impatient:
                scope.deadline = trio.current_time() + self.rng.choice([0.0, 0.5])
            facts = FAMILY if kind < 0.3 else LOCAL
            session, plan = await sessions.begin_turn(key, facts)
            assert not (before and plan.compacts), key
            if facts.family:
                assert not plan.compacts
                self.switched.add(key.text)
            elif kind < 0.4:
                await sessions.meets_family(key, compaction=True)
                self.switched.add(key.text)
            outcome = TurnOutcome(user_turn="t", account_id="a", bound="a", response_id=key.text)
            if kind > 0.9:
                with contextlib.suppress(SessionLostError):
                    await session.end_turn(outcome)
        self.left += scope.cancelled_caught


def actors() -> int:
    """Return how many tasks a session has: none, but while it has to do with the disk."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return sum("SessionActor.work" in task.name for task in tasks_below(root))


def tasks_below(task: trio.lowlevel.Task) -> Sequence[trio.lowlevel.Task]:
    found = [task]
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            found += tasks_below(child)
    return found


@in_virtual_time
async def test_ten_thousand_sessions_keep_the_memory_flat_and_the_rule_true() -> None:
    store, crowd = MemoryStore(), Crowd(random.Random(7))
    with capture_logs() as logs:
        for _ in range(LIVES):
            await live(store, crowd)
    assert len(crowd.seen) == SESSIONS
    assert len(crowd.switched) > 0.3 * SESSIONS
    assert crowd.after > 200, "switched sessions have come back"
    assert crowd.left > 100, "turns have given up"
    told = Counter(str(line["session"]) for line in logs if re.search("compaction", str(line)))
    known = {SessionKey(text=text).cache_key for text in crowd.switched}
    assert known <= set(told), "whoever was answered was told"
    assert set(told.values()) == {1}
    assert {kept for kept, row in store.rows.items() if row.uncompacted} == set(told)


async def live(store: MemoryStore, crowd: Crowd) -> None:
    """Run a relay for a while, and end it."""
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery, MOST, IDLE_S, store=store)
        for _ in range(TURNS // AT_ONCE):
            async with trio.open_nursery() as turns:
                for _ in range(AT_ONCE):
                    # A session's own turns come at once, too: a title and a task.
                    key = crowd.next()
                    turns.start_soon(crowd.turn, sessions, key)
                    if crowd.rng.random() < 0.05:
                        turns.start_soon(crowd.turn, sessions, key)
            assert len(sessions) <= MOST
            if crowd.rng.random() < 0.02:
                await trio.sleep(IDLE_S / 2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(sessions) == MOST
        assert actors() == 0
        assert not sessions._leaving
        assert not sessions._unkept
        assert sessions.characters == 0
        await trio.sleep(IDLE_S)
        sessions.session(SessionKey(text="last"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(sessions) == 1
        assert actors() == 0
        nursery.cancel_scope.cancel()
    assert actors() == 0
