"""Child processes, and what /proc says about them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.subject import MeasurementError, Subject

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Generous: a machine may be busy with other things.
START_S: Final = 60.0
#: How long a child may take to end after SIGTERM.
_STOP_S: Final = 5.0
_POLL_S: Final = 0.005
#: 500 streams through a relay are 1,000 sockets of its own.
_WANTED_FILES: Final = 65536
#: How much a program that did not start is quoted.
_TAIL_LINES: Final = 12
_URL_LINE: Final = re.compile(r"(http://\S+)")


def launch(
    stack: contextlib.ExitStack,
    name: str,
    command: list[str],
    folder: Path,
    *,
    look_for_url: Callable[[], str | None],
    stdout: Path | None = None,
    stderr: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Subject:
    """Start a program that `stack` ends, and wait until `look_for_url` sees that it is ready.

    Raises:
        MeasurementError: it ended, or was not ready within `START_S`.
    """
    began_s = time.perf_counter()
    process = stack.enter_context(_running(command, folder, stdout=stdout, stderr=stderr, env=env))
    while (url := look_for_url()) is None:
        if process.poll() is not None:
            raise MeasurementError(f"it ended with status {process.returncode}{_said(stderr)}")
        if time.perf_counter() - began_s > START_S:
            raise MeasurementError(f"it was not ready within {START_S:.0f} s")
        time.sleep(_POLL_S)
    return Subject(name, url, process.pid, time.perf_counter() - began_s)


def launch_printing_url(
    stack: contextlib.ExitStack, name: str, command: list[str], folder: Path
) -> Subject:
    """Start a program whose first line is its URL, printed once it accepts connections.

    Raises:
        MeasurementError: it did not start.
    """
    said = folder / f"{name}.out"
    return launch(
        stack, name, command, folder, look_for_url=lambda: line_in(said, _URL_LINE), stdout=said
    )


def line_in(path: Path, pattern: re.Pattern[str]) -> str | None:
    """Return the first group of the first whole line that matches; the file may still grow."""
    for line in path.read_text("utf-8", errors="replace").splitlines(keepends=True):
        if line.endswith("\n") and (match := pattern.fullmatch(line[:-1])):
            return match[1]
    return None


def cpu_s(pid: int) -> float:
    """Return the CPU seconds used so far, user and system, by a process and its descendants.

    Exact to the microsecond; children that have ended count as soon as they were waited for, in
    ticks, usually of 10 ms.
    """
    used_s = 0.0
    for member in _tree(pid):
        with contextlib.suppress(OSError):  # it may end while we look
            waited_for_ticks = sum(int(value) for value in _stat(member)[13:15])
            used_s += waited_for_ticks / os.sysconf("SC_CLK_TCK")
            used_s += time.clock_gettime(_cpu_clock(member))
    return used_s


def user_and_system_s(pid: int) -> tuple[float, float]:
    """Return the CPU seconds used so far in user mode and in the kernel, in ticks."""
    user, system = _stat(pid)[11:13]
    return int(user) / os.sysconf("SC_CLK_TCK"), int(system) / os.sysconf("SC_CLK_TCK")


def _cpu_clock(pid: int) -> int:
    """Return the clock of all CPU time of another process, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def rss_bytes(pid: int) -> float:
    """Return the resident memory of a process and its descendants.

    Pages that several of them share count several times.

    Raises:
        MeasurementError: there is no such process.
    """
    pages = 0
    for member in _tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    if not pages:
        raise MeasurementError(f"there is no process {pid}")
    return pages * os.sysconf("SC_PAGE_SIZE")


def ended_by_sigterm() -> None:
    """Leave on SIGTERM through all blocks, so that the children are ended too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def allow_many_sockets() -> None:
    """Raise the soft limit of open files, which every child inherits, as far as it may go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _running(
    command: list[str],
    folder: Path,
    *,
    stdout: Path | None = None,
    stderr: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in `folder` that ends with the block.

    Its output goes to files, because a pipe that nobody reads would stop it; None: to where ours
    goes. `env` None is our own environment.
    """
    with contextlib.ExitStack() as files:
        out, err = (
            files.enter_context(path.open("wb")) if path else None for path in (stdout, stderr)
        )
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(stderr: Path | None) -> str:
    lines = stderr.read_text("utf-8", errors="replace").split("\n")[-_TAIL_LINES:] if stderr else []
    return "\n".join([":", *lines]).rstrip() if lines else ""


def _tree(root: int) -> list[int]:
    """Return the process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(_stat(int(entry.name))[1])
                children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree += children.get(pid, [])
    return tree


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third (state) on; the second, the name, may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
