"""The folder for what outlives the relay, such as the journal of turns."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from codexrelay.cli.doctor.finding import ok
from codexrelay.cli.doctor.folders import look_at, own_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Site

_ABOUT: Final = "state"


def check(site: Site) -> Iterator[Finding]:
    """Look at `sessions.state_path`."""
    folder = site.state_folder
    found = tuple(look_at(folder, _ABOUT, key="sessions.state_path", uid=own_uid()))
    if found:
        yield from found
    elif os.path.isdir(folder):
        yield ok(_ABOUT, f"{folder} can be written to")
    else:
        yield ok(_ABOUT, f"{folder} is not there yet; the relay makes it")
