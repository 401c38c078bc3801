"""Runs one program in a home of its own, with nothing of ours in its environment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.children import REAP_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Interrupting a program, and killing it with all its children, needs process groups.
HAS_PROCESS_GROUPS: Final = sys.platform != "win32"


@attrs.frozen(kw_only=True)
class Launch:
    """A program ready to be started."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    #: Its home. It starts in `project` below it.
    home: Path
    #: What stands on its standard input; "": it has none.
    stdin: str = ""

    @property
    def stdout_path(self) -> Path:
        """Return the file that takes its output."""
        return self.home / "stdout"

    @property
    def stdin_path(self) -> Path:
        """Return the file that holds what it is told on its standard input."""
        return self.home / "stdin"

    @property
    def stderr_path(self) -> Path:
        """Return the file that takes its complaints."""
        return self.home / "stderr"


def make_home(home: Path, files: Mapping[str, str | bytes]) -> None:
    """Write a program's configuration into a home, which may be new."""
    for folder in ("project", "tmp"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@attrs.frozen(kw_only=True)
class Exit:
    """How a run ended."""

    #: Exit status as a shell shows it: 130 is SIGINT, whether the program died of it or said so.
    #: None: it was killed, because its time was up.
    status: int | None = None
    #: When it was interrupted, on trio's clock; None if it was not.
    interrupted_at_s: float | None = None


async def run(
    launch: Launch, *, interrupt_when: Callable[[], Awaitable[None]] | None = None
) -> Exit:
    """Run the program to its end.

    Output goes to files, so that a child that keeps it open delays nothing. Once `interrupt_when`
    has returned, the program gets what Ctrl-C at a terminal sends (which it ignores if this process
    does: see `let_children_be_interrupted`). When the caller gives up, or the
    program leaves children behind, all of them are killed.
    """
    interrupted_at_s: float | None = None

    async def interrupt(when: Callable[[], Awaitable[None]]) -> None:
        nonlocal interrupted_at_s
        await when()
        interrupted_at_s = trio.current_time()
        os.killpg(process.pid, signal.SIGINT)

    if launch.stdin:
        launch.stdin_path.write_text(launch.stdin, "utf-8")
    source = launch.stdin_path if launch.stdin else Path(os.devnull)
    with (
        source.open("rb") as stdin,
        launch.stdout_path.open("wb") as stdout,
        launch.stderr_path.open("wb") as stderr,
    ):
        process = await trio.lowlevel.open_process(
            launch.command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=launch.environment,
            cwd=launch.home / "project",
            start_new_session=HAS_PROCESS_GROUPS,
        )
    try:
        async with trio.open_nursery() as nursery:
            if interrupt_when is not None:
                nursery.start_soon(interrupt, interrupt_when)
            status = await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        _kill_group(process)
        with trio.move_on_after(REAP_S, shield=True):
            await process.wait()
    return Exit(status=shell_status(status), interrupted_at_s=interrupted_at_s)


def shell_status(status: int) -> int:
    """Return a POSIX exit status as a shell shows it: 128 and the signal that ended the program."""
    return 128 - status if status < 0 else status


def _kill_group(process: trio.Process) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody is left. (macOS says so with the second when only the unreaped leader remains.)
        return
