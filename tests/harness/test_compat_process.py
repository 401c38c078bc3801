"""Running a program: a small one, but a real process."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from harness.children import bare_environment, let_children_be_interrupted
from harness.compat.agent_process import (
    HAS_PROCESS_GROUPS,
    Exit,
    Launch,
    make_home,
    run,
    shell_status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

GENEROUS_S = 30.0
needs_groups = pytest.mark.skipif(not HAS_PROCESS_GROUPS, reason="needs POSIX process groups")


def launch(home: Path, script: str, files: dict[str, str] | None = None) -> Launch:
    make_home(home, files or {})
    return Launch(
        command=(sys.executable, "-c", script), environment=bare_environment(home), home=home
    )


async def test_a_program_runs_in_its_home_and_its_words_are_kept(tmp_path: Path) -> None:
    program = launch(
        tmp_path / "home",
        "import os, sys;"
        "print(os.path.samefile('.', os.environ['HOME'] + '/project'));"
        "print(open('../a/b').read());"
        "sys.exit('oh')",
        {"a/b": "told"},
    )
    with trio.fail_after(GENEROUS_S):
        ended = await run(program)
    assert ended.status == 1
    assert program.stdout_path.read_text().split() == ["True", "told"]
    assert program.stderr_path.read_text().strip() == "oh"


async def test_standard_input_is_closed(tmp_path: Path) -> None:
    program = launch(tmp_path / "home", "import sys; print(repr(sys.stdin.read()))")
    with trio.fail_after(GENEROUS_S):
        await run(program)
    assert program.stdout_path.read_text().strip() == "''"


@pytest.mark.parametrize(
    ("status", "shown"), [(0, 0), (1, 1), (-2, 130), (-9, 137)], ids=["0", "1", "INT", "KILL"]
)
def test_a_signal_and_its_status_are_one_thing(status: int, shown: int) -> None:
    assert shell_status(status) == shown


def test_nothing_of_the_persons_environment_is_passed_on(tmp_path: Path) -> None:
    names = set(bare_environment(tmp_path))
    assert not {name for name in names if "PROXY" in name.upper() or "KEY" in name.upper()}
    assert bare_environment(tmp_path)["HOME"] == str(tmp_path)


@contextlib.contextmanager
def sigint_ignored() -> Iterator[None]:
    """Be in the situation of a process that a shell script has put in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def interrupted(home: Path) -> Exit:
    """Run a program that says 7 when it is interrupted, and interrupt it."""
    script = """
import pathlib, time
try:
    pathlib.Path('../up').touch()
    time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(7)
"""

    async def once_up() -> None:
        while not (home / "up").exists():  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.01)

    with trio.fail_after(GENEROUS_S):
        return await run(launch(home, script), interrupt_when=once_up)


@needs_groups
async def test_a_program_is_interrupted_when_it_is_time(tmp_path: Path) -> None:
    ended = await interrupted(tmp_path / "home")
    assert ended.status == 7
    assert ended.interrupted_at_s is not None


@needs_groups
async def test_a_program_can_be_interrupted_although_we_were_started_deaf_to_it(
    tmp_path: Path,
) -> None:
    with sigint_ignored():
        let_children_be_interrupted()
        ended = await interrupted(tmp_path / "home")
    assert ended.status == 7


@needs_groups
async def test_a_program_that_is_given_up_takes_its_children_with_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
pathlib.Path('../child.new').write_text(str(child.pid))
pathlib.Path('../child.new').rename('../child')
time.sleep(60)
"""
    program = launch(home, script)
    with trio.fail_after(GENEROUS_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, program)
            while not (home / "child").exists():  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await gone(int((home / "child").read_text()))


@needs_groups
async def test_children_that_a_program_leaves_behind_are_killed(tmp_path: Path) -> None:
    script = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print(child.pid)
"""
    program = launch(tmp_path / "home", script)
    with trio.fail_after(GENEROUS_S):
        ended = await run(program)
        await gone(int(program.stdout_path.read_text()))
    assert ended.status == 0


async def gone(pid: int) -> None:
    """Return once the process is dead; a zombie that nobody collects counts as dead."""
    while await trio.to_thread.run_sync(alive, pid):  # noqa: ASYNC110 - no child of ours
        await trio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
