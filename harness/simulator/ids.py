"""The ids and opaque texts of the backend, in its shapes (measured on recorded streams)."""

from __future__ import annotations

import hashlib
import random
import string
import uuid
from typing import Final

import attrs

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_ENCRYPTED: Final = "gAAAAAB"
_ENCRYPTED_CHARACTERS: Final = 169


@attrs.define(eq=False)
class Ids:
    """Makes ids. The same random source gives the same ids, so that runs can be compared."""

    _rng: random.Random

    def of(self, prefix: str) -> str:
        """Return `PREFIX_` and 50 hexadecimal characters (`resp`, `msg`, `rs`, `fc`, `ctc`)."""
        return f"{prefix}_{self._rng.getrandbits(200):050x}"

    def call(self) -> str:
        """Return a call id: `call_` and 24 characters."""
        return f"call_{self.text(24)}"

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def text(self, characters: int) -> str:
        """Return so many letters and digits."""
        return "".join(self._rng.choices(_ALPHANUMERIC, k=characters))

    def encrypted(self, user_id: str) -> str:
        """Return what looks like encrypted content, and says whose it is."""
        return f"{_ENCRYPTED}{_mark(user_id)}{self.text(_ENCRYPTED_CHARACTERS)}"


def is_foreign(content: str, user_id: str) -> bool:
    """Whether encrypted content of the simulator's own making belongs to another user."""
    size = len(_ENCRYPTED) + len(_mark(user_id)) + _ENCRYPTED_CHARACTERS
    ours = content.startswith(_ENCRYPTED) and len(content) == size
    return ours and not content.startswith(_ENCRYPTED + _mark(user_id))


def _mark(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]
