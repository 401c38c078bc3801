"""The programs that share accounts: relays, and the two kinds of a fourth program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import httpx
import trio

from codexrelay.protocol.raw import get_list, get_number, parse_object
from harness.children import REAP_S, bare_environment
from harness.relay_process import RelayProcess, running_relay

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

#: From the start of the interpreter to its first line, on a busy machine.
START_S: Final = 60.0
_BODY: Final[JsonObject] = {"model": "gpt-5.5", "input": "hello", "stream": False}
_ADOPTED: Final = "newer tokens adopted"
_HERE: Final = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Told:
    """What one turn of a participant came to."""

    #: HTTP statuses of its requests; 0: no answer.
    statuses: tuple[int, ...]
    #: How often it took over what another one had stored, as far as it says so itself.
    adopted: int = 0


class Participant(Protocol):
    """A program that uses accounts."""

    name: str

    async def turn(self) -> Told:
        """Use the accounts once."""


@attrs.define(eq=False, kw_only=True)
class Relay:
    """A relay in a process of its own, which can be killed and started again.

    Run it with `await nursery.start(relay.run)`.
    """

    name: str
    folder: Path
    settings: Mapping[str, object]
    #: Requests of one turn, at the same time.
    requests: int
    _process: RelayProcess | None = attrs.field(default=None, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _gone: trio.Event = attrs.field(factory=trio.Event, init=False)
    _lines_read: int = attrs.field(default=0, init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until it is killed; started when it serves.

        Raises (inside a group):
            RelayStartError: it did not start.
        """
        self.folder.mkdir(exist_ok=True)
        self._scope, self._gone, self._lines_read = trio.CancelScope(), trio.Event(), 0
        try:
            with self._scope:
                async with running_relay(self.folder, self.settings) as self._process:
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._gone.set()

    async def kill(self) -> None:
        """Kill it (SIGKILL) and return when it is dead."""
        self._scope.cancel()  # whoever is cancelled while it runs a relay kills it at once
        await self._gone.wait()

    async def turn(self) -> Told:
        """Send requests; a relay that is killed meanwhile answers none."""
        statuses: list[int] = []
        async with trio.open_nursery() as nursery:
            for _ in range(self.requests):
                nursery.start_soon(self._ask, statuses)
        return Told(statuses=tuple(statuses), adopted=self._adopted())

    async def _ask(self, statuses: list[int]) -> None:
        assert self._process is not None
        # A connection of its own each time: one that was kept might belong to a killed relay.
        async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
            try:
                answer = await http.post(f"{self._process.url}/v1/responses", json=_BODY)
            except httpx.TransportError:
                statuses.append(0)
            else:
                statuses.append(answer.status_code)

    def _adopted(self) -> int:
        """Count what it has logged since it was last asked."""
        assert self._process is not None
        lines = self._process.log[self._lines_read :]
        self._lines_read += len(lines)
        return sum(_ADOPTED in line for line in lines)


@attrs.define(eq=False, kw_only=True)
class Fourth:
    """A program beside the relays, which can be killed and started again as they can."""

    name: str
    #: Its file here.
    script: str
    folder: Path
    arguments: tuple[str, ...]
    _process: trio.Process | None = attrs.field(default=None, init=False)
    _rest: bytes = attrs.field(default=b"", init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _gone: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until it is killed; started when it takes turns."""
        self._scope, self._gone, self._rest = trio.CancelScope(), trio.Event(), b""
        try:
            with self._scope:
                await self._run(task_status)
        finally:
            self._gone.set()

    async def kill(self) -> None:
        """Kill it (SIGKILL) and return when it is dead."""
        self._scope.cancel()
        await self._gone.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        self.folder.mkdir(exist_ok=True)
        self._process = await trio.lowlevel.open_process(
            (sys.executable, str(_HERE / self.script), *self.arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=bare_environment(self.folder),
            cwd=self.folder,
        )
        try:
            with trio.fail_after(START_S):
                await self._line()
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._process.kill()
            with trio.move_on_after(REAP_S, shield=True):
                await self._process.wait()

    async def turn(self) -> Told:
        """Let it take a turn.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"turn\n")
        told = parse_object(await self._line())
        statuses = [status for status in get_list(told, "statuses") if isinstance(status, int)]
        return Told(statuses=tuple(statuses), adopted=int(get_number(told, "adopted") or 0))

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            if not (data := await self._process.stdout.receive_some()):
                raise RuntimeError(f"{self.name} has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def auth_json(*, access_token: str, refresh_token: str, account_id: str) -> JsonObject:
    """Return an `auth.json` as Codex CLI leaves it after a sign-in, with keys of tomorrow."""
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": None,
            "access_token": access_token,
            "refresh_token": refresh_token,
            "account_id": account_id,
            "login_owner_id": "owner",
        },
        "last_refresh": "2026-11-22T11:32:18.666896772Z",
        "of_tomorrow": {"kept": [1, 2, 3]},
    }
