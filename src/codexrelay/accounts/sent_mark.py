"""What survives a process that dies while it refreshes: that the token was sent.

A refresh token is spent by the call that sends it. A relay that is killed before it hears the
answer leaves a token behind of which nobody knows whether it is spent, and whoever sends it again
may have its owner signed out. So the mark is on disk before the token leaves, and goes when the
answer is stored. It names the token by a hash, hence says nothing about any other one.

The mark also keeps a place for the answer: it is as large as the file that will hold the new
tokens, and gives that room back just before they are written. A disk that is nearly full then
refuses the mark, before the token is spent, and not the tokens.

Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.files import BrokenFileError, dump_readably, read_bytes, replace_file
from codexrelay.protocol.raw import get_text, parse_object

if TYPE_CHECKING:
    from codexrelay.accounts.files import Locks

_ENDING: Final = ".sent"
_FIELD: Final = "refresh_token_sha256"
#: Between the text and what keeps the place.
_END: Final = b"\0"
#: By how much new tokens may be longer than the old ones, and what else a write may need.
_GROWTH_BYTES: Final = 16 << 10


@attrs.frozen
class SentMark:
    """The mark of one account. Only whoever holds the account's flight lock touches it."""

    path: Path

    @classmethod
    def beside(cls, lock: Locks) -> SentMark:
        """Return the mark that belongs to a flight lock: the same name with another ending."""
        return cls(lock.paths[0].with_suffix(_ENDING))

    def is_of(self, refresh_token: str) -> bool:
        """Tell whether this token was sent and no answer is known."""
        try:
            data = read_bytes(self.path)
            if data is None:
                return False
            text, _, _ = data.partition(_END)
            return get_text(parse_object(text), _FIELD) == _hash(refresh_token)
        except (BrokenFileError, ValueError):
            return True  # somebody's hand was in it: the careful reading costs a delay only

    def make(self, refresh_token: str, *, room_bytes: int = 0) -> None:
        """Note that this token is about to be sent. Durable when it returns.

        Args:
            refresh_token: the token.
            room_bytes: size of the file that will hold its successor.

        Raises:
            OSError: it cannot be written, and neither could the new tokens.
        """
        text = dump_readably(
            {
                "what": "codexrelay sent this refresh token and has not stored an answer yet",
                _FIELD: _hash(refresh_token),
            }
        )
        # Noise, as some file systems keep no place for what they can compress.
        replace_file(self.path, text + _END + os.urandom(room_bytes + _GROWTH_BYTES))

    def give_room(self) -> None:
        """Give back the place that was kept; the mark stands. For the moment before the write."""
        with contextlib.suppress(OSError, BrokenFileError):  # there may be room enough without
            text, end, _ = (read_bytes(self.path) or b"").partition(_END)
            if end:
                with open(self.path, "r+b") as file:
                    file.truncate(len(text))
                    os.fsync(file.fileno())

    def remove(self) -> None:
        """Note that the answer is known. A mark that cannot be removed costs a delay only."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def _hash(refresh_token: str) -> str:
    return hashlib.sha256(refresh_token.encode()).hexdigest()
