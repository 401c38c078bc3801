"""One call to the sign-in service at a time, whichever process makes it.

Sibling accounts that were refreshed at the same moment were seen to be revoked together. Calls are
rare and short, so letting them pass one by one, with a small random pause between two accounts,
costs little. After a quiet second there is no pause: a single refresh is never delayed.

The processes that share a folder of accounts meet at a lock file in it. Whoever passes holds the
lock of its own account already and waits for nothing else, so no two wait for each other; the lock
of a process that dies is free at once. Beside it a small file says who passed last and when.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.accounts.files import BrokenFileError, Locks, read_bytes
from codexrelay.protocol.raw import dump, get_number, get_text, parse_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: Between the calls for two accounts, drawn anew each time.
MIN_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 1.0
#: A process that holds the lock longer than any call may take is stopped or stuck. The lock is
#: good manners, so it must not keep every other process from its accounts.
STUCK_S: Final = 90.0
#: How long one must have been kept waiting to judge that: who has just come in has not signed yet.
_JUDGE_S: Final = 5.0
#: Between two looks at a lock that another process holds.
_POLL_S: Final = 0.05
# No account's id begins with a dot.
_LOCK: Final = ".issuer.lock"
_PASSED: Final = ".issuer.passed"


@attrs.frozen
class Passed:
    """Who passed last."""

    account_id: str
    at_unix_s: float


@attrs.define(eq=False, kw_only=True)
class Turnstile:
    """Lets one refresh through at a time. A process has one for all its folders."""

    wall_clock: Callable[[], float]
    rng: Random
    _here: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _waiting: int = attrs.field(default=0, init=False)
    #: Who passed last in this process, and in which folder.
    _last: tuple[Passed, Path | None] | None = attrs.field(default=None, init=False)

    @property
    def waiting(self) -> int:
        """How many in this process wait for their turn."""
        return self._waiting

    @contextlib.asynccontextmanager
    async def passing(self, account_id: str, *, folder: Path | None) -> AsyncIterator[None]:
        """Be the only one inside until the block ends. Leaving has no checkpoint.

        The deadline of the wait is the caller's; cancelled, it leaves nothing behind.

        Args:
            account_id: whose tokens are refreshed.
            folder: where the processes meet; None: there are no siblings in other processes.

        Raises:
            OSError: the lock file cannot be made.
        """
        async with contextlib.AsyncExitStack() as stack:
            self._waiting += 1
            try:
                await stack.enter_async_context(self._here)
                if folder is not None:
                    await stack.enter_async_context(_held_unless_stuck(folder, self.wall_clock))
                await self._keep_apart(account_id, folder)
            finally:
                self._waiting -= 1
            try:
                yield
            finally:
                now_unix_s = self.wall_clock()
                passed = Passed(account_id, now_unix_s)
                self._last = passed, folder
                # A few bytes that need not survive a crash, and not in a thread: what the call has
                # brought must not wait at a checkpoint here.
                if folder is not None:
                    _write(folder, passed)

    async def _keep_apart(self, account_id: str, folder: Path | None) -> None:
        """Sign, and wait until whoever passed last is far enough away."""
        now_unix_s = self.wall_clock()
        wanted_s = self.rng.uniform(MIN_PAUSE_S, MAX_PAUSE_S)
        before: list[Passed | None] = []
        if self._last is not None and self._last[1] != folder:
            before.append(self._last[0])  # another folder's account, whatever its name
        if folder is not None:
            last = await trio.to_thread.run_sync(_read, folder)
            await trio.to_thread.run_sync(_write, folder, Passed(account_id, now_unix_s))
            before.append(None if last is not None and last.account_id == account_id else last)
        pauses_s = [pause_s(each, now_unix_s=now_unix_s, wanted_s=wanted_s) for each in before]
        await trio.sleep(max(pauses_s, default=0.0))


@contextlib.asynccontextmanager
async def held(lock: Locks) -> AsyncIterator[None]:
    """Hold a lock that other processes want too. The deadline of the wait is the caller's.

    Raises:
        OSError: a lock file cannot be made.
    """
    # A look every 50 ms and no thread that waits: a waiting thread could not be cancelled.
    while not await trio.to_thread.run_sync(lock.try_acquire):  # noqa: ASYNC110 - no event to wait for
        await trio.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()  # needs no await, hence no shield


def pause_s(last: Passed | None, *, now_unix_s: float, wanted_s: float) -> float:
    """Return how long to wait so that `wanted_s` lie between `last`, if there is one, and now."""
    if last is None:
        return 0.0
    since_s = max(0.0, now_unix_s - last.at_unix_s)  # the clock may have been set back
    return max(0.0, wanted_s - since_s)


@contextlib.asynccontextmanager
async def _held_unless_stuck(folder: Path, wall_clock: Callable[[], float]) -> AsyncIterator[None]:
    lock = Locks((folder / _LOCK,))
    judge_at_s = trio.current_time() + _JUDGE_S
    while not await trio.to_thread.run_sync(lock.try_acquire):
        if trio.current_time() >= judge_at_s:
            last = await trio.to_thread.run_sync(_read, folder)
            if last is not None and wall_clock() - last.at_unix_s > STUCK_S:
                log.warning("another process holds the refresh lock without end", path=folder)
                break
        await trio.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def _read(folder: Path) -> Passed | None:
    """Return who passed last, None if that is not known."""
    try:
        value = parse_object(read_bytes(folder / _PASSED) or b"{}")
    except (BrokenFileError, ValueError):
        return None  # or half written by whoever is inside
    account_id, at_unix_s = get_text(value, "account"), get_number(value, "at_unix_s")
    return None if account_id is None or at_unix_s is None else Passed(account_id, at_unix_s)


def _write(folder: Path, passed: Passed) -> None:
    """Say who passed. Whether that can be written decides nothing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with (
        contextlib.suppress(OSError),
        open(os.open(folder / _PASSED, flags, 0o600), "wb") as file,
    ):
        file.write(dump({"account": passed.account_id, "at_unix_s": passed.at_unix_s}))
