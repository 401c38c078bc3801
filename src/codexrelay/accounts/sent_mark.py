"""What survives a process that dies while it refreshes: that the token was sent.

A refresh token is spent by the call that sends it. A relay that is killed before it hears the
answer leaves a token behind of which nobody knows whether it is spent, and whoever sends it again
may have its owner signed out. So the mark is on disk before the token leaves, and goes when the
answer is stored. It names the token by a hash, hence says nothing about any other one.

Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.files import BrokenFileError, read_bytes, replace_json
from codexrelay.protocol.raw import get_text, parse_object

if TYPE_CHECKING:
    from codexrelay.accounts.files import Locks

_ENDING: Final = ".sent"
_FIELD: Final = "refresh_token_sha256"


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
            return data is not None and get_text(parse_object(data), _FIELD) == _hash(refresh_token)
        except (BrokenFileError, ValueError):
            return True  # somebody's hand was in it: the careful reading costs a delay only

    def make(self, refresh_token: str) -> None:
        """Note that this token is about to be sent. Durable when it returns.

        Raises:
            OSError: it cannot be written, and neither could the new tokens.
        """
        replace_json(
            self.path,
            {
                "what": "codexrelay sent this refresh token and has not stored an answer yet",
                _FIELD: _hash(refresh_token),
            },
        )

    def remove(self) -> None:
        """Note that the answer is known. A mark that cannot be removed costs a delay only."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def _hash(refresh_token: str) -> str:
    return hashlib.sha256(refresh_token.encode()).hexdigest()
