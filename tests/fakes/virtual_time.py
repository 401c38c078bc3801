"""Runs an async test on trio's virtual clock, without a clock fixture among its arguments."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let time jump whenever every task waits. Only for tests without real sockets."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(functools.partial(test, *args, **kwargs), clock=clock)

    return run
