"""nginx, for machines that have none: Debian's package, unpacked beside the benchmarks.

It is not installed: nothing outside the folder changes, no service is set up or started, and no
privileges are needed. Only the lists of packages are brought up to date, where there are none and
we may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.subject import MeasurementError

#: Ignored by git; `make clean` removes it.
FOLDER: Final = Path(__file__).resolve().parents[1] / "build" / "nginx"
#: Not in the path of a user without privileges.
_PLACES: Final = "/usr/sbin:/usr/local/sbin"
#: Which of them holds the program differs from release to release.
_PACKAGES: Final = ("nginx", "nginx-light")
_PROGRAM: Final = "usr/sbin/nginx"
_OPTIONS: Final = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15")
_TIMEOUT_S: Final = 90.0


def find_nginx(folder: Path = FOLDER, *, places: str = _PLACES) -> str:
    """Return the program: the machine's own, else one that is unpacked once.

    `places` are searched beside the usual path.

    Raises:
        MeasurementError: there is none, and none can be had.
    """
    ours = folder / _PROGRAM
    for found in (
        shutil.which("nginx"),
        shutil.which("nginx", path=places),
        str(ours) if ours.exists() else None,
    ):
        if found is not None:
            return found
    return _unpacked(folder)


def _unpacked(folder: Path) -> str:
    missing = "it is not installed (the package nginx-light will do)"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise MeasurementError(missing)
    tried = folder / "tried"
    if tried.exists():
        raise MeasurementError(f"{missing}, and could not be fetched: {tried.read_text('utf-8')}")
    folder.mkdir(parents=True, exist_ok=True)
    said = _fetch(folder)
    if said and os.geteuid() == 0:
        _run(["apt-get", *_OPTIONS, "update"], folder)
        said = _fetch(folder)
    program = folder / _PROGRAM
    if not said and not _run([str(program), "-v"], folder):
        return str(program)
    shutil.rmtree(folder)
    folder.mkdir()
    # Not again with every run: without a network it takes half a minute to learn it.
    tried.write_text(said or "it does not run here", "utf-8")
    raise MeasurementError(f"{missing}, and cannot be fetched: {said or 'it does not run here'}")


def _fetch(folder: Path) -> str:
    """Download and unpack; return what went wrong, or nothing."""
    said = ""
    for package in _PACKAGES:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            # As root, apt-get would else complain that its own user may not write here.
            options = (*_OPTIONS, "-o", "APT::Sandbox::User=root")
            said = _run(["apt-get", *options, "download", package], Path(scratch))
            for archive in Path(scratch).glob("*.deb"):
                said = _run(["dpkg-deb", "--extract", str(archive), str(folder)], folder)
        if (folder / _PROGRAM).exists():
            return ""
    return said or "the package holds no program"


def _run(command: list[str], folder: Path) -> str:
    """Run a command; return its last words where it failed, or nothing."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not done.returncode:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{command[0]} ended with status {done.returncode}"
