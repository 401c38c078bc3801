"""The journal of turns: one line of JSON for each, so that any of them can be explained later.

A turn that waits in line for an account is written too, and again when it has ended: the last line
of a request counts. Ids only, never a token and nothing of what was said.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import attrs
import structlog
import trio

from codexrelay.accounts.files import new_lock, read_bytes
from codexrelay.accounts.refusal import in_words_of
from codexrelay.protocol.raw import JsonObject, dump, get_text, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.standing import PassedOver
    from codexrelay.protocol.raw import Json
    from codexrelay.relay.record import Record, Tried

_FILE: Final = "turns.jsonl"
#: What the file was called before it grew too large; what was there is gone.
_OLDER_FILE: Final = "turns.older.jsonl"
_LOCK: Final = "turns.lock"
#: Some 10,000 turns in each of the two files.
MAX_BYTES: Final = 8 * 1024 * 1024
#: Accounts that are named at one place of a line, so that a large pool does not fill the journal.
MOST_NAMED: Final = 10
#: Lines that wait for the disk at most; the oldest go first.
MAX_WAITING: Final = 10_000
#: Lines are written together when they come together.
_GATHER_S: Final = 0.2
_LOCK_S: Final = 5.0
CLOSING_S: Final = 3.0

_log = structlog.get_logger("codexrelay.journal")


@attrs.define(eq=False)
class Journal:
    """Writes the journal. Turns hand lines over and never wait for the disk."""

    folder: Path
    _lines: deque[bytes] = attrs.field(factory=lambda: deque(maxlen=MAX_WAITING), init=False)
    _noted: trio.Event = attrs.field(factory=trio.Event, init=False)
    _failing: bool = attrs.field(default=False, init=False)

    def note(self, line: JsonObject) -> None:
        """Take a line; it is in the file soon."""
        self._lines.append(dump(line))
        if not self._noted.is_set():
            self._noted.set()

    async def keep_writing(self) -> None:
        """Write what is noted. Runs until cancelled, and writes what is left then."""
        try:
            while True:
                await self._noted.wait()
                await trio.sleep(_GATHER_S)
                await self.write()
        finally:
            await self.write()  # shields itself

    async def write(self) -> None:
        """Write what is noted; a disk that cannot be written to is told once."""
        self._noted = trio.Event()
        data = b"".join([line + b"\n" for line in self._lines])
        self._lines.clear()
        if not data:
            return
        try:
            # Shielded from the taking to the thread, which cannot be cancelled itself.
            with trio.move_on_after(CLOSING_S, shield=True):
                await trio.to_thread.run_sync(_append, self.folder, data)
        except OSError as error:
            if not self._failing:
                _log.warning("turns are not written down", folder=str(self.folder), why=str(error))
            self._failing = True
        else:
            self._failing = False


def find(folder: Path, wanted: str) -> JsonObject | None:
    """Return the last line about a turn, by its request id or its response id; None if none is.

    `last` is the latest turn. Blocks.

    Raises:
        BrokenFileError: the journal cannot be read.
    """
    for line in _backwards(folder):
        if wanted == "last" or wanted in (get_text(line, "request"), get_text(line, "response")):
            return line
    return None


def _backwards(folder: Path) -> Iterator[JsonObject]:
    for name in (_FILE, _OLDER_FILE):
        for line in reversed((read_bytes(folder / name) or b"").splitlines()):
            with contextlib.suppress(ValueError):  # a line that a crash has cut
                yield parse_object(line)


def _append(folder: Path, data: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _FILE
    # Other relays may write to the same file.
    with new_lock(folder / _LOCK).acquire(timeout=_LOCK_S):
        # Windows moves no file that somebody is reading: it grows a little larger then.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if path.stat().st_size + len(data) > MAX_BYTES:
                os.replace(path, folder / _OLDER_FILE)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab+") as file:
            if file.tell() and not _ends_a_line(file):  # a crash has cut what was written last
                file.write(b"\n")
            file.write(data)


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def way_of(record: Record, *, now_unix_s: float) -> JsonObject:
    """Return a turn's way through the accounts."""
    # Why somebody was passed over is told as it was then.
    began_unix_s = now_unix_s - record.age_s
    return {
        "attempts": [
            _attempt(tried, now_unix_s=began_unix_s + tried.began_s) for tried in record.tried
        ],
        "refused": [
            {
                "instance": refused.instance,
                "message": refused.message,
                "passed_over": _passed_over(
                    refused.passed_over, now_unix_s=began_unix_s + refused.at_s
                ),
            }
            for refused in record.refused
        ],
        "put_off": list(record.put_off),
        "waiting_for": _passed_over(
            record.waiting_for, now_unix_s=began_unix_s + record.waiting_since_s
        ),
    }


def in_short(record: Record) -> str:
    """Return the attempts on one line: `a 429 usage_limit_reached (sent), b`."""
    return ", ".join(_in_short(tried) for tried in record.tried)


def _in_short(tried: Tried) -> str:
    fault = tried.fault
    if fault is None:
        return tried.account if tried.served else f"{tried.account} ({tried.reached.value})"
    what = fault.code or fault.type
    return f"{tried.account} {fault.status} {what} ({tried.reached.value})"


def _attempt(tried: Tried, *, now_unix_s: float) -> JsonObject:
    fault = tried.fault
    return {
        "account": tried.account,
        "model": tried.model,
        "chosen_by": tried.by.value,
        "bound": tried.bound,
        "candidates": list(tried.candidates[:MOST_NAMED]),
        "passed_over": _passed_over(tried.passed_over, now_unix_s=now_unix_s),
        "refreshed": tried.refreshed,
        "waited_s": round(tried.waited_s, 3),
        "began_s": round(tried.began_s, 3),
        "took_s": None if tried.took_s is None else round(tried.took_s, 3),
        "reached": tried.reached.value,
        "via": tried.via,
        "reasoning_stripped": tried.reasoning_stripped,
        "served": tried.served,
        "fault": None
        if fault is None
        else {
            "kind": fault.kind.value,
            "status": fault.status,
            "code": fault.code,
            "type": fault.type,
            "message": fault.message,
        },
    }


def _passed_over(
    passed_over: tuple[tuple[str, PassedOver], ...], *, now_unix_s: float
) -> list[Json]:
    if not passed_over:
        return []
    told: list[Json] = [
        {
            "account": account,
            "why": passed.why.value,
            "told": in_words_of(passed, now_unix_s=now_unix_s),
            "until_unix_s": passed.until_unix_s,
        }
        for account, passed in passed_over[:MOST_NAMED]
    ]
    if (more := len(passed_over) - MOST_NAMED) > 0:
        told.append({"told": f"{more} more accounts"})
    return told
