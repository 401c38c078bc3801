"""The ids and opaque texts of the backend, in its shapes (measured on recorded streams)."""

from __future__ import annotations

import random
import string
import uuid
from typing import Final

import attrs

_ALPHANUMERIC: Final = string.ascii_letters + string.digits


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

    def encrypted(self) -> str:
        """Return what looks like encrypted content."""
        return f"gAAAAAB{self.text(185)}"
