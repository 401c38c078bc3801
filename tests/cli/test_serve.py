"""`codexrelay serve`, as its owner meets it: a process, its lines, its exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio
import trio.testing
from click.testing import CliRunner

from codexrelay.cli import main
from codexrelay.cli.serve import heed_signals
from codexrelay.config.live import Live, Sources
from codexrelay.protocol.raw import Json, JsonObject, dump
from codexrelay.server.drain import Drain
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.no_tls import NO_TLS
from tests.fakes.relay import ask, ask_chat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

#: A child starts in about a second, on a busy machine in several.
_START_S: Final = 30.0
_COMMAND: Final = (*(sys.executable, "-X", "dev", "-m", "codexrelay"), "serve", "--port", "0")
_ACCOUNTS: Final = "codexrelay accounts: "
_OLD_KEY, _NEW_KEY = "the-old-key-of-a-client", "the-new-key-of-a-client"

posix_only = pytest.mark.skipif(
    os.name == "nt", reason="Windows has no SIGTERM to drain on, no SIGHUP and no ptys"
)


@attrs.define(eq=False)
class Child:
    """A relay in a process of its own."""

    process: trio.Process
    #: Everything that it has said so far.
    said: bytearray = attrs.field(factory=bytearray)
    _more: trio.Event = attrs.field(factory=trio.Event)

    async def listen(self) -> None:
        """Take down what it says until it says no more."""
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.said += data
            self._more.set()
            self._more = trio.Event()

    async def line(self, beginning: str) -> str:
        """Return the first line that begins so, without its beginning."""
        with trio.fail_after(_START_S):
            while True:
                for line in self.said.decode().splitlines(keepends=True):
                    if line.startswith(beginning) and line.endswith("\n"):
                        return line.removeprefix(beginning).rstrip()
                await self._more.wait()

    async def logged(self, text: str) -> str:
        """Return the first log line with this text, without its time."""
        with trio.fail_after(_START_S):
            while True:
                for line in self.said.decode().splitlines(keepends=True):
                    if text in line and line.endswith("\n"):
                        return line.partition(" ")[2].rstrip()
                await self._more.wait()

    async def url(self) -> str:
        return await self.line("codexrelay listening on ")

    async def ended(self, *, within_s: float = PATIENCE_S) -> int:
        """Return its exit status."""
        with trio.fail_after(within_s):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    folder: Path,
    simulator: Simulator,
    *flags: str,
    terminal: int | None = None,
    with_file: bool = True,
    **server: Json,
) -> AsyncIterator[Child]:
    """Run `python -m codexrelay serve` in front of `simulator` until the block ends.

    `terminal` is what its stdin and stdout are.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        configure(folder, simulator, **server)
        named = ("--config", str(folder / "config.yaml")) if with_file else ()
        process = await trio.lowlevel.open_process(
            [*_COMMAND, *named, *flags],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=terminal,
            env=_environ(folder / "home"),
        )
        try:
            child = Child(process)
            nursery.start_soon(child.listen)
            yield child
        finally:
            process.kill()
            with trio.move_on_after(PATIENCE_S, shield=True):
                await process.wait()
        nursery.cancel_scope.cancel()


def configure(folder: Path, simulator: Simulator, **server: Json) -> None:
    """Write the configuration file."""
    (folder / "config.yaml").write_bytes(dump(_config(simulator, folder, server)))


def _environ(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of the owner's is found."""
    environ = {"HOME": str(home), "USERPROFILE": str(home)}
    if "SYSTEMROOT" in os.environ:  # Python does not start without it on Windows
        environ["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    return environ


def _config(simulator: Simulator, folder: Path, server: Mapping[str, Json]) -> JsonObject:
    managed: JsonObject = {"storage_path": str(folder / "accounts")}
    codex: JsonObject = {"oauth_issuer": simulator.issuer_url, "managed_oauth": managed}
    backend: JsonObject = {
        "api_base_url": simulator.api_base_url,
        "extra": {"codex": codex},
    }
    return {"server": {**server}, "backends": {"openai_codex": backend}}


async def post(
    url: str, body: JsonObject, *, path: str = "/v1/responses", **headers: str
) -> httpx.Response:
    async with httpx.AsyncClient(
        base_url=url, trust_env=False, verify=NO_TLS, timeout=PATIENCE_S
    ) as client:
        return await client.post(path, json=body, headers=headers)


@posix_only
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
async def test_it_says_where_it_listens_and_for_whom_and_ends_when_told(
    tmp_path: Path, ending: signal.Signals
) -> None:
    simulator = Simulator(accounts=(SimulatedAccount("home"), SimulatedAccount("work")))
    simulator.write_store(tmp_path / "accounts")
    async with serving(tmp_path, simulator) as child:
        url, accounts = await child.url(), await child.line(_ACCOUNTS)
        answer = await post(url, ask())
        child.process.send_signal(ending)
        status = await child.ended()
    assert url.startswith("http://127.0.0.1:")
    assert not url.endswith(":0")
    assert accounts == "home, work"
    assert answer.status_code == 200
    assert status == 0
    assert b"Warning" not in child.said, child.said.decode()


@posix_only
@pytest.mark.parametrize("by", ["signal", "file alone"])
async def test_a_configuration_that_changes_acts_without_a_restart(tmp_path: Path, by: str) -> None:
    simulator = Simulator()
    simulator.write_store(tmp_path / "accounts")
    keys: list[list[Json]] = [[_OLD_KEY], [_NEW_KEY]]
    async with serving(tmp_path, simulator, log_level="error", client_keys=keys[0]) as child:
        url = await child.url()
        before = [await _status(url, key) for key in (_OLD_KEY, _NEW_KEY)]
        configure(tmp_path, simulator, client_keys=keys[1], host="127.0.0.2")
        if by == "signal":
            child.process.send_signal(signal.SIGHUP)
        line = await child.logged("configuration reloaded")
        held = await child.logged("need a restart")
        after = [await _status(url, key) for key in (_OLD_KEY, _NEW_KEY)]
        await child.logged("turn completed")  # nothing of the kind was written before
        child.process.send_signal(signal.SIGTERM)
        status = await child.ended()
    assert (before, after, status) == ([200, 401], [401, 200], 0)
    assert line.startswith("info    configuration reloaded")
    assert line.endswith("changed='server.client_keys, server.log_level'")
    assert held.endswith("waiting=server.host")
    assert child.said.count(b"turn completed") == 1
    assert b"key-of-a-client" not in child.said


async def _status(url: str, key: str) -> int:
    return (await post(url, ask(), **{"x-api-key": key})).status_code


@posix_only
async def test_sighup_without_a_file_is_answered_and_has_the_accounts_looked_at(
    tmp_path: Path,
) -> None:
    simulator = Simulator()
    flags = ("--managed-oauth-storage-path", str(tmp_path / "accounts"))
    more = ("--sessions-state-path", str(tmp_path / "state"))
    async with serving(tmp_path, simulator, *flags, *more, with_file=False) as child:
        await child.url()
        (tmp_path / "accounts").mkdir(mode=0o700)
        (tmp_path / "accounts" / "half.json").write_text("{")
        child.process.send_signal(signal.SIGHUP)
        await child.logged("an account file has a problem")
        line = await child.logged("no configuration file")
        child.process.send_signal(signal.SIGTERM)
        assert await child.ended() == 0
    assert line == "info    no configuration file to reload; the accounts were looked at"


@posix_only
async def test_the_accounts_are_named_again_when_they_are_not_the_same_any_more(
    tmp_path: Path,
) -> None:
    simulator = Simulator(accounts=(SimulatedAccount("home"), SimulatedAccount("work")))
    simulator.write_store(tmp_path / "accounts")
    async with serving(tmp_path, simulator) as child:
        assert await child.line(_ACCOUNTS) == "home, work"
        child.process.send_signal(signal.SIGHUP)
        await child.logged("nothing has changed")
        (tmp_path / "accounts" / "work.json").unlink()
        child.process.send_signal(signal.SIGHUP)
        line = await child.logged("info    accounts: ")
        child.process.send_signal(signal.SIGTERM)
        assert await child.ended() == 0
    assert line == "info    accounts: home"
    assert child.said.count(b"accounts: ") == 2


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--dynamic-compression-max-level=balanced", "write level"),
        ("--dynamic-compression-disable-methods=x", "disable_tools"),
        ("--session-b2bua-enabled", "sessions are known by"),
        ("--no-session-b2bua-echo-enabled", "sessions are known by"),
        ("--capture-file=x", "traffic is not captured"),
        ("--capture-max-bytes", "traffic is not captured"),
        ("--cbor-capture-dir", "traffic is not captured"),
        ("--enable-droid-path-fix", "profiles.adaptations"),
        ("--enable-openai-codex-backend-debugging-override", "the backend needs no switch"),
    ],
)
@pytest.mark.parametrize("command", [["serve"], ["config", "show"]], ids=["serve", "show"])
def test_a_flag_that_other_relays_have_is_refused_with_the_reason(
    command: list[str], flag: str, reason: str
) -> None:
    result = CliRunner().invoke(main, [*command, "--port", "0", flag])
    assert result.exit_code == 2
    assert f"Error: {flag.partition('=')[0]}: not supported: " in result.stderr
    assert reason in result.stderr


def test_a_flag_that_nobody_has_is_unknown() -> None:
    result = CliRunner().invoke(main, ["serve", "--prot", "0"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--port" in result.stderr


@posix_only
async def test_sighup_of_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    simulator = Simulator()
    simulator.write_store(tmp_path / "accounts")
    ours, theirs = os.openpty()
    try:
        async with serving(tmp_path, simulator, terminal=theirs) as child:
            os.close(theirs)
            await child.url()
            child.process.send_signal(signal.SIGHUP)  # the terminal is there
            await child.logged("nothing has changed")
            os.close(ours)
            child.process.send_signal(signal.SIGHUP)
            assert await child.ended() == 0
    finally:
        with contextlib.suppress(OSError):
            os.close(ours)


@posix_only
@pytest.mark.parametrize("closed_after_s", [1.0, 3.0, None])
async def test_a_terminal_may_be_closed_a_moment_after_sighup(
    mock_clock: trio.testing.MockClock, closed_after_s: float | None
) -> None:
    drain, live = Drain(grace_s=1.0), Live.load(Sources(config_path=None, environ={}, flags={}))
    ours, theirs = os.openpty()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heed_signals, drain, live, nursery.cancel_scope, (theirs,))
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGHUP)
            while not live.is_asked:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(closed_after_s or 0.0)
            await trio.testing.wait_all_tasks_blocked()
            if closed_after_s is not None:
                os.close(ours)
            mock_clock.jump(5.0)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    finally:
        os.close(theirs)
        if closed_after_s is None:
            os.close(ours)
    # Long after it, a terminal that is gone is that of a program that was left running.
    assert drain.draining is (closed_after_s == 1.0)


async def test_without_an_account_it_says_what_to_do_and_serves_as_soon_as_there_is_one(
    tmp_path: Path,
) -> None:
    simulator = Simulator()
    async with serving(tmp_path, simulator) as child:
        url, accounts = await child.url(), await child.line(_ACCOUNTS)
        before = await post(url, ask())
        asked = len(simulator.seen)
        simulator.write_store(tmp_path / "accounts")
        after = await post(url, ask())
    for told in (accounts, before.json()["error"]["message"]):
        assert "no Codex account to use" in told
        assert str(tmp_path / "accounts") in told
        assert "codex login" in told
        assert "no restart is needed" in told
    assert accounts.startswith("none; ")
    assert (before.status_code, asked) == (401, 0)
    assert after.status_code == 200


@posix_only
async def test_told_to_stop_it_lets_a_stream_end_and_lets_nobody_in(tmp_path: Path) -> None:
    simulator = Simulator(pace_s=0.02)
    simulator.write_store(tmp_path / "accounts")
    async with serving(tmp_path, simulator) as child:
        url = await child.url()
        async with trio.open_nursery() as nursery:
            answers: list[httpx.Response] = []

            async def stream() -> None:
                answers.append(await post(url, ask("[sim deltas=50]")))

            nursery.start_soon(stream)
            with trio.fail_after(PATIENCE_S):
                await simulator.wait_until(lambda: any(seen.status for seen in simulator.seen))
            child.process.send_signal(signal.SIGTERM)
            await _until_refused(url)
        status = await child.ended()
    assert b'"type":"response.completed"' in answers[0].content
    assert status == 0


@posix_only
async def test_a_stream_longer_than_the_grace_gets_its_terminal_event(tmp_path: Path) -> None:
    simulator = Simulator()
    simulator.write_store(tmp_path / "accounts")
    async with serving(tmp_path, simulator, drain_grace_s=0.2) as child:
        url = await child.url()
        async with trio.open_nursery() as nursery:
            answers: list[httpx.Response] = []

            async def stream() -> None:
                answers.append(await post(url, ask("[sim fault=hang]")))

            nursery.start_soon(stream)
            with trio.fail_after(PATIENCE_S):
                await simulator.wait_until(lambda: any(seen.status for seen in simulator.seen))
            await post(url, ask())  # whatever the first stream was sent has been read by now
            child.process.send_signal(signal.SIGTERM)
        status = await child.ended()
    assert answers[0].content.count(b"event: response.failed\n") == 1
    assert b"relay_shutting_down" in answers[0].content
    assert status == 0


@posix_only
async def test_a_second_signal_stops_it_at_once(tmp_path: Path) -> None:
    simulator = Simulator()
    simulator.write_store(tmp_path / "accounts")
    async with serving(tmp_path, simulator, drain_grace_s=1000) as child:
        url = await child.url()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ask_in_vain, url)
            with trio.fail_after(PATIENCE_S):
                await simulator.wait_until(lambda: any(seen.status for seen in simulator.seen))
            child.process.send_signal(signal.SIGTERM)
            await _until_refused(url)
            assert child.process.returncode is None
            child.process.send_signal(signal.SIGTERM)
            status = await child.ended()
    assert status == 0


async def _until_refused(url: str) -> None:
    """Connect until nobody listens any more.

    Without a request: httpx leaves the generator of a body that is cut off to the garbage
    collector, which trio then warns of.
    """
    where = httpx.URL(url)
    assert where.port is not None
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                stream = await trio.open_tcp_stream(where.host, where.port)
            except OSError:
                return
            await stream.aclose()


async def _ask_in_vain(url: str) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await post(url, ask("[sim fault=hang]"))


@pytest.mark.parametrize("transport", ["direct", "httpx"])
async def test_no_secret_is_ever_logged(tmp_path: Path, transport: str) -> None:
    simulator = Simulator(
        accounts=(SimulatedAccount("old", expired=True), SimulatedAccount("gone"))
    )
    simulator.write_store(tmp_path / "accounts")
    (tmp_path / "accounts" / "broken.json").write_text('{"access_token": "sk-half-a-file"')
    (tmp_path / "accounts" / "pasted.json").write_text('{"access_token": "sk-pasted\\n"}')
    secrets = {
        "authorization": "Bearer sk-of-the-client",
        "chatgpt-account-id": "account-of-the-client",
        "cookie": "cookie-of-the-client",
        "x-api-key": "key-of-the-client",
    }
    keys: list[Json] = ["key-of-the-client", "short"]
    # The account rests after the last one.
    faults = ("401", "500", "eof", "drop", "garbage", "403html", "error_event", "429")
    flags = ("--transport", transport, "--log-level", "debug")
    async with serving(tmp_path, simulator, *flags, client_keys=keys) as child:
        url = await child.url()
        simulator.revoke("gone")
        for text in ("hello", *(f"[sim fault={fault}]" for fault in faults)):
            await post(url, ask(text), **secrets)
            await post(url, ask_chat(text), path="/v1/chat/completions", **secrets)
        await post(url, ask() | {"input": 5}, **secrets)
        await post(url, ask(), **{"x-api-key": "wrong-of-the-client"})
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=NO_TLS) as client:
            await client.get("/v1/models", headers=secrets)
            await client.get("/healthz", headers=secrets)
    said = child.said.decode()
    assert "turn completed" in said
    assert "turn failed" in said
    tokens = {*simulator.issuer._access, *simulator.issuer._refresh}
    assert len(tokens) > 4, "there was no refresh"
    # A part of a JWT may stand alone; the first one says nothing.
    parts = {part for token in tokens for part in token.split(".")[-2:] if len(part) > 20}
    assert [part for part in parts if part in said] == []
    assert [value for value in secrets.values() if value in said] == []
    assert "of-the-client" not in said
    assert "pasted.json: access_token" in said
    assert "sk-half-a-file" not in said
    assert "sk-pasted" not in said


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    simulator = Simulator()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with serving(tmp_path, simulator, "--port", str(port)) as child:
            status = await child.ended(within_s=_START_S)
            line = await child.line("codexrelay: server.port: ")
    assert status == 2
    assert line.startswith(f"port {port} on 127.0.0.1 is in use")


@pytest.mark.parametrize(
    ("config", "flags", "told"),
    [
        ({"server": {"prot": 1}}, [], ["server.prot", "server.port"]),
        (
            {"backends": {"openai_codex": {"extra": {"codex": {"oauth_isuer": "x"}}}}},
            [],
            ["backends.openai_codex.extra.codex.oauth_isuer", "oauth_issuer"],
        ),
        ({"server": {"port": "many"}}, [], ["server.port"]),
        ({}, ["--host", "0.0.0.0"], ["0.0.0.0", "server.client_keys"]),
        ({"server": {"host": "192.168.1.5"}}, [], ["192.168.1.5", "server.client_keys"]),
    ],
    ids=["unknown key", "unknown key far below", "bad value", "open host flag", "open host"],
)
def test_a_configuration_that_cannot_be_used_stops_the_start(
    tmp_path: Path, config: JsonObject, flags: list[str], told: list[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(dump(config))
    result = CliRunner().invoke(main, ["serve", "--config", str(path), *flags])
    assert result.exit_code == 2
    assert [words for words in told if words not in result.stderr] == []
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("server: {port: -1, keep_alive_s: never, x: 1}")
    result = CliRunner().invoke(main, ["serve", "--config", str(path)])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("codexrelay: ") for line in lines)


def test_its_help_names_its_flags_and_says_what_they_mean() -> None:
    result = CliRunner().invoke(main, ["serve", "--help"])
    assert result.exit_code == 0
    words = result.output.split()
    assert {"--config", "--host", "--port"} <= set(words)
    for told in ("Largest request body in bytes", "[server.max_body_bytes; default: 67108864]"):
        assert told in " ".join(words)
