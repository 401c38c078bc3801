"""What a text in a file must look like to be sent in a header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.accounts.account import can_be_sent
from codexrelay.accounts.files import broken

if TYPE_CHECKING:
    from pathlib import Path


def sendable(path: Path, field: str, text: str | None) -> str | None:
    """Return a token or workspace id as it is; None or an empty one is none.

    Raises:
        BrokenFileError: it cannot be one. Says so without quoting it.
    """
    if text and not can_be_sent(text):
        raise broken(
            path, field, "must be printable ASCII without blanks and line breaks; sign in anew"
        )
    return text or None
