"""Whose code a function is: a room of the relay, a library, the standard library or C."""

from __future__ import annotations

import re
import sysconfig
from typing import Final

#: Called from Python, written in C: interpreter, extension modules, system calls.
C: Final = "C"
STDLIB: Final = "stdlib"
OTHER: Final = "other"
RELAY: Final = "codexrelay"

_INSTALLED: Final = re.compile(r"site-packages/([A-Za-z0-9_]+)")
_OURS: Final = re.compile(r"/(?:src|site-packages)/codexrelay/(?:(\w+)/|(\w+)\.py)")
#: Methods that attrs writes are called after their class.
_GENERATED: Final = re.compile(r"<attrs generated \w+ ([\w.]+)")
_STDLIB: Final = sysconfig.get_paths()["stdlib"]
#: The standard library's beginning in any installation, seen from another process.
_ANY_STDLIB: Final = re.compile(r"/python3\.\d+/")


def room_of(filename: str) -> str:
    """Return the room or library that a code object's file name belongs to.

    `codexrelay/relay` is a room of ours, `trio` a library; a name in angle brackets that tells
    nothing is `other`.
    """
    if filename == "~":  # as cProfile calls it
        return C
    if generated := _GENERATED.match(filename):
        return _of_module(generated[1])
    if ours := _OURS.search(filename):
        return f"{RELAY}/{ours[1] or ours[2]}"
    if installed := _INSTALLED.search(filename):
        return installed[1]
    if filename.startswith(("<frozen", _STDLIB)) or _ANY_STDLIB.search(filename):
        return STDLIB
    return OTHER


def is_ours(room: str) -> bool:
    """Tell whether a room is the relay's."""
    return room.startswith(RELAY)


def _of_module(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{RELAY}/{rest.partition('.')[0]}" if first == RELAY else first
