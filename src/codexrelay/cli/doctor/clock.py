"""The clock of this machine, against what tokens and servers say the time is."""

from __future__ import annotations

import base64
import binascii
import email.utils
from typing import TYPE_CHECKING, Final

from codexrelay.cli.doctor.finding import broken, ok, warn
from codexrelay.errors import in_words
from codexrelay.protocol.raw import get_number, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Site

#: Clocks that differ by less are the same: an answer is some seconds on its way.
_SAME_S: Final = 60.0
#: Beyond it, tokens are renewed too late, and cool-downs and logs tell other times than others do.
_WRONG_S: Final = 300.0
_MEND: Final = "set the clock, such as with timedatectl set-ntp true"
_ABOUT: Final = "clock"


def check(site: Site) -> Iterator[Finding]:
    """Compare the clock with the tokens: none was issued in the future."""
    ahead = [
        (issued - site.now_unix_s, entry.account.id)
        for block in site.blocks
        for entry in block.stock.entries
        if (issued := issued_at_unix_s(entry.account.credentials.access_token)) is not None
    ]
    by_s, account_id = max(ahead, default=(0.0, ""))
    if by_s > _SAME_S:
        yield broken(
            _ABOUT,
            f"it is slow: the token of account {account_id} was issued {in_words(by_s)} from now",
            _MEND,
        )
    elif ahead:
        yield ok(_ABOUT, "no token was issued in the future")


def against(date: str | None, *, told_by: str, now_unix_s: float) -> Iterator[Finding]:
    """Compare the clock with a server's header `Date`; None: it sent none."""
    at_unix_s = _read_date(date)
    if at_unix_s is None:
        return
    by_s = now_unix_s - at_unix_s
    if abs(by_s) <= _SAME_S:
        yield ok(_ABOUT, f"as {told_by} has it")
        return
    told = f"it is {in_words(abs(by_s))} {'fast' if by_s > 0 else 'slow'}, as {told_by} has it"
    yield (broken if abs(by_s) > _WRONG_S else warn)(_ABOUT, told, _MEND)


def issued_at_unix_s(token: str) -> float | None:
    """Return from when the token is good: the later of its claims `iat` and `nbf`."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = parse_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    instants = [at for name in ("iat", "nbf") if (at := get_number(claims, name)) is not None]
    return max(instants, default=None)


def _read_date(text: str | None) -> float | None:
    try:
        return None if text is None else email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
