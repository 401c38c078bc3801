"""Gets the agent programs: pinned versions from npm, kept outside the checkout between runs.

Each program has a folder of its own, named by name and version, so that one that cannot be
installed takes no other with it and a new pin never meets old files. No package script is run.
All of this blocks, and happens before the first cell.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import filelock

from harness.children import bare_environment
from harness.compat.drivers.driver import NpmProgram, PythonProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harness.compat.drivers.driver import Driver

#: How a program is started; its arguments follow.
Command: TypeAlias = tuple[str, ...]
#: Installs a package (`name@version`) into a folder, or raises `NotInstalledError`.
Npm: TypeAlias = "Callable[[str, Path], None]"

TRIES: Final = 3
#: One npm run; the largest of the packages took 25 s (measured, 400 MB).
NPM_S: Final = 150.0
#: `--version` of the slowest to start, with a generous margin for a busy machine.
VERSION_S: Final = 60.0
#: For another run that installs the same program, in all its tries.
LOCK_S: Final = 600.0

#: npm's own patience would be minutes for each file. So a try without an answer ends before `NPM_S`
#: (two fetches, a pause between them) and with npm's own words. The tries are ours to count.
_NPM_PATIENCE: Final = (
    "--fetch-timeout=60000",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=2000",
    "--fetch-retry-maxtimeout=2000",
)
_NPM_ERROR: Final = "npm error "
_NPM_WORDS: Final = 4
#: The codes of npm's errors that say nothing about the package (seen with npm 11 or named by Node).
_NETWORK_ERROR: Final = re.compile(
    r"code (E(AI_AGAIN|NOTFOUND|TIMEDOUT|CONN[A-Z]+|HOSTUNREACH|NET[A-Z]+)"
    r"|ERR_SOCKET_TIMEOUT|FETCH_ERROR)\b"
)

_MACHINES: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@attrs.frozen
class NotInstalledError(Exception):
    """A program cannot be had; the text says why."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class UnreachableError(NotInstalledError):
    """It cannot be had because the network is away, or as slow as if it were."""


def agents_folder(environ: Mapping[str, str]) -> Path:
    """Return where installed programs are kept: `$XDG_CACHE_HOME/codexrelay/agents`."""
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "codexrelay" / "agents"


def find_all(
    drivers: Iterable[Driver], *, folder: Path, npm: Npm
) -> tuple[Mapping[str, Command], Mapping[str, str]]:
    """Install what is not there yet.

    Once the network has been away for all tries of one program, the others get one try each.

    Returns:
        By driver name: the commands of the programs that are there, and the reasons of those that
        could not be installed.
    """
    found: dict[str, Command] = {}
    missing: dict[str, str] = {}
    tries = TRIES
    for driver in drivers:
        try:
            found[driver.name] = find(driver, folder=folder, npm=npm, tries=tries)
        except NotInstalledError as error:
            missing[driver.name] = str(error)
            if isinstance(error, UnreachableError):
                tries = 1
    return found, missing


def find(driver: Driver, *, folder: Path, npm: Npm, tries: int = TRIES) -> Command:
    """Return how to start the driver's program, installing it if it is not there yet.

    Raises:
        UnreachableError: it could not be installed; the last of the tries had no network.
        NotInstalledError: it could not be installed, or does not start here.
    """
    match driver.program:
        case PythonProgram() as program:
            return python_command(program)
        case NpmProgram() as program:
            home = folder / f"{program.shared_with or driver.name}-{program.version}"
            return ensure(program, folder=home, npm=npm, tries=tries)


def python_command(program: PythonProgram) -> Command:
    """Return how to start one of our own scripts.

    Raises:
        NotInstalledError: the library that it is around is not there.
    """
    try:
        importlib.metadata.version(program.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise NotInstalledError(
            f"the Python package {program.distribution} is not installed"
        ) from None
    # Isolated: the script's folder must not become an import path, its neighbours are no modules
    # of their own.
    return (sys.executable, "-I", str(program.script))


def ensure(program: NpmProgram, *, folder: Path, npm: Npm, tries: int = TRIES) -> Command:
    """Return how to start `program` in `folder`, installing it with `npm` if need be.

    `npm` is called with a package and its version, and the folder. Two processes may ask at the
    same time: one installs, the other waits.

    Raises:
        NotInstalledError: see `find`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "ready.json"
    try:
        with filelock.FileLock(f"{folder}.lock", timeout=LOCK_S):
            if (known := _noted(stamp)) is not None:
                return known
            command = _install(program, folder=folder, npm=npm, tries=tries)
            stamp.write_text(json.dumps(command), "utf-8")
            return command
    except filelock.Timeout:
        raise NotInstalledError(f"another run holds {folder}.lock") from None


def _noted(stamp: Path) -> Command | None:
    """Return the command that an earlier run noted, None if there is none or its file is gone."""
    try:
        command = tuple(json.loads(stamp.read_text("utf-8")))
    except (OSError, ValueError):
        return None
    return command if Path(command[-1]).exists() else None


def _install(program: NpmProgram, *, folder: Path, npm: Npm, tries: int) -> Command:
    spec = f"{_for_this_machine(program.package)}@{program.version}"
    for number in range(1, tries + 1):
        try:
            npm(spec, folder)
            return _first_that_starts(program, modules=folder / "node_modules")
        except NotInstalledError as error:
            if number == tries:
                counted = "1 try" if tries == 1 else f"{tries} tries"
                told = f"{spec}, after {counted}: {error}"
                raise attrs.evolve(error, reason=told) from None
    raise AssertionError("unreachable: the last try returns or raises")


def run_npm(spec: str, folder: Path) -> None:
    """Install one package into `folder` without running its scripts.

    Raises:
        UnreachableError: it had no network, or took too long.
        NotInstalledError: there is no npm, or it failed; its last words are in the text.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalledError("npm is not installed")
    # Without a project file of its own npm would look for one in the folders above.
    (folder / "package.json").write_text('{"private": true}\n', "utf-8")
    print(f"installing {spec}", file=sys.stderr, flush=True)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save")
    try:
        done = subprocess.run(
            (npm, "install", *quiet, *_NPM_PATIENCE, spec),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"npm took longer than {NPM_S:.0f} s") from None
    if done.returncode:
        raise npm_error(done.returncode, done.stderr)


def npm_error(status: int, stderr: str) -> NotInstalledError:
    """Return what npm's end with `status` means."""
    words = _npm_words(stderr)
    kind = UnreachableError if _NETWORK_ERROR.match(words) else NotInstalledError
    return kind(words or f"npm ended with {status}")


def _npm_words(stderr: str) -> str:
    """Return the first of npm's error lines, which name the error; the last only names a log."""
    lines = [line.removeprefix(_NPM_ERROR) for line in stderr.splitlines()]
    return "; ".join([line.strip() for line in lines if line.strip()][:_NPM_WORDS])


def _first_that_starts(program: NpmProgram, *, modules: Path) -> Command:
    """Return the first of the program's files that runs here and is the pinned version.

    A file may be there and not run: one build of OpenCode needs a newer processor.
    """
    seen = []
    for path in _candidates(program, modules=modules):
        command = (*program.runtime, str(path))
        said = _version_of(command)
        if program.version in said:
            return command
        seen.append(f"{path.name} says {said!r}")
    raise NotInstalledError("; ".join(seen) or f"no program for {npm_platform()} in the package")


def _candidates(program: NpmProgram, *, modules: Path) -> Iterator[Path]:
    for pattern in program.paths:
        yield from sorted(modules.glob(_for_this_machine(pattern)))


def _version_of(command: Command) -> str:
    """Return what the program prints for `--version`, or why it does not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        try:
            done = subprocess.run(
                (*command, "--version"),
                env=dict(bare_environment(Path(home))),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=VERSION_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return _last_words(done.stdout) or f"exit status {done.returncode}"


def _for_this_machine(text: str) -> str:
    return text.replace("{platform}", npm_platform())


def npm_platform() -> str:
    """Return npm's usual name for this machine, such as `linux-x64`."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
