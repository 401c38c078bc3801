"""What every scene plays on, and what can be seen from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.protocol.raw import JsonObject, dump
from harness.demo.client import ask
from harness.demo.printing import Page
from harness.demo.shell import Ran
from harness.demo.tap import TappedSimulator
from harness.simulator.accounts import write_account_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.demo.client import Answer
    from harness.simulator import Seen
    from harness.simulator.issuer import TokenPair

#: A log line is written when the answer has ended, and comes by way of a pipe.
LOG_S: Final = 3.0
_LOOK_AGAIN_S: Final = 0.01
#: How often a command is run at most until it succeeds, and the pause before it is run again.
_RUNS: Final = 5
_RUN_AGAIN_S: Final = 0.2


@attrs.define(eq=False, kw_only=True)
class Stage:
    """Backend, relay, client and page. `begin` is called before each scene."""

    simulator: TappedSimulator
    #: Names of the simulated account that the relay has from the start, and of the one that joins
    #: it later.
    account: str
    second: str
    #: The folder with their files.
    store: Path
    #: Speaks to the relay.
    http: httpx.AsyncClient
    #: Runs `codexrelay` with the words that it is given, and with the relay's configuration.
    shell: Callable[[Sequence[str]], Awaitable[Ran]]
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
        self,
        path: str,
        body: JsonObject,
        *,
        session: str | None = None,
        hear: Callable[[str], None] | None = None,
    ) -> Answer:
        """Send a request through the relay; show it, and the words of its answer as they arrive.

        `session` is what the client calls its conversation; None: nothing. `hear` gets the words in
        the page's stead.
        """
        headers = {} if session is None else {"session-id": session}
        named = "".join(f"{name}: {value} " for name, value in headers.items())
        self.page.line("request", f"POST {path} {named}{dump(body).decode()}", most_rows=2)
        return await ask(self.http, path, body, headers=headers, hear=hear or self.page.hear)

    async def run(self, *words: str) -> str:
        """Run a command of `codexrelay`; show it and what it prints, and return that.

        One that fails is run again for a while: the relay writes for others once a turn is over.
        """
        ran = await self.shell(words)
        for _ in range(_RUNS - 1):
            if ran.status == 0:
                break
            await trio.sleep(_RUN_AGAIN_S)
            ran = await self.shell(words)
        self.page.line("shell", f"$ codexrelay {' '.join(words)}")
        self.page.log("", ran.printed.splitlines())
        return ran.printed

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


def put_account(
    store: Path, simulator: TappedSimulator, name: str, tokens: TokenPair | None = None
) -> None:
    """Write an account's file; None: with the tokens of its first sign-in."""
    tokens = tokens or simulator.tokens(name)
    write_account_file(
        store,
        simulator.account(name),
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_unix_s=tokens.expires_unix_s,
        now_unix_s=simulator.wall_clock(),
    )


def holds_in_order(lines: Iterable[str], wanted: Iterable[str]) -> bool:
    """Tell whether each of `wanted` stands in a line of its own, in this order."""
    rest = iter(lines)
    return all(any(words in line for line in rest) for words in wanted)


def statuses(requests: Iterable[Seen]) -> list[int | None]:
    """Return what was answered."""
    return [request.status for request in requests]
