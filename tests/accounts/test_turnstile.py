from __future__ import annotations

import os
import stat
from random import Random
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing

from codexrelay.accounts.files import Locks
from codexrelay.accounts.turnstile import (
    MAX_PAUSE_S,
    MIN_PAUSE_S,
    STUCK_S,
    Passed,
    Turnstile,
    pause_s,
)
from tests.fakes.wall_clock import NOW_UNIX_S as NOW
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from pathlib import Path


class Drawn(Random):
    """Draws the longest pause, and remembers what it was asked for."""

    asked: tuple[float, float] | None = None

    def uniform(self, a: float, b: float) -> float:
        self.asked = (a, b)
        return b


@attrs.define(eq=False)
class Impatient(WallClock):
    """Fails whoever asks it again and again."""

    asked: int = 0

    def __call__(self) -> float:
        self.asked += 1
        assert self.asked < 10_000
        return self.now_unix_s


def a_turnstile() -> Turnstile:
    """Return one of a process of its own."""
    return Turnstile(wall_clock=WallClock(), rng=Drawn())


async def passed(turnstile: Turnstile, account_id: str, folder: Path | None) -> float:
    """Pass, and return how long it took on trio's clock."""
    began_at_s = trio.current_time()
    async with turnstile.passing(account_id, folder=folder):
        return trio.current_time() - began_at_s


def files_in(folder: Path) -> dict[str, int]:
    """Return the names and modes of the files in `folder`."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("last", "pause"),
    [
        pytest.param(None, 0.0, id="nobody yet"),
        pytest.param(Passed("home", NOW), 0.5, id="just now"),
        pytest.param(Passed("home", NOW - 0.2), 0.3, id="a moment ago"),
        pytest.param(Passed("home", NOW - 0.5), 0.0, id="long enough ago"),
        pytest.param(Passed("home", NOW - 86_400), 0.0, id="after a quiet time"),
        pytest.param(Passed("home", NOW + 86_400), 0.5, id="the clock was set back"),
    ],
)
def test_a_pause_is_what_is_missing_of_it_since_the_last_call(
    last: Passed | None, pause: float
) -> None:
    assert pause_s(last, now_unix_s=NOW, wanted_s=0.5) == pytest.approx(pause)


async def test_another_account_pauses_also_if_another_process_has_just_called(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock.autojump_threshold == 0
    one, other = a_turnstile(), a_turnstile()
    assert await passed(one, "work", tmp_path) < MIN_PAUSE_S
    assert await passed(other, "home", tmp_path) >= MAX_PAUSE_S
    assert await passed(one, "home", tmp_path) < MIN_PAUSE_S
    assert isinstance(other.rng, Drawn)
    assert other.rng.asked == (MIN_PAUSE_S, MAX_PAUSE_S)


async def test_an_account_of_another_folder_pauses_too_whatever_its_name(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock.autojump_threshold == 0
    one, second = a_turnstile(), tmp_path / "second"
    second.mkdir()
    assert await passed(one, "work", tmp_path) < MIN_PAUSE_S
    assert await passed(one, "work", second) >= MAX_PAUSE_S
    assert await passed(one, "codex-cli", None) >= MAX_PAUSE_S
    assert await passed(one, "codex-cli", None) < MIN_PAUSE_S


async def test_after_a_quiet_time_nobody_pauses(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock.autojump_threshold == 0
    turnstile, clock = a_turnstile(), WallClock()
    turnstile.wall_clock = clock
    await passed(turnstile, "work", tmp_path)
    clock.now_unix_s += MAX_PAUSE_S
    assert await passed(turnstile, "home", tmp_path) < MIN_PAUSE_S


async def test_one_passes_at_a_time_in_all_processes(tmp_path: Path) -> None:
    inside = 0

    async def go(turnstile: Turnstile) -> None:
        nonlocal inside
        async with turnstile.passing("work", folder=tmp_path):
            inside += 1
            assert inside == 1
            await trio.lowlevel.checkpoint()
            inside -= 1

    one, other = a_turnstile(), a_turnstile()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for turnstile in (one, one, other, other):
                nursery.start_soon(go, turnstile)


async def test_without_a_meeting_place_one_passes_at_a_time_in_this_process(
    tmp_path: Path,
) -> None:
    turnstile = a_turnstile()
    async with turnstile.passing("work", folder=None), trio.open_nursery() as nursery:
        nursery.start_soon(passed, turnstile, "work", None)
        await trio.testing.wait_all_tasks_blocked()
        assert turnstile.waiting == 1
        nursery.cancel_scope.cancel()
    assert files_in(tmp_path) == {}


async def test_whoever_gives_up_waiting_leaves_the_way_free(tmp_path: Path) -> None:
    turnstile = a_turnstile()
    async with turnstile.passing("work", folder=tmp_path):
        with trio.CancelScope() as leaving:
            leaving.cancel()
            await passed(turnstile, "home", tmp_path)
        with trio.CancelScope() as leaving:
            leaving.cancel()
            await passed(a_turnstile(), "home", tmp_path)
    with trio.fail_after(30):
        await passed(a_turnstile(), "work", tmp_path)


async def test_a_process_that_is_stopped_inside_does_not_keep_the_others_out_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock.autojump_threshold == 0
    await passed(a_turnstile(), "work", tmp_path)
    stopped = Locks((tmp_path / ".issuer.lock",))
    assert stopped.try_acquire()
    turnstile, clock = a_turnstile(), Impatient()
    turnstile.wall_clock = clock
    with trio.move_on_after(60) as patience:
        await passed(turnstile, "work", tmp_path)
    assert patience.cancelled_caught
    clock.now_unix_s += STUCK_S + 1
    await passed(turnstile, "work", tmp_path)
    stopped.release()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"account": 1}'])
async def test_a_note_that_says_nothing_holds_nobody_up(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".issuer.passed").write_bytes(data)
    with trio.fail_after(30):
        assert await passed(a_turnstile(), "work", tmp_path) < 30


@pytest.mark.skipif(os.name == "nt", reason="file modes of Unix")
async def test_what_it_leaves_is_for_the_owner_only(tmp_path: Path) -> None:
    await passed(a_turnstile(), "work", tmp_path)
    assert files_in(tmp_path) == {".issuer.lock": 0o600, ".issuer.passed": 0o600}
