"""The keeper of dues, and the comments that it lets turns write, in virtual time."""

from __future__ import annotations

import gc
import math
import weakref
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from codexrelay.relay.dues import Keeper, open_keeper
from codexrelay.relay.line import Line
from tests.fakes.client import FakeClient
from tests.fakes.turn_scripts import COMPLETED, CREATED, TEXT
from tests.fakes.upstream import FOREVER, Wait, head
from tests.fakes.virtual_time import in_virtual_time
from tests.relay.test_turn import Scene, at_rest, scene, terminal_events

if TYPE_CHECKING:
    from codexrelay.relay.turn import Ending

ALIVE = b": keep-alive\n\n"


@attrs.define(eq=False)
class Chore:
    """Comes due again and again."""

    every_s: float
    looked_at_s: list[float] = attrs.field(factory=list)

    def come_due(self, now_s: float) -> float:
        self.looked_at_s.append(now_s)
        return now_s + self.every_s


@in_virtual_time
async def test_each_due_is_looked_at_when_it_says() -> None:
    async with open_keeper() as keeper:
        often, seldom = Chore(every_s=10), Chore(every_s=25)
        dues = [keeper.enter(often, 5), keeper.enter(seldom, 25)]
        await trio.sleep(51)
        assert often.looked_at_s == [5, 15, 25, 35, 45]
        assert seldom.looked_at_s == [25, 50]
        for due in dues:
            keeper.leave(due)
        await trio.sleep(100)
        assert len(often.looked_at_s) == 5
        assert len(keeper) == 0


@in_virtual_time
async def test_an_earlier_due_wakes_a_keeper_that_sleeps_for_a_later_one() -> None:
    async with open_keeper() as keeper:
        late, early = Chore(every_s=math.inf), Chore(every_s=math.inf)
        keeper.enter(late, 100)
        await trio.testing.wait_all_tasks_blocked()
        keeper.enter(early, 3)
        await trio.sleep(4)
        assert early.looked_at_s == [3]
        await trio.sleep(100)
        assert late.looked_at_s == [100]


@in_virtual_time
async def test_a_due_can_be_hastened_and_counts_once() -> None:
    async with open_keeper() as keeper:
        chore = Chore(every_s=20)
        due = keeper.enter(chore, 50)
        keeper.hasten(due, 10)
        keeper.hasten(due, 40)  # no earlier than it is
        await trio.sleep(55)
        assert chore.looked_at_s == [10, 30, 50]
        assert len(keeper) == 1


@in_virtual_time
async def test_what_is_over_is_neither_kept_alive_nor_kept_count_of() -> None:
    async with open_keeper() as keeper:
        chore = Chore(every_s=10)
        gone = weakref.ref(chore)
        keeper.leave(keeper.enter(chore, 1000))
        del chore
        gc.collect()
        assert gone() is None
        stays = keeper.enter(Chore(every_s=10), 10_000)
        for _ in range(10_000):
            keeper.leave(keeper.enter(Chore(every_s=10), 15))
        assert len(keeper._heap) < 200
        assert len(keeper) == 1
        keeper.leave(stays)


@in_virtual_time
async def test_entering_wakes_nobody_while_an_earlier_due_is_kept() -> None:
    async with open_keeper() as keeper:
        keeper.enter(Chore(every_s=10), 10)
        await trio.testing.wait_all_tasks_blocked()
        steps = 0

        class Counts(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                nonlocal steps
                steps += "Keeper.run" in task.name

        counts = Counts()
        trio.lowlevel.add_instrument(counts)
        for _ in range(100):
            keeper.leave(keeper.enter(Chore(every_s=10), 15))
            await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(counts)
        assert steps == 0


# turns with one keeper


async def _play(scenes: list[Scene], keeper: Keeper) -> list[Ending]:
    endings: list[Ending] = []

    async def play(one: Scene) -> None:
        one.relay.keeper = keeper
        endings.append(await one.play())

    async with trio.open_nursery() as nursery:
        for one in scenes:
            nursery.start_soon(play, one)
    return endings


@in_virtual_time
async def test_one_keeper_serves_many_turns_and_they_have_no_task_beside_their_own() -> None:
    async with open_keeper() as keeper:
        scenes = [scene([head(), CREATED, TEXT, Wait(10 + n), COMPLETED]) for n in range(30)]
        most = 0

        async def watch() -> None:
            nonlocal most
            await trio.sleep(0.5)  # between the moments at which comments are due
            while True:
                await trio.sleep(1)
                most = max(most, trio.lowlevel.current_statistics().tasks_living)

        before = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await _play(scenes, keeper)
            nursery.cancel_scope.cancel()
        assert most - before == len(scenes) + 1
        for n, one in enumerate(scenes):
            # A silence of 15 s and no more of 10 s is filled, of each as it is its own.
            assert one.client.body.count(ALIVE) == (10 + n) // 15
            assert at_rest(one)
        assert len(keeper) == 0


@in_virtual_time
async def test_a_comment_that_fails_ends_its_turn_with_an_error_and_no_other() -> None:
    class Failing(FakeClient):
        async def send(self, data: bytes) -> None:
            if data == ALIVE:
                raise RuntimeError("a bug")
            await super().send(data)

    async with open_keeper() as keeper:
        script = [head(), CREATED, TEXT, Wait(20), COMPLETED]
        bad, good = scene(script, client=Failing()), scene(script)
        endings = await _play([bad, good], keeper)
        assert terminal_events(bad.client.body) == ["response.failed"]
        assert b"nobody foresaw" in bad.client.body
        assert good.client.body == CREATED + TEXT + ALIVE + COMPLETED
        assert [ending.fault is None for ending in endings] == [False, True]
        assert at_rest(bad)


@in_virtual_time
async def test_a_turn_whose_client_is_taking_a_comment_ends_only_when_that_has_ended() -> None:
    async with open_keeper() as keeper:
        slow = scene([head(), CREATED, TEXT, FOREVER], client=FakeClient(slow_s=10))
        with trio.move_on_after(30) as left:  # in the middle of a comment
            await _play([slow], keeper)
        assert left.cancelled_caught
        assert trio.current_time() == pytest.approx(35)
        assert slow.client.sent[-1] == (pytest.approx(35), ALIVE)
        assert at_rest(slow)
        await trio.sleep(100)
        assert slow.client.sent[-1][0] == pytest.approx(35)


# the line


@in_virtual_time
async def test_what_a_cancel_keeps_from_being_written_goes_with_the_next_write() -> None:
    client = FakeClient(slow_s=10)
    line = Line(client, keep_alive_s=15, keep_alive=ALIVE)
    async with trio.open_nursery() as nursery:
        await line.write(b"one")
        comment = line.show_life(trio.current_time())
        assert comment is not None
        nursery.start_soon(comment)
        with trio.move_on_after(1):
            await line.write(b"two")
        await line.write(b"three")
    assert [data for _, data in client.sent] == [b"one", ALIVE, b"twothree"]


@in_virtual_time
async def test_a_client_that_can_do_so_gets_the_last_of_its_answer_and_the_end_at_once() -> None:
    class Finishing(FakeClient):
        finished: bytes | None = None

        async def finish(self, data: bytes) -> None:
            self.finished = data
            self.ended = True

    client = Finishing()
    line = Line(client, keep_alive_s=15, keep_alive=ALIVE)
    await line.write(b"one")
    line.owe(b"two")
    await line.finish(b"three")
    assert client.finished == b"twothree"
    assert line.ended
    assert line.due_at_s == math.inf
