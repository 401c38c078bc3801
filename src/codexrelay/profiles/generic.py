"""Every program that no other profile knows: whatever speaks one of the two protocols.

It may name its sessions in any of the ways that programs are known to have; if it does in none, the
conversation's opening has to do. It needs no capabilities of its own.
"""

from __future__ import annotations

from typing import Final

from codexrelay.profiles.profile import ANY_FIELDS, ANY_HEADERS, Kind, Profile

PROFILE: Final = Profile(
    name="generic",
    kind=Kind.ANY,
    named=lambda _: True,
    session_headers=ANY_HEADERS,
    session_fields=ANY_FIELDS,
)
