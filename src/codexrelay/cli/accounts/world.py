"""What the account commands take from outside; tests bring their own."""

from __future__ import annotations

import os
import secrets
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Final

import attrs

from codexrelay.cli import logs
from codexrelay.config.proxies import Named, proxy_for

_STDIN: Final = 0
_READ_BYTES: Final = 65536


def _read_input() -> bytes:
    """Read from the descriptor itself.

    A thread of ours may wait here for ever. Inside `sys.stdin` it would hold the lock that Python
    wants when it ends.
    """
    try:
        return os.read(_STDIN, _READ_BYTES)
    except OSError:  # there is none: closed, or somebody else's terminal
        return b""


def _configure_logs() -> None:
    # What commands have to say they print themselves; of the rest only what nobody expects.
    logs.configure("error")


@attrs.frozen(kw_only=True)
class World:
    """Everything that differs from machine to machine and from call to call."""

    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    #: `sys.platform`.
    platform: str = sys.platform
    #: Unix seconds.
    wall_clock: Callable[[], float] = time.time
    #: In which instants are shown; None: the machine's.
    zone: tzinfo | None = None
    #: Returns the proxy that the environment names for a URL, None for a direct way.
    proxy_for: Callable[[str], Named | None] = proxy_for
    random_bytes: Callable[[int], bytes] = secrets.token_bytes
    #: Returns whether it could.
    open_browser: Callable[[str], bool] = webbrowser.open
    #: Waits for more of what the person types; empty: the input has ended.
    read_input: Callable[[], bytes] = _read_input
    #: Called once, before anything can log.
    configure_logs: Callable[[], None] = _configure_logs
