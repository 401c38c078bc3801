"""`codexrelay accounts` in this process, with an outside world that a test makes up."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from datetime import timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import orjson
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from codexrelay.cli.accounts import accounts
from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.world import World
from codexrelay.protocol.raw import parse_object
from harness.simulator import Simulator
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.no_tls import NO_TLS
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from click.testing import Result

    from codexrelay.protocol.raw import JsonObject

ZONE: Final = timezone(timedelta(hours=1))


def _no_input() -> bytes:
    return b""


def _no_browser(_: str) -> bool:
    raise AssertionError("nobody asked for a browser")


@attrs.define(eq=False, kw_only=True)
class AccountCommands:
    """Runs commands on a store, beside a simulator if there is one."""

    folder: Path
    simulator: Simulator | None = None
    clock: WallClock = attrs.field(factory=WallClock)
    environ: dict[str, str] = attrs.field(factory=dict)
    #: As on a desktop; `ssh` for a machine far away.
    display: bool = True
    read_input: Callable[[], bytes] = _no_input
    open_browser: Callable[[str], bool] = _no_browser
    #: Everything that every command has printed.
    said: list[str] = attrs.field(factory=list)

    @property
    def store(self) -> Path:
        """The folder of the account files."""
        return self.folder / "accounts"

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        """Run a command whose standard input is `answer`."""
        self.folder.mkdir(exist_ok=True)
        environ = {"HOME": str(self.folder / "home"), "USERPROFILE": str(self.folder / "home")}
        if self.display:
            environ["DISPLAY"] = ":0"
        if "CODEXRELAY_CONFIG" not in self.environ:
            environ["CODEXRELAY_CONFIG"] = str(self._config())
        world = World(
            environ=environ | self.environ,
            platform="linux",
            wall_clock=self.clock,
            zone=ZONE,
            proxy_for=lambda _: None,
            open_browser=self.open_browser,
            read_input=self.read_input,
            configure_logs=lambda: None,
        )
        with capture_logs():
            result = CliRunner().invoke(accounts, arguments, input=answer, obj=Call(world=world))
        self.said.append(result.output)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str) -> JsonObject:
        """Run a command that must succeed, and return the last object that it prints."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        text = result.stdout
        return parse_object(text if text.startswith("{\n") else text.splitlines()[-1])

    async def run_beside(self, *arguments: str, answer: str | None = None) -> Result:
        """Run a command in a thread, so that the simulator can answer it."""
        with trio.fail_after(PATIENCE_S):
            return await trio.to_thread.run_sync(partial(self.run, *arguments, answer=answer))

    def _config(self) -> Path:
        managed: JsonObject = {"storage_path": str(self.store)}
        codex: JsonObject = {"managed_oauth": managed}
        backend: JsonObject = {"extra": {"codex": codex}}
        if self.simulator is not None:
            codex["oauth_issuer"] = self.simulator.issuer_url
            backend["api_base_url"] = self.simulator.api_base_url
        path = self.folder / "config.yaml"
        path.write_bytes(orjson.dumps({"backends": {"openai_codex": backend}}))
        return path


def person_who_signs_in_as(name: str) -> Callable[[str], bool]:
    """Return a browser in which this account of the simulator is signed in."""

    def open_browser(url: str) -> bool:
        with httpx.Client(
            trust_env=False, verify=NO_TLS, timeout=PATIENCE_S, follow_redirects=True
        ) as browser:
            assert browser.get(hinting(url, name)).status_code == 200
        return True

    return open_browser


def hinting(url: str, name: str) -> str:
    """Return the address at which the simulator lets this account sign in."""
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query)) | {"login_hint": name}
    return parts._replace(query=urllib.parse.urlencode(query)).geturl()


def secrets_in(simulator: Simulator) -> set[str]:
    """Return every token the simulator has handed out, and the telling parts of the JWTs."""
    tokens = {*simulator.issuer._access, *simulator.issuer._refresh}
    parts = {part for token in tokens for part in token.split(".")[1:2] if len(part) > 20}
    return tokens | parts
