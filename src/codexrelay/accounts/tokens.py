"""What a token in a file must look like to be sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from codexrelay.accounts.files import broken

if TYPE_CHECKING:
    from pathlib import Path

#: A line break would end the header, and errors about it would quote it; a blank or a letter of
#: another alphabet is in no token, but is what pasting by hand leaves behind.
_TOKEN: Final = re.compile(r"[!-~]+")


def checked_token(path: Path, field: str, token: str | None) -> str | None:
    """Return the token as it is; None or an empty one is no token.

    Raises:
        BrokenFileError: it cannot be one. Says so without quoting it.
    """
    if token and _TOKEN.fullmatch(token) is None:
        raise broken(
            path, field, "a token is printable ASCII without blanks and line breaks; sign in anew"
        )
    return token or None
