"""The signals that ask a program to end, and the terminal that may be gone with one of them.

SIGHUP has two meanings. It is what a system sends when a terminal is closed, and then the relay
ends, as any program does; to a program that has no terminal, or has it still, it says "read your
configuration again".
"""

from __future__ import annotations

import os
import signal
from typing import Final

#: Asked for by Ctrl-C, by a supervisor, and by a terminal that is closed; Windows has no SIGHUP.
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_STANDARD: Final = (0, 1, 2)


def endings() -> tuple[signal.Signals, ...]:
    """Return those that this system has and that nobody has told us to ignore, as `nohup` does.

    With SIGINT: Python's own way with it is an exception in whatever code runs at that moment,
    which may be a refresh between its answer and the disk.
    """
    known = (getattr(signal, name, None) for name in _NAMES)
    return tuple(
        one
        for one in known
        if isinstance(one, signal.Signals) and signal.getsignal(one) is not signal.SIG_IGN
    )


def is_hangup(received: int) -> bool:
    """Tell whether a signal is SIGHUP."""
    return received == getattr(signal, "SIGHUP", None)


def terminals() -> tuple[int, ...]:
    """Return those of stdin, stdout and stderr, by descriptor, that are a terminal now."""
    return tuple(descriptor for descriptor in _STANDARD if os.isatty(descriptor))


def is_closed(descriptors: tuple[int, ...]) -> bool:
    """Tell whether one of these, which were terminals, is none any more."""
    return not all(os.isatty(descriptor) for descriptor in descriptors)


def forget_closed(descriptors: tuple[int, ...]) -> None:
    """Let what is written to terminals that are gone go nowhere: each log line would be an error.

    One that is there still, although SIGHUP came, goes on.
    """
    for descriptor in descriptors:
        if not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
