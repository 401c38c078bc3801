"""The turns that are running, so that a stop can end each of them properly."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.define(eq=False)
class ActiveTurns:
    """Knows the cancel scope of each running turn."""

    _scopes: set[trio.CancelScope] = attrs.field(factory=set)
    #: Set once the turns have been told to stop.
    stopped: bool = False

    def add(self, scope: trio.CancelScope) -> None:
        """A turn runs in `scope`, until `discard`; cancelled at once if turns have been stopped."""
        self._scopes.add(scope)
        if self.stopped:
            scope.cancel()

    def discard(self, scope: trio.CancelScope) -> None:
        """The turn is over, or only says good-bye."""
        self._scopes.discard(scope)

    @contextlib.contextmanager
    def enter(self, *, budget_s: float) -> Iterator[None]:
        """Run a turn's work in a scope with a deadline; leaves normally if either ends it.

        After it, `stopped` tells a stop from a budget that ran out.
        """
        with trio.move_on_after(budget_s) as scope:
            self.add(scope)
            try:
                yield
            finally:
                self.discard(scope)

    def stop(self) -> None:
        """End every running turn, and each that begins later."""
        self.stopped = True
        for scope in self._scopes:
            scope.cancel()

    def __len__(self) -> int:
        return len(self._scopes)


@attrs.define(eq=False)
class Interruption:
    """How a client ends a turn of its own, and still gets its terminal event."""

    happened: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)

    def interrupt(self) -> None:
        """End the turn, or keep it from beginning; upstream is left at once."""
        self.happened = True
        if self._scope is not None:
            self._scope.cancel()

    def ends(self, scope: trio.CancelScope) -> None:
        """Say what the turn runs in."""
        self._scope = scope
        if self.happened:
            scope.cancel()
