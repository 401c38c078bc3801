"""Files that hold secrets: replaced whole, readable by their owner only, locked."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shlex
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import orjson
from filelock import FileLock, Timeout

from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from codexrelay.protocol.raw import Json, JsonObject

#: Name, modification time, size, inode and mode of files: equal as long as nothing was written, and
#: nobody was let in or kept out.
Fingerprint: TypeAlias = tuple[tuple[str, int, int, int, int], ...]

_ON_WINDOWS: Final = os.name == "nt"
#: Windows refuses to replace or delete a file that a virus scanner or a reader has open just then.
_REPLACE_TRIES: Final = 4
_REPLACE_WAIT_S: Final = 0.05
#: What network and FUSE mounts answer that know no bringing a folder to the disk.
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
#: No file takes so long to be written.
_LEFTOVER_S: Final = 600.0


@attrs.frozen
class BrokenFileError(Exception):
    """A file cannot be used as it is; it is left alone."""

    problem: Problem

    def __str__(self) -> str:
        return str(self.problem)


def read_bytes(path: Path) -> bytes | None:
    """Return what is in the file, None if there is no file.

    Raises:
        BrokenFileError: it cannot be read, or is a pipe or a device.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise broken(path, "file", "is no regular file")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise broken(path, "file", f"cannot be read ({error.strerror})") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe, which may never come.

    The turns would wait with it, and so would the end of the relay: a thread cannot be cancelled.
    Windows has no pipes among its files.
    """
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def broken(path: Path, field: str, what: str) -> BrokenFileError:
    """Return the error that names the file and the field at fault."""
    return BrokenFileError(Problem(where=f"{path}: {field}", what=what))


def make_folder(path: Path) -> None:
    """Make a folder for its owner only, if there is none.

    Raises:
        OSError: there is none still.
    """
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(path.parent)


def replace_json(path: Path, value: JsonObject) -> None:
    """Write `value` readably, whole or not at all: see `replace_file`."""
    replace_file(path, dump_readably(value))


def dump_readably(value: Json) -> bytes:
    """Serialise as a person edits it: indented, with a newline at the end."""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Half a surrogate pair, which is read from somebody's key: it must not keep tokens out.
        return f"{json.dumps(value, indent=2, allow_nan=False)}\n".encode("ascii")


def replace_file(path: Path, data: bytes) -> None:
    """Replace the file's content: after a crash it is either the old one or the new one.

    Mode 0600. A symbolic link stays one, and what it points to is replaced.

    Raises:
        OSError: nothing was changed; or the disk failed behind the change, and a crash may undo it.
    """
    target = Path(os.path.realpath(path))
    # In the same folder, as a rename must not cross file systems; mkstemp gives mode 0600.
    descriptor, temporary = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"
    )
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _patiently(lambda: os.replace(temporary, target))
    finally:
        with contextlib.suppress(FileNotFoundError):  # moved, as it should be
            os.unlink(temporary)
    _remove_leftovers(target)
    _sync_folder(target.parent)


def real_path(path: Path) -> Path:
    """Return the file itself, for what must be one for all links to it: its locks, its marks.

    Only the last step is followed, as all names of a folder lead to the same neighbours; and a link
    to nothing is not, as there may be no folder to lock in.
    """
    # `Path.exists` raises where a folder may not be searched (Python 3.11).
    follow = os.path.islink(path) and os.path.exists(path)
    return Path(os.path.realpath(path)) if follow else path


def why_open_to_others(path: Path) -> str | None:
    """Return what other users of the machine may do with the file or folder, None if nothing.

    Windows tells it in another way, and a folder of a user is his own there.
    """
    if _ON_WINDOWS:
        return None
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # gone meanwhile, or whoever reads it says what is wrong
    if not mode & 0o077:
        return None
    to_do = f"chmod {'700' if stat.S_ISDIR(mode) else '600'} {shlex.quote(str(path))}"
    verb = "written" if mode & 0o022 else "read" if mode & 0o044 else "entered"
    return f"can be {verb} by others: {to_do}"


def _remove_leftovers(target: Path) -> None:
    """Delete what processes that were killed while they wrote `target` have left beside it.

    It may hold tokens. The age tells it from what another process is writing at this moment.
    """
    with contextlib.suppress(OSError):  # the next one who writes will see to it
        written_s = target.stat().st_mtime
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            if written_s - leftover.stat().st_mtime > _LEFTOVER_S:
                leftover.unlink()


def remove_file(path: Path) -> bool:
    """Delete the file, False if there is none. Of a symbolic link the link goes.

    Raises:
        OSError: it is still there.
    """
    try:
        _patiently(path.unlink)
    except FileNotFoundError:
        return False
    _sync_folder(path.parent)
    return True


def _patiently(act: Callable[[], None]) -> None:
    """Do it, on Windows again when something has the file open at the moment."""
    for attempt in range(1, _REPLACE_TRIES):
        try:
            act()
        except PermissionError:
            if not _ON_WINDOWS:
                raise
            time.sleep(_REPLACE_WAIT_S * attempt)
        else:
            return
    act()


def _sync_folder(folder: Path) -> None:
    """Bring the rename itself to the disk; Windows does it unasked and cannot open folders.

    Where a folder cannot be brought there, the rename stands all the same.
    """
    if _ON_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def fingerprint_of(paths: Iterable[Path]) -> Fingerprint:
    """Return the fingerprint of those of `paths` that exist."""
    marks = []
    for path in paths:
        with contextlib.suppress(OSError):
            at = path.stat()
            marks.append((str(path), at.st_mtime_ns, at.st_size, at.st_ino, at.st_mode))
    return tuple(marks)


def file_size_bytes(path: Path) -> int:
    """Return how large the file is, 0 if that cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def new_lock(path: Path) -> FileLock:
    """Return a lock that may be released by another thread than the one that took it."""
    return FileLock(path, thread_local=False, mode=0o600, poll_interval=0.01)


@attrs.define(eq=False)
class Locks:
    """Several lock files taken as one: all or none, so that no order of them can deadlock."""

    #: The lock files; each stays when released, or a waiter would hold the lock of a deleted file.
    paths: tuple[Path, ...]
    _held: list[FileLock] = attrs.field(factory=list, init=False)

    def try_acquire(self) -> bool:
        """Take all of them without waiting, or none and return False.

        Raises:
            OSError: a lock file cannot be made.
        """
        try:
            for path in self.paths:
                lock = new_lock(path)
                lock.acquire(blocking=False)
                self._held.append(lock)
        except Timeout:
            self.release()
            return False
        except OSError:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Give back what is held. Never waits."""
        while self._held:
            self._held.pop().release()
