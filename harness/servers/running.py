"""Starts a server on loopback, waits until it answers, and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from harness.children import REAP_S, bare_environment
from harness.compat.traces import last_words, text_of
from harness.servers.kinds.kind import Kind, Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: From the start to the first answer: 90 s were measured on a machine with other things to do.
START_S: Final = 240.0
_LOOK_AGAIN_S: Final = 0.25
_HOST: Final = "127.0.0.1"


class ServerStartError(Exception):
    """The server did not start; the text is what it said."""


@attrs.frozen(kw_only=True)
class RunningServer:
    """A server that answers."""

    kind: Kind
    #: What a relay is given as `api_base_url`.
    api_base_url: str
    #: The file with all that it says.
    log: Path


@attrs.frozen(kw_only=True)
class RunningProgram:
    """A program that answers."""

    #: With `/v1`.
    api_base_url: str
    #: The file with all that it says.
    log: Path


@contextlib.asynccontextmanager
async def running_server(kind: Kind, python: Path, folder: Path) -> AsyncIterator[RunningServer]:
    """Run the server in a new folder, see `running_program`.

    Raises:
        ServerStartError: see there.
    """
    async with running_program(kind, python, folder) as running:
        yield RunningServer(kind=kind, api_base_url=running.api_base_url, log=running.log)


@contextlib.asynccontextmanager
async def running_program(
    kind: Program, python: Path, folder: Path
) -> AsyncIterator[RunningProgram]:
    """Run the program in a new folder; it is killed with all its children at the end.

    Raises:
        ServerStartError: it ended, or did not answer within `START_S`.
    """
    (folder / "tmp").mkdir(parents=True)
    for name, content in kind.files().items():
        (folder / name).write_text(content, "utf-8")
    environment = {**bare_environment(folder), **kind.environment()}
    port, log = _free_port(), folder / "log"
    server = RunningProgram(api_base_url=f"http://{_HOST}:{port}/v1", log=log)
    with log.open("wb") as output:
        if (preparation := kind.preparation(python)) is not None:
            done = await trio.run_process(
                preparation, stdout=output, stderr=output, check=False, cwd=folder, env=environment
            )
            if done.returncode:
                raise ServerStartError("\n".join(last_words(kind.name, text_of(log))))
        process = await trio.lowlevel.open_process(
            kind.command(python, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        await _until_it_answers(kind, server, process)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.move_on_after(REAP_S, shield=True):
            await process.wait()


def _free_port() -> int:
    """Return a port that is free now: these servers do not say which one they took themselves."""
    with socket.create_server((_HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _until_it_answers(kind: Program, server: RunningProgram, process: trio.Process) -> None:
    headers = {} if kind.key is None else {"authorization": f"Bearer {kind.key}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=5.0) as http:
        with trio.move_on_after(START_S):
            while process.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.get(f"{server.api_base_url}/models")
                    if answer.status_code == 200:
                        return
                await trio.sleep(_LOOK_AGAIN_S)
    raise ServerStartError("\n".join(last_words(kind.name, text_of(server.log))))
