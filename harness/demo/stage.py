"""What every scene plays on, and what can be seen from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.protocol.raw import JsonObject, dump
from harness.demo.client import ask
from harness.demo.facts import Fact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.demo.client import Answer
    from harness.demo.printing import Page
    from harness.demo.tap import TappedSimulator
    from harness.simulator import Seen

#: A log line is written after the answer has ended, and comes by way of a pipe.
LOG_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.01


@attrs.define(eq=False, kw_only=True)
class Stage:
    """Backend, relay and page. `begin` is called before each scene."""

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
        """Forget what earlier scenes left behind."""
        self._log_begin = len(self.log)
        self._seen_begin = len(self.simulator.seen)

    async def ask(
        self, path: str, body: JsonObject, *, hear: Callable[[str], None] | None = None
    ) -> Answer:
        """Send a request through the relay, and show it and the words of its answer."""
        self.page.clipped("request", f"POST {path} {dump(body).decode()}")
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

    async def logs(self, words: str, *, times: int = 1) -> Fact:
        """Wait for the log lines that hold `words`, and return whether they came."""

        def count() -> int:
            return sum(words in line for line in self.logged)

        with trio.move_on_after(LOG_S):
            while count() < times:  # noqa: ASYNC110 - another process writes it
                await trio.sleep(_LOOK_AGAIN_S)
        if count() == times:
            return Fact(f"the relay logged {words!r}" + (f", {times} times" if times > 1 else ""))
        return Fact(f"{words!r} stands {count()} times in the log, not {times}", holds=False)

    def _seen(self, ending: str) -> list[Seen]:
        seen = self.simulator.seen[self._seen_begin :]
        return [request for request in seen if request.path.endswith(ending)]


def statuses(requests: list[Seen]) -> list[int | None]:
    """Return what the backend answered."""
    return [request.status for request in requests]
