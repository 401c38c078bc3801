"""What sessions must not forget, in one small SQLite file: `sessions.sqlite3` in the state folder.

Several relays may share it. It holds digests of session names, account ids and times, and nothing
that was said. A turn never fails because of it: what goes wrong is told once, and tried again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import attrs
import structlog
import trio

from codexrelay.sessions.settings import SessionsSettings
from codexrelay.sessions.store import Kept, SessionStoreError

FILE: Final = "sessions.sqlite3"
#: What a file that cannot be used is called from then on; an older one of that name is gone.
BROKEN: Final = "sessions.sqlite3.broken"
#: Says that the file is ours: `xrly`.
APPLICATION_ID: Final = 0x78726C79
SCHEMA: Final = 1
#: How long another relay's writing is waited for.
BUSY_S: Final = 2.0
#: A disk that has not answered for so long is out of reach. Who asks waits once for those before
#: him, and once for his own answer.
ANSWER_S: Final = 4.0
#: Where there is no file, it is looked for this often: another relay may make one.
LOOK_AGAIN_S: Final = 5.0
#: Old rows are dropped this often, and when the file is opened.
DROP_EVERY_S: Final = 3600.0
#: A row that is read although it is older than this is new again.
TOUCH_S: Final = 3600.0
CLOSING_S: Final = 5.0
_DAY_S: Final = 24 * 3600.0
#: SQLite keeps these beside the file; they belong to it.
_BESIDE: Final = ("-wal", "-shm", "-journal")
_UNUSABLE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    uncompacted INTEGER NOT NULL,
    bound TEXT,
    used_unix_s REAL NOT NULL
) WITHOUT ROWID
"""
# Nothing is taken back: another relay may know more.
_SAVE: Final = """
INSERT INTO sessions (id, uncompacted, bound, used_unix_s) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    uncompacted = max(uncompacted, excluded.uncompacted),
    bound = coalesce(excluded.bound, bound),
    used_unix_s = max(used_unix_s, excluded.used_unix_s)
"""
_LOAD: Final = "SELECT uncompacted, bound, used_unix_s FROM sessions WHERE id = ?"
_TOUCH: Final = "UPDATE sessions SET used_unix_s = max(used_unix_s, ?) WHERE id = ?"
_DROP: Final = "DELETE FROM sessions WHERE used_unix_s < ?"

_Answer = TypeVar("_Answer")

_log = structlog.get_logger("codexrelay.sessions")


class _UnusableError(Exception):
    """The file is no database, a broken one, or another program's."""


class _NewerError(Exception):
    """A newer relay has made the file."""


@attrs.define(eq=False, kw_only=True)
class SessionFile:
    """The `SessionStore` on the disk. The file comes into being with the first fact to keep."""

    folder: Path
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: For how long a session that is not used is remembered.
    keep_days: float = SessionsSettings().keep_days
    #: Calls come one after the other.
    _line: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: The right to use the connection. It is the thread's for as long as that runs, be anybody
    #: waiting for it or not.
    _limiter: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(1), init=False
    )
    # What follows belongs to the thread that the limiter has let in.
    _connection: sqlite3.Connection | None = attrs.field(default=None, init=False)
    #: Device and inode of what is open: the file may be deleted, or replaced, under our hands.
    _opened: tuple[int, int] | None = attrs.field(default=None, init=False)
    _dropped_unix_s: float = attrs.field(default=0.0, init=False)
    # And this to the tasks.
    _looked_at_s: float | None = attrs.field(default=None, init=False)
    _failing: bool = attrs.field(default=False, init=False)
    #: How often somebody has waited in vain.
    _outages: int = attrs.field(default=0, init=False)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / FILE

    def adopt(self, settings: SessionsSettings) -> None:
        """Go by other settings; where the file is does not change."""
        self.keep_days = settings.keep_days

    async def load(self, session_id: str) -> Kept | None:
        """See `SessionStore.load`. Where there is no file the disk is left alone but for a look.

        Raises:
            SessionStoreError: it cannot be read.
        """
        now_s = trio.current_time()
        if self._looked_at_s is not None and now_s - self._looked_at_s < LOOK_AGAIN_S:
            return None
        kept, is_there = await self._in_thread(lambda: self._load(session_id))
        self._looked_at_s = None if is_there else now_s
        return kept

    async def save(self, session_id: str, kept: Kept) -> bool:
        """See `SessionStore.save`. Cancelled, it comes to its end all the same.

        Raises:
            SessionStoreError: it cannot be stored.
        """
        # What the last turns before a stop leave behind would be lost otherwise, in line.
        with trio.CancelScope(shield=True):  # there are deadlines inside
            known = await self._in_thread(lambda: self._save(session_id, kept))
        self._looked_at_s = None
        return known

    async def aclose(self) -> None:
        """Let go of the file. It is opened again by whoever still uses this."""
        with trio.move_on_after(CLOSING_S, shield=True):
            await trio.to_thread.run_sync(self._close, limiter=self._limiter)

    async def _in_thread(self, act: Callable[[], _Answer]) -> _Answer:
        """Do it in a thread, where no cancellation reaches it; tell once if it fails."""
        try:
            answer = await self._one_by_one(act)
        except Exception as error:  # the disk's border: turns go on without it
            if not self._failing:
                _log.warning(
                    "what sessions must not forget is out of reach; turns go on without it",
                    file=str(self.path),
                    why=str(error) or type(error).__name__,
                    do=_advice(error),
                )
            self._failing = True
            raise SessionStoreError(f"{self.path}: {error}") from error
        if self._failing:
            _log.info("what sessions must not forget is within reach again", file=str(self.path))
        self._failing = False
        return answer

    async def _one_by_one(self, act: Callable[[], _Answer]) -> _Answer:
        """Do it when those before have done theirs.

        Raises:
            TimeoutError: the disk does not answer. What was asked of it may still happen, whole.
        """
        outages = self._outages
        with trio.move_on_after(ANSWER_S) as patience:
            await self._line.acquire()
        if patience.cancelled_caught:
            raise _no_answer()
        try:
            # One before has waited in vain meanwhile, or is given up and not back yet: to wait once
            # more, each for himself, would make a queue of it.
            if self._outages != outages or not self._limiter.available_tokens:
                raise _no_answer()
            try:
                with trio.move_on_after(ANSWER_S, shield=True):
                    return await trio.to_thread.run_sync(
                        self._with_usable_file, act, abandon_on_cancel=True, limiter=self._limiter
                    )
                raise _no_answer()
            except (TimeoutError, sqlite3.OperationalError):
                self._outages += 1
                raise
        finally:
            self._line.release()

    # In the thread. All of it blocks.

    def _with_usable_file(self, act: Callable[[], _Answer]) -> _Answer:
        """Do it, and once more with a new file if this one cannot be used."""
        try:
            return act()
        except (_UnusableError, sqlite3.DatabaseError) as error:
            unusable = isinstance(error, _UnusableError) or _primary_code(error) in _UNUSABLE
            broken = self._opened
            self._close()
            if not unusable:
                raise
            if broken == self._identity():  # otherwise another relay has moved it
                self._move_aside(str(error))
        return act()

    def _load(self, session_id: str) -> tuple[Kept | None, bool]:
        """Return what is kept, and whether there is a file."""
        if self._identity() is None:
            self._close()
            return None, False
        connection, now_unix_s = self._open(), self.wall_clock()
        row = connection.execute(_LOAD, (session_id,)).fetchone()
        if row is None or row[2] < self._oldest_unix_s(now_unix_s):
            return None, True
        if now_unix_s - row[2] > TOUCH_S:
            with contextlib.suppress(sqlite3.OperationalError):  # it may be readable only
                connection.execute(_TOUCH, (now_unix_s, session_id))
        return Kept(uncompacted=bool(row[0]), bound=row[1]), True

    def _save(self, session_id: str, kept: Kept) -> bool:
        connection, now_unix_s = self._open(), self.wall_clock()
        with _transaction(connection):
            if abs(now_unix_s - self._dropped_unix_s) >= DROP_EVERY_S:
                connection.execute(_DROP, (self._oldest_unix_s(now_unix_s),))
                self._dropped_unix_s = now_unix_s
            row = connection.execute(_LOAD, (session_id,)).fetchone()
            values = (session_id, int(kept.uncompacted), kept.bound, now_unix_s)
            connection.execute(_SAVE, values)
        return row is not None and bool(row[0])

    def _oldest_unix_s(self, now_unix_s: float) -> float:
        return now_unix_s - self.keep_days * _DAY_S

    def _open(self) -> sqlite3.Connection:
        """Return the connection to the file that is there now, which it makes if there is none.

        Raises:
            _UnusableError: the file is no database of ours.
            _NewerError: it is one of a newer relay's.
        """
        identity = self._identity()
        if self._connection is not None and identity is not None and identity == self._opened:
            return self._connection
        self._close()
        if identity is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made here, so that nobody else can read it at any time; its companions follow it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._opened = self._identity()
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_S,
            isolation_level=None,  # transactions begin where it is said
            check_same_thread=False,  # the limiter sees to it
        )
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(connection.close)
            _prepare(connection)
            on_failure.pop_all()
        self._connection, self._dropped_unix_s = connection, 0.0
        return connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            at = self.path.stat()
        except FileNotFoundError:
            return None
        return at.st_dev, at.st_ino

    def _close(self) -> None:
        connection, self._connection, self._opened = self._connection, None, None
        if connection is not None:
            # The last one to close brings what stands beside the file into it.
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _move_aside(self, why: str) -> None:
        broken = self.folder / BROKEN
        os.replace(self.path, broken)
        for beside in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{beside}", f"{broken}{beside}")
        _log.warning(
            "what sessions had to remember cannot be read: the file is moved aside and a new one "
            "begun. Sessions that met openai-codex may be told of it once more",
            file=str(self.path),
            moved_to=str(broken),
            why=why,
            do="delete the moved file, or put one from a backup in its old place while no relay "
            "runs",
        )


@contextlib.asynccontextmanager
async def open_session_file(
    settings: SessionsSettings, *, wall_clock: Callable[[], float]
) -> AsyncIterator[SessionFile]:
    """Give the file of the configured folder, and let go of it at the end. Touches no disk yet."""
    file = SessionFile(
        folder=Path(settings.state_path), wall_clock=wall_clock, keep_days=settings.keep_days
    )
    try:
        yield file
    finally:
        await file.aclose()


def _prepare(connection: sqlite3.Connection) -> None:
    """Make sure of the file, and of the table in it."""
    application, schema, is_empty = _about(connection)
    if application != APPLICATION_ID and (application or not is_empty):
        raise _UnusableError("it is another program's")
    if schema > SCHEMA:
        raise _NewerError(f"it was made by a newer codexrelay (schema {schema})")
    [(health,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    if health != "ok":
        raise _UnusableError(health)
    with contextlib.suppress(sqlite3.OperationalError):  # another relay is about to do the same
        connection.execute("PRAGMA journal_mode = WAL")
    # A switch is rare, and must not be undone by a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    if application == 0:
        with _transaction(connection):
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _about(connection: sqlite3.Connection) -> tuple[int, int, bool]:
    """Return whose the file is, by which schema, and whether nothing is in it; 0 of a new one."""
    with _transaction(connection, "BEGIN"):  # all of one moment: another relay may be making it
        [(application,)] = connection.execute("PRAGMA application_id").fetchall()
        [(schema,)] = connection.execute("PRAGMA user_version").fetchall()
        tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    return application, schema, not tables


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Let what happens inside happen whole or not at all."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.rollback()


def _no_answer() -> TimeoutError:
    return TimeoutError("the disk has not answered in time")


def _primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's code without what makes it more precise; 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _advice(error: Exception) -> str:
    if isinstance(error, _NewerError):
        return "run the newer codexrelay, or set another sessions.state_path"
    if isinstance(error, TimeoutError):
        return "set sessions.state_path to a folder on a disk of this machine"
    return "let the relay's user write to sessions.state_path, or set another one"
