"""What every program that the harness starts is given, and how long its end may take."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Killed processes end at once; this is for a machine that is too busy to notice.
REAP_S: Final = 10.0

#: What a program must have to run at all. Proxies, tokens and settings stay behind.
_KEPT: Final = ("PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT")


def bare_environment(home: Path) -> Mapping[str, str]:
    """Return the variables that every program gets, and nothing of the person who runs us."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # Some unpack themselves into the temporary folder and leave it so: it goes with the home.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(home / "tmp"))
    homes = dict.fromkeys(("HOME", "USERPROFILE"), str(home))
    return kept | temporary | homes | {"LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"}


def let_children_be_interrupted() -> None:
    """End the ignoring of SIGINT, so that no program started from here inherits it.

    A shell script starts what it puts in the background (`command &`) so that SIGINT is ignored,
    and whoever does not ask for the signal explicitly could not be interrupted. A handler, unlike
    the ignoring, ends with the start of another program. Call it before trio runs, which will then
    handle Ctrl-C itself.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
