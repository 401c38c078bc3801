"""Gets servers and other relays: pinned packages, each in a virtual environment of its own.

They are kept outside the checkout between runs, in a folder named by server and version. All of
this blocks, and happens before the first server is started.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import filelock

from harness.compat.install import LOCK_S, TRIES, NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness.servers.kinds.kind import Pinned

#: One run of pip: 100 s were measured, for 1.2 GB on two cores.
PIP_S: Final = 600.0
_WORDS: Final = 4


def servers_folder(environ: Mapping[str, str]) -> Path:
    """Return where installed servers are kept: `$XDG_CACHE_HOME/codexrelay/servers`."""
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "codexrelay" / "servers"


def peers_folder(environ: Mapping[str, str]) -> Path:
    """Return where other relays are kept: beside the servers."""
    return servers_folder(environ).with_name("peers")


def find_all(
    kinds: Iterable[Pinned], *, folder: Path, pip: Callable[[Path, Path], None]
) -> tuple[Mapping[str, Path], Mapping[str, str]]:
    """Install what is not there yet, all at the same time.

    Returns:
        By name: the interpreters of the servers that are there, and the reasons of those that could
        not be installed.
    """
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}

    def find(kind: Pinned) -> None:
        try:
            found[kind.name] = ensure(kind, folder=folder / f"{kind.name}-{kind.version}", pip=pip)
        except NotInstalledError as error:
            missing[kind.name] = str(error)

    with ThreadPoolExecutor() as threads:
        list(threads.map(find, kinds))
    return found, missing


def ensure(kind: Pinned, *, folder: Path, pip: Callable[[Path, Path], None]) -> Path:
    """Return the interpreter that has the server, installing it with `pip` if need be.

    `pip` is called with the interpreter and the list of packages. Two processes may ask at the same
    time: one installs, the other waits.

    Raises:
        NotInstalledError: it could not be installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    # The pins may change while the server's own version stays.
    stamp = folder / f"ready-{hashlib.sha256(kind.pins.read_bytes()).hexdigest()[:16]}"
    try:
        with filelock.FileLock(f"{folder}.lock", timeout=LOCK_S):
            if not (stamp.exists() and python.exists()):
                _install(kind, folder=folder, python=python, pip=pip)
                stamp.touch()
            return python
    except filelock.Timeout:
        raise NotInstalledError(f"another run holds {folder}.lock") from None


def _install(
    kind: Pinned, *, folder: Path, python: Path, pip: Callable[[Path, Path], None]
) -> None:
    print(f"installing {kind.name} {kind.version}", file=sys.stderr, flush=True)
    for number in range(1, TRIES + 1):
        try:
            if not python.exists():
                _run((sys.executable, "-m", "venv", str(folder)))
            pip(python, kind.pins)
        except NotInstalledError as error:
            if number == TRIES:
                told = f"{kind.name} {kind.version}, after {TRIES} tries: {error}"
                raise NotInstalledError(told) from None
        else:
            return


def run_pip(python: Path, pins: Path) -> None:
    """Install the packages of a list.

    Raises:
        NotInstalledError: it failed; its last words are in the text.
    """
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-compile")
    _run((str(python), "-m", "pip", "install", *quiet, "--requirement", str(pins)))


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotInstalledError("; ".join(lines[-_WORDS:]) or f"status {done.returncode}")
