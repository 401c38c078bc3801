"""Importing what serves, without what a server never uses."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Let modules of these names look as if they were not installed, unless they are there already.

    structlog and httpx import rich wherever it is installed, the one for coloured tracebacks, the
    other, with pygments, for a command line of its own. Without these 70 modules the relay has 3 MB
    less and starts a tenth sooner (measured).
    """
    # None there is Python's own way to say so; its type does not know.
    modules = cast("dict[str, Any]", sys.modules)
    absent = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del modules[name]


@contextlib.contextmanager
def without_full_collections() -> Iterator[None]:
    """Keep the garbage collector to what has just been made.

    A module stays, and walking all of them several times is a tenth of the start (measured).
    With no collection at all the scraps of making classes stay too, between what is used: 4 MB.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], 1000, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
