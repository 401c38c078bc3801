"""What every scene plays on, and what can be seen from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.protocol.raw import JsonObject, dump
from harness.demo.client import ask
from harness.demo.printing import Page
from harness.demo.tap import TappedSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.demo.client import Answer
    from harness.simulator import Seen

#: A log line is written when the answer has ended, and comes by way of a pipe.
LOG_S: Final = 3.0
_LOOK_AGAIN_S: Final = 0.01


@attrs.define(eq=False, kw_only=True)
class Stage:
    """Backend, relay, client and page. `begin` is called before each scene."""

    simulator: TappedSimulator
    #: Name of the simulated account that the relay uses.
    account: str
    #: The folder with its file.
    store: Path
    #: Speaks to the relay.
    http: httpx.AsyncClient
    #: What the relay has logged; grows.
    log: list[str]
    page: Page
    _log_begin: int = attrs.field(default=0, init=False)
    _seen_begin: int = attrs.field(default=0, init=False)

    def begin(self) -> None:
        """Leave behind what belongs to earlier scenes."""
        self._log_begin = len(self.log)
        self._seen_begin = len(self.simulator.seen)

    async def ask(
        self, path: str, body: JsonObject, *, hear: Callable[[str], None] | None = None
    ) -> Answer:
        """Send a request through the relay; show it, and the words of its answer as they arrive.

        `hear` gets the words in the page's stead.
        """
        self.page.line("request", f"POST {path} {dump(body).decode()}", most_rows=2)
        return await ask(self.http, path, body, hear=hear or self.page.hear)

    @property
    def turns(self) -> list[Seen]:
        """Return the model requests that have reached the backend in this scene."""
        return self._seen("/responses")

    @property
    def refreshes(self) -> list[Seen]:
        """Return what was asked of the sign-in service in this scene."""
        return self._seen("/oauth/token")

    @property
    def logged(self) -> list[str]:
        """Return what the relay has logged in this scene."""
        return self.log[self._log_begin :]

    async def logs(self, wanted: Sequence[str]) -> bool:
        """Wait for log lines that hold these words, in this order; tell whether they came."""
        with trio.move_on_after(LOG_S):
            while not holds_in_order(self.logged, wanted):  # noqa: ASYNC110 - a process writes it
                await trio.sleep(_LOOK_AGAIN_S)
            return True
        return False

    def _seen(self, ending: str) -> list[Seen]:
        seen = self.simulator.seen[self._seen_begin :]
        return [request for request in seen if request.path.endswith(ending)]


def holds_in_order(lines: Iterable[str], wanted: Iterable[str]) -> bool:
    """Tell whether each of `wanted` stands in a line of its own, in this order."""
    rest = iter(lines)
    return all(any(words in line for line in rest) for words in wanted)


def statuses(requests: Iterable[Seen]) -> list[int | None]:
    """Return what was answered."""
    return [request.status for request in requests]
