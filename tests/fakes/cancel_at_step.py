"""Cancels a scope at a chosen step, so that a test can cancel at every one of them."""

from __future__ import annotations

import attrs
import trio


@attrs.define(eq=False)  # trio keeps instruments in a dict: identity and hash needed
class CancelAtStep(trio.abc.Instrument):
    """Cancel `scope` just before the `at`-th task step after this instrument was added."""

    scope: trio.CancelScope
    at: int
    steps: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.scope.cancel()
