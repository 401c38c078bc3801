"""Whether a folder can be written to, and by whom it can be read. Blocks, as the checks do."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from typing import TYPE_CHECKING, Final, Protocol

from filelock import Timeout

from codexrelay.accounts.files import new_lock, why_open_to_others
from codexrelay.cli.doctor.finding import broken, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from codexrelay.cli.doctor.finding import Finding

# Not seen by whoever reads the folder: no account's id begins with a dot.
_PREFIX: Final = ".doctor."


class Lock(Protocol):
    """A lock file, as far as it is tried here."""

    def acquire(self, *, blocking: bool) -> object:
        """Take it, or raise `filelock.Timeout`."""

    def release(self) -> None:
        """Give it back."""


def why_not_writable(folder: Path) -> str | None:
    """Write a file into the folder and delete it; return what went wrong, None if nothing did."""
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=_PREFIX, suffix=".tmp")
    except OSError as error:
        return error.strerror or str(error)
    with contextlib.suppress(OSError), open(descriptor, "wb") as file:
        file.write(b"codexrelay doctor was here\n")
    try:
        os.unlink(name)
    except OSError as error:
        return error.strerror or str(error)
    return None


def why_no_locks(folder: Path, *, make: Callable[[Path], Lock] = new_lock) -> str | None:
    """Take a lock in the folder twice; return what went wrong, None if the second one had to wait.

    Network mounts are where that happens: two relays would then refresh one token at once.
    """
    path = folder / f"{_PREFIX}lock"
    first, second = make(path), make(path)
    try:
        first.acquire(blocking=False)
        try:
            second.acquire(blocking=False)
        except Timeout:
            return None
        second.release()
    except Timeout:
        return None  # another doctor is at it, and locks keep us out
    except (OSError, NotImplementedError) as error:
        return f"lock files cannot be used ({error})"
    else:
        return "two programs can hold one lock file at once"
    finally:
        first.release()
        with contextlib.suppress(OSError):
            path.unlink()


def why_not_made(folder: Path) -> str | None:
    """Return why a folder that is not there could not be made, None if it could."""
    # `Path.exists` raises where a folder may not be searched (Python 3.11).
    above = next((parent for parent in folder.parents if os.path.exists(parent)), None)
    if above is None:  # a drive of Windows that is not there
        return f"there is no {folder.anchor or folder}"
    if not os.path.isdir(above):
        return f"{above} is no folder"
    why = why_not_writable(above)
    return None if why is None else f"{above} cannot be written to: {why}"


def is_strange(folder: Path, *, own_uid: int | None) -> bool:
    """Tell whether the folder belongs to another user. `own_uid` is None where users have none."""
    return own_uid is not None and folder.stat().st_uid != own_uid


def own_uid() -> int | None:
    """Return this user's number, None on Windows."""
    return os.getuid() if hasattr(os, "getuid") else None


def look_at(folder: Path, about: str, *, key: str, uid: int | None) -> Iterator[Finding]:
    """Yield what is wrong with a folder of ours; nothing if nothing is, or if it is not there.

    Args:
        folder: which.
        about: what a finding calls it.
        key: the full path of the key that names it.
        uid: this user's number.
    """
    if not os.path.lexists(folder):
        if why := why_not_made(folder):
            told = f"{folder} is not there and cannot be made: {why}"
            yield broken(about, told, f"{key}: FOLDER, one that can be made")
        return
    named = shlex.quote(str(folder))
    if not os.path.exists(folder):
        told = f"{folder} is a link that leads nowhere"
        to = shlex.quote(os.path.realpath(folder))
        yield broken(about, told, f"mkdir -m 700 -p {to}, or: rm {named}")
        return
    if not os.path.isdir(folder):
        yield broken(about, f"{folder} is no folder", f"mv {named} {named}.old")
        return
    if is_strange(folder, own_uid=uid):
        yield warn(
            about,
            f"{folder} belongs to another user",
            f"run the relay as that user, or: sudo chown -R $USER {named}",
        )
    if why := why_open_to_others(folder):
        told, _, mend = why.partition(": ")
        yield warn(about, f"{folder} {told}", mend)
    if why := why_not_writable(folder):
        yield broken(about, f"{folder} cannot be written to: {why}", f"chmod u+rwx {named}")
