"""The account script as its user runs it: a process, its pipes, its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio

from codexrelay.protocol.raw import dump, parse_object
from harness.children import bare_environment
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.account_commands import hinting, secrets_in
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.no_tls import NO_TLS
from tests.fakes.scripted_server import Caller, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.protocol.raw import JsonObject

_ROOT: Final = Path(__file__).parents[2]
_SCRIPT: Final = (str(_ROOT / "scripts" / "manage_openai_codex_accounts.py"),)
_MODULE: Final = ("-m", "codexrelay", "accounts")
#: A child starts in about a second, on a busy machine in several.
_START_S: Final = 60.0

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")


@attrs.define(eq=False)
class Child:
    """A command that runs."""

    process: trio.Process
    said: bytearray = attrs.field(factory=bytearray)

    async def line(self, beginning: str) -> str:
        """Return the first line on stdout that begins so."""
        assert self.process.stdout is not None
        with trio.fail_after(_START_S):
            while True:
                for line in self.said.decode().splitlines(keepends=True):
                    if line.startswith(beginning) and line.endswith("\n"):
                        return line.rstrip()
                more = await self.process.stdout.receive_some()
                assert more, f"it has ended and said {self.said.decode()!r}"
                self.said += more

    async def ended(self) -> tuple[int, str]:
        """Return its exit status and all it has said on both streams."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with trio.fail_after(PATIENCE_S):
            async for more in self.process.stdout:
                self.said += more
            async for more in self.process.stderr:
                self.said += more
            return await self.process.wait(), self.said.decode()


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[Simulator]:
    """Serve a simulator to which `folder/config.yaml` leads."""
    simulator = Simulator(accounts=(SimulatedAccount("home"), SimulatedAccount("work")))
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        managed: JsonObject = {"storage_path": "accounts"}
        codex: JsonObject = {"oauth_issuer": simulator.issuer_url, "managed_oauth": managed}
        backend: JsonObject = {"api_base_url": simulator.api_base_url, "extra": {"codex": codex}}
        (folder / "config.yaml").write_bytes(dump({"backends": {"openai_codex": backend}}))
        yield simulator
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(
    folder: Path, *arguments: str, stdin: int = subprocess.PIPE
) -> AsyncIterator[Child]:
    """Run the script until the block ends."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-X", "dev", *_SCRIPT, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**bare_environment(folder), "CODEXRELAY_CONFIG": str(folder / "config.yaml")},
    )
    try:
        yield Child(process)
    finally:
        process.kill()
        with trio.move_on_after(PATIENCE_S, shield=True):
            await process.wait()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**bare_environment(folder), "OPENAI_CODEX_PATH": str(folder)},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_START_S,
        check=False,
    )


def test_script_and_command_are_the_same(tmp_path: Path) -> None:
    Simulator().write_store(tmp_path / "var" / "openai_codex_oauth_accounts")
    listed = [run(tmp_path, *program, "list", "--json") for program in (_SCRIPT, _MODULE)]
    assert [one.returncode for one in listed] == [0, 0], listed
    assert listed[0].stdout == listed[1].stdout
    assert '"id": "sim-1"' in listed[0].stdout
    assert [one.stderr for one in listed] == ["", ""]


async def test_a_pasted_address_signs_in(tmp_path: Path) -> None:
    async with (
        simulated(tmp_path) as simulator,
        running(tmp_path, "add", "--no-browser", "--port", "0") as child,
    ):
        url = await child.line("http")
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as browser:
            answer = await browser.get(hinting(url, "work"))
        assert child.process.stdin is not None
        await child.process.stdin.send_all(b"nonsense\n")
        await child.process.stdin.send_all(f"{answer.headers['location']}\n".encode())
        status, said = await child.ended()
    assert status == 0, said
    assert "Stored account work" in said
    assert "That cannot be used" in said
    assert (tmp_path / "accounts" / "work.json").exists()
    assert [secret for secret in secrets_in(simulator) if secret in said] == []


async def test_the_browsers_return_signs_in_while_the_input_is_silent(tmp_path: Path) -> None:
    async with (
        simulated(tmp_path),
        running(tmp_path, "add", "--no-browser", "--port", "0") as child,
    ):
        url = await child.line("http")
        async with httpx.AsyncClient(
            trust_env=False, verify=NO_TLS, follow_redirects=True
        ) as browser:
            assert (await browser.get(hinting(url, "home"))).status_code == 200
        # The pipe is open and nobody writes: the thread that reads it must keep nobody waiting.
        status, said = await child.ended()
    assert status == 0, said
    assert "Fatal" not in said
    assert "Stored account home" in said


@posix_only
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_an_interrupt_ends_a_sign_in_at_once(tmp_path: Path, name: str) -> None:
    async with (
        simulated(tmp_path),
        running(tmp_path, "add", "--no-browser", "--port", "0") as child,
    ):
        await child.line("http")
        child.process.send_signal(getattr(signal, name))
        status, said = await child.ended()
    assert status == 1
    assert said.rstrip().endswith("Aborted!")
    assert "Traceback" not in said
    assert "Fatal" not in said


@posix_only
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_a_refresh_under_way_is_brought_home_whatever_ends_the_command(
    tmp_path: Path, name: str
) -> None:
    sent, told = trio.Event(), trio.Event()
    new = dump({"access_token": "new-access", "refresh_token": "new-refresh"})

    async def answer_late(caller: Caller) -> None:
        await caller.request()
        sent.set()
        await told.wait()
        await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(new) + new)
        await caller.left()

    async with serving(answer_late) as server:
        simulator = Simulator()
        simulator.write_store(tmp_path / "accounts")
        managed: JsonObject = {"storage_path": "accounts"}
        codex: JsonObject = {"oauth_issuer": server.url, "managed_oauth": managed}
        (tmp_path / "config.yaml").write_bytes(
            dump({"backends": {"openai_codex": {"extra": {"codex": codex}}}})
        )
        async with running(tmp_path, "refresh", "sim-1") as child:
            with trio.fail_after(_START_S):
                await sent.wait()
            child.process.send_signal(getattr(signal, name))
            await trio.sleep(0.2)  # time to die of it, for a command that would
            told.set()
            status, said = await child.ended()
    assert status == 1
    assert said.endswith("Aborted!\n")
    assert "Traceback" not in said
    stored = parse_object((tmp_path / "accounts" / "sim-1.json").read_bytes())
    assert stored["refresh_token"] == "new-refresh"
    assert not list((tmp_path / "accounts").glob("*.sent"))


async def test_without_input_the_browser_alone_can_end_a_sign_in(tmp_path: Path) -> None:
    arguments = ("add", "--no-browser", "--port", "0", "--timeout", "0.3")
    async with (
        simulated(tmp_path),
        running(tmp_path, *arguments, stdin=subprocess.DEVNULL) as child,
    ):
        status, said = await child.ended()
    assert status == 1
    assert "nobody has signed in within" in said
    assert "Traceback" not in said
