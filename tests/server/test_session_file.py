"""What sessions must not forget, on the disk: whole, private, shared, and never in a turn's way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import threading
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from codexrelay.server import session_file
from codexrelay.server.session_file import (
    ANSWER_S,
    BROKEN,
    DROP_EVERY_S,
    FILE,
    LOOK_AGAIN_S,
    SessionFile,
    open_session_file,
)
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.settings import SessionsSettings
from codexrelay.sessions.state import TurnFacts
from codexrelay.sessions.store import Kept, SessionStore, SessionStoreError
from tests.fakes.session_store import MemoryStore
from tests.fakes.wall_clock import NOW_UNIX_S, WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SWITCHED = Kept(uncompacted=True)
DAY_S = 24 * 3600.0


@asynccontextmanager
async def kept_in(folder: Path, clock: WallClock | None = None) -> AsyncIterator[SessionFile]:
    settings = SessionsSettings(state_path=str(folder), keep_days=30)
    async with open_session_file(settings, wall_clock=clock or WallClock()) as file:
        yield file


def rows_of(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return connection.execute("SELECT id, uncompacted, bound FROM sessions").fetchall()


# The seam, over its fake as well.


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    async with kept_in(tmp_path) as file:
        yield file


async def test_what_is_kept_is_found_again(store: SessionStore) -> None:
    assert await store.load("one") is None
    assert await store.save("one", Kept(uncompacted=True, bound="work")) is False
    assert await store.load("one") == Kept(uncompacted=True, bound="work")
    assert await store.load("other") is None


async def test_what_says_nothing_takes_nothing_back(store: SessionStore) -> None:
    await store.save("one", Kept(uncompacted=True, bound="work"))
    assert await store.save("one", Kept()) is True
    assert await store.load("one") == Kept(uncompacted=True, bound="work")
    await store.save("one", Kept(bound="openai-codex.2/home"))
    assert await store.load("one") == Kept(uncompacted=True, bound="openai-codex.2/home")


async def test_whoever_switches_first_is_told_that_it_was(store: SessionStore) -> None:
    await store.save("one", Kept(bound="work"))
    assert await store.save("one", SWITCHED) is False
    assert await store.save("one", SWITCHED) is True


# The file.


async def test_there_is_no_file_until_there_is_something_to_keep(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    async with kept_in(folder) as file:
        assert await file.load("one") is None
        assert not folder.exists()
        await file.save("one", SWITCHED)
        assert (folder / FILE).exists()
    assert sorted(path.name for path in folder.iterdir()) == [FILE], "nothing stands beside it"


async def test_an_empty_store_costs_one_look_now_and_then(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with kept_in(tmp_path) as file, kept_in(tmp_path) as other:
        assert await file.load("one") is None
        await other.save("one", SWITCHED)
        assert await file.load("one") is None, "it has just looked"
        mock_clock.jump(LOOK_AGAIN_S)
        assert await file.load("one") == SWITCHED


async def test_a_restart_finds_what_was_kept(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as file:
        await file.save("one", SWITCHED)
    async with kept_in(tmp_path) as file:
        assert await file.load("one") == SWITCHED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
async def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with kept_in(folder) as file:
        await file.save("one", SWITCHED)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert FILE in modes
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_it_holds_no_name_that_a_client_gave(tmp_path: Path) -> None:
    key = SessionKey(text="a-private-name", name="a-private-name")
    async with kept_in(tmp_path) as file, trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery, store=file)
        facts = TurnFacts(user_turn="turn-1", family=True, compaction=True)
        await sessions.begin_turn(key, facts)
        nursery.cancel_scope.cancel()
    assert rows_of(tmp_path) == [(key.cache_key, 1, None)]
    assert b"private" not in (tmp_path / FILE).read_bytes()


async def test_several_relays_share_one_file_and_none_takes_a_switch_back(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as one, kept_in(tmp_path) as other:
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(one.save, str(n), SWITCHED)
                nursery.start_soon(other.save, str(n), Kept(bound="work"))
        for n in range(20):
            assert await one.load(str(n)) == Kept(uncompacted=True, bound="work")


async def test_what_was_not_used_for_long_is_dropped(tmp_path: Path) -> None:
    clock = WallClock()
    async with kept_in(tmp_path, clock) as file:
        for name in ("old", "read", "saved"):
            await file.save(name, SWITCHED)
        clock.now_unix_s += 20 * DAY_S
        await file.load("read")
        await file.save("saved", Kept())
        clock.now_unix_s += 11 * DAY_S
        assert await file.load("old") is None, "before it is dropped, too"
        await file.save("new", SWITCHED)
        assert {row[0] for row in rows_of(tmp_path)} == {"read", "saved", "new"}
        file.adopt(SessionsSettings(keep_days=1))
        clock.now_unix_s += 2 * DAY_S
        await file.save("last", SWITCHED)
        assert [row[0] for row in rows_of(tmp_path)] == ["last"]


async def test_old_rows_are_looked_for_now_and_then_only(tmp_path: Path) -> None:
    clock = WallClock()
    async with kept_in(tmp_path, clock) as file:
        await file.save("one", SWITCHED)
        file.keep_days = DROP_EVERY_S / DAY_S / 4
        clock.now_unix_s += DROP_EVERY_S / 2
        await file.save("two", SWITCHED)
        assert {row[0] for row in rows_of(tmp_path)} == {"one", "two"}


# What goes wrong.


def garble(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 100)


def tear(path: Path) -> None:
    """Leave the head as it is, and the pages behind it broken."""
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(bytes(data))


def tear_one_page(path: Path) -> None:
    """Leave a row where a look for another one does not find it broken."""
    with closing(sqlite3.connect(path)) as connection:
        rows = [(f"{n:0200}", 0, None, NOW_UNIX_S) for n in range(500)]
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?)", rows)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[-3 * 4096 : -2 * 4096] = b"\0" * 4096
    path.write_bytes(bytes(data))


def be_foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cookies (id)")


def be_someones(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")


BREAKS: list[Callable[[Path], None]] = [garble, tear, tear_one_page, be_foreign, be_someones]


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("first", ["load", "save"])
async def test_a_file_that_cannot_be_used_is_moved_aside_and_told_once(
    spoil: Callable[[Path], None], first: str, tmp_path: Path
) -> None:
    async with kept_in(tmp_path) as file:
        await file.save("old", SWITCHED)
    spoil(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    with capture_logs() as logs:
        async with kept_in(tmp_path) as file:
            if first == "load":
                assert await file.load("old") is None
            assert await file.save("one", SWITCHED) is False
            assert await file.load("one") == SWITCHED
    [warning] = logs
    assert warning["log_level"] == "warning"
    assert warning["moved_to"].endswith(BROKEN)
    assert "backup" in warning["do"]
    assert "compaction" not in str(warning)
    assert (tmp_path / BROKEN).read_bytes() == before
    assert [row[0] for row in rows_of(tmp_path)] == ["one"]


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with capture_logs() as logs:
        async with kept_in(tmp_path) as file:
            assert await file.load("one") is None
            await file.save("one", SWITCHED)
    assert logs == []


async def test_a_newer_relays_file_is_left_alone(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as file:
        await file.save("one", SWITCHED)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = (tmp_path / FILE).read_bytes()
    with capture_logs() as logs:
        async with kept_in(tmp_path) as file:
            for _ in range(2):
                with pytest.raises(SessionStoreError, match="newer codexrelay"):
                    await file.save("one", Kept())
    [warning] = logs
    assert "run the newer codexrelay" in warning["do"]
    assert (tmp_path / FILE).read_bytes() == before


async def test_a_folder_that_cannot_be_made_is_told_once_for_each_time_it_fails(
    tmp_path: Path,
) -> None:
    """A file stands in its way: that stops root as well."""
    folder = tmp_path / "state"
    with capture_logs() as logs:
        async with kept_in(folder) as file:
            for _ in range(2):
                folder.touch()
                for _ in range(3):
                    with pytest.raises(SessionStoreError):
                        await file.save("one", SWITCHED)
                folder.unlink()
                await file.save("one", SWITCHED)
                shutil.rmtree(folder)
    assert [line["log_level"] for line in logs] == ["warning", "info"] * 2
    assert "sessions.state_path" in logs[0]["do"]


async def test_a_file_that_is_deleted_under_our_hands_is_begun_anew(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as file:
        await file.save("one", SWITCHED)
        shutil.rmtree(tmp_path)
        assert await file.load("one") is None
        await file.save("two", SWITCHED)
        assert [row[0] for row in rows_of(tmp_path)] == ["two"]


async def test_a_file_that_another_relay_has_moved_aside_is_let_go_of(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as file, kept_in(tmp_path) as other:
        await file.save("one", SWITCHED)
        for name in os.listdir(tmp_path):
            os.replace(tmp_path / name, tmp_path / name.replace(FILE, BROKEN))
        await other.save("two", SWITCHED)
        assert await file.load("two") == SWITCHED
        await file.save("three", SWITCHED)
        assert {row[0] for row in rows_of(tmp_path)} == {"two", "three"}


async def test_a_turn_goes_on_where_the_folder_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    facts = TurnFacts(user_turn="turn-1", family=True, compaction=True)
    with capture_logs() as logs:
        async with kept_in(tmp_path / "state") as file, trio.open_nursery() as nursery:
            sessions = SessionRegistry(nursery, store=file)
            for _ in range(3):
                _session, plan = await sessions.begin_turn(SessionKey(text="one"), facts)
                assert not plan.compacts
            nursery.cancel_scope.cancel()
    assert sum("compaction" in str(line) for line in logs) == 1
    assert len(logs) == 3, "the switch, the disk, and that it does not know of the switch"


# A disk that does not answer.


@asynccontextmanager
async def on_a_stuck_disk(
    folder: Path, clock: trio.testing.MockClock
) -> AsyncIterator[tuple[SessionFile, Callable[[], None]]]:
    """Give a file in whose thread the next call hangs, and what wakes the disk up again."""
    async with kept_in(folder) as file:
        await file.save("zero", Kept())
        entered, go_on = threading.Event(), threading.Event()

        def stuck() -> float:
            entered.set()
            assert go_on.wait(10)
            return NOW_UNIX_S

        async def time_passes() -> None:
            await trio.to_thread.run_sync(entered.wait)
            clock.jump(ANSWER_S)

        file.wall_clock = stuck
        async with trio.open_nursery() as nursery:
            nursery.start_soon(time_passes)
            try:
                yield file, go_on.set
            finally:
                go_on.set()


async def test_a_disk_that_does_not_answer_is_given_up_and_used_again_when_it_does(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    with capture_logs() as logs:
        async with on_a_stuck_disk(tmp_path, mock_clock) as (file, wake):
            for call in ("given up", "not even asked"):
                with pytest.raises(SessionStoreError, match="not answered"):
                    await file.save(call, SWITCHED)
            wake()
            with trio.fail_after(10):
                while True:
                    try:
                        await file.save("again", SWITCHED)
                        break
                    except SessionStoreError:
                        await trio.to_thread.run_sync(lambda: None)  # its thread is on its way back
            assert [row[0] for row in rows_of(tmp_path)] == ["again", "given up", "zero"]
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert "disk of this machine" in logs[0]["do"]


async def test_a_turn_goes_on_uncompacted_while_the_disk_does_not_answer(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    facts = TurnFacts(user_turn="turn-1", compaction=True)
    async with (
        on_a_stuck_disk(tmp_path, mock_clock) as (file, _wake),
        trio.open_nursery() as nursery,
    ):
        sessions = SessionRegistry(nursery, store=file)
        for name in ("one", "two"):
            _session, plan = await sessions.begin_turn(SessionKey(text=name), facts)
            assert not plan.compacts
        nursery.cancel_scope.cancel()


async def test_while_another_program_holds_the_file_one_call_waits_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_file, "BUSY_S", 0.05)
    tries: list[None] = []

    def clock() -> float:  # looked at once for each try
        tries.append(None)
        return NOW_UNIX_S

    async with kept_in(tmp_path) as file:
        await file.save("zero", SWITCHED)
        file.wall_clock = clock

        async def fail(name: str) -> None:
            with pytest.raises(SessionStoreError):
                await file.save(name, SWITCHED)

        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                for name in "abcdef":
                    nursery.start_soon(fail, name)
            assert len(tries) == 1
            await fail("later")
            assert len(tries) == 2, "who comes later tries again"
        await file.save("free", SWITCHED)


async def test_whatever_goes_wrong_on_the_disk_harms_no_session(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as file:
        await file.save("one", SWITCHED)
        with closing(sqlite3.connect(tmp_path / FILE)) as connection:
            connection.execute("UPDATE sessions SET used_unix_s = 'yesterday'")
            connection.commit()
        with pytest.raises(SessionStoreError):
            await file.load("one")


# Cancellation.


async def test_a_stop_cuts_off_no_save_neither_in_the_thread_nor_in_line(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as file:
        await file.save("zero", SWITCHED)
        entered, go_on = threading.Event(), threading.Event()

        def clock() -> float:
            entered.set()
            assert go_on.wait(10)
            return NOW_UNIX_S

        file.wall_clock = clock
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.save, "one", SWITCHED)
            await trio.to_thread.run_sync(entered.wait)
            nursery.start_soon(file.save, "two", SWITCHED)
            nursery.start_soon(file.load, "two")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            go_on.set()
        assert {row[0] for row in rows_of(tmp_path)} == {"zero", "one", "two"}
        await file.save("three", SWITCHED)


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
async def test_nothing_stays_open(tmp_path: Path) -> None:
    def ours() -> list[str]:
        links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return [at for link in links if os.path.lexists(link) and FILE in (at := os.readlink(link))]

    async with kept_in(tmp_path) as file:
        await file.save("one", SWITCHED)
        assert ours()
    assert ours() == []
