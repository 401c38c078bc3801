"""The relay as its users run it: a process of its own, with a configuration file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.children import REAP_S, bare_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

READY: Final = "codexrelay listening on "
#: From the start of the interpreter to the open port, on a machine that is busy with agents.
START_S: Final = 60.0
#: After SIGTERM. No turn is running then, so the relay has nothing to wait for.
STOP_S: Final = 20.0
#: Where a relay keeps what it knows of its turns, below its own folder.
STATE_FOLDER: Final = "state"
#: Names of its own for models: Droid takes one like OpenAI's for a mistake over chat.
ALIASES: Final[Mapping[str, str]] = {"relay-model": "gpt-5.5"}


@attrs.define(eq=False)
class RelayProcess:
    """A relay that serves."""

    #: Its address, without `/v1`.
    url: str
    #: What it has said on stderr, line by line.
    log: list[str]
    #: Its exit status, once it has been stopped.
    status: int | None = None
    #: Its process id.
    pid: int | None = None


@attrs.frozen
class Program:
    """What serves as the relay."""

    #: Behind `python -m`; configuration and port follow.
    arguments: tuple[str, ...]
    #: Further variables.
    environment: Mapping[str, str] = attrs.field(factory=dict)


SERVE: Final = Program(("codexrelay", "serve"))
_ROOT: Final = Path(__file__).parents[1]


def recorder_into(folder: Path, *, name: str, scenario: str, client: str, version: str) -> Program:
    """Return the relay that writes a cassette, `folder`/`name`.yaml, besides."""
    said = ("--scenario", scenario, "--client", client, "--client-version", version)
    return Program(
        ("harness", "record", "--out", str(folder), "--name", name, *said),
        {"PYTHONPATH": str(_ROOT)},
    )


def replay_of(cassette: Path) -> Program:
    """Return the relay whose backend is a cassette."""
    arguments = ("harness", "replay", str(cassette.resolve()), "--relay")
    return Program(arguments, {"PYTHONPATH": str(_ROOT)})


class RelayStartError(Exception):
    """The relay did not start; the text is what it said."""


def told_by(error: BaseException) -> str:
    """Return the texts of all errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(told_by(inner) for inner in error.exceptions)
    return str(error)


def relay_settings(
    *,
    api_base_url: str,
    issuer_url: str,
    store: Path,
    server: Mapping[str, object] | None = None,
    managed_oauth: Mapping[str, object] | None = None,
    aliases: Mapping[str, str] = ALIASES,
    adaptations: Sequence[str] = (),
    asks_for_models: bool = True,
    routes: Mapping[str, Sequence[str]] | None = None,
    others: Mapping[str, Mapping[str, object]] | None = None,
    compaction: Mapping[str, object] | None = None,
    websocket: str | None = None,
) -> dict[str, object]:
    """Return the configuration of a relay that knows Codex and the accounts in `store`.

    `server` and `managed_oauth` are further keys of these blocks. What it keeps of its turns goes
    to a folder beside the configuration file. `aliases` are names of its own for models,
    `adaptations` what it does for single programs. `asks_for_models` says whether it asks the
    backend for its models, which it does behind the scenes after its first turn. `routes` are its
    ways through several backends, `others` its backends of other kinds (see `other_backend`), and
    `compaction` is that block. `websocket` says which turns go to Codex over one; None leaves it to
    the relay.
    """
    accounts = {"storage_path": str(store), "allow_legacy_fallback": False}
    codex = {
        "oauth_issuer": issuer_url,
        "managed_oauth": {**accounts, **(managed_oauth or {})},
        "model_catalog": {"discovery_enabled": asks_for_models},
        # Adaptations see no calls otherwise.
        "default_capabilities": {"bypass_tool_call_reactor": False} if adaptations else {},
    }
    backend = {
        "type": "openai-codex",
        "api_base_url": api_base_url,
        "extra": {"codex": codex},
        **({} if websocket is None else {"websocket": websocket}),
    }
    return {
        "server": server or {},
        "sessions": {"state_path": STATE_FOLDER},
        "models": {"aliases": dict(aliases), **({"routes": dict(routes)} if routes else {})},
        "profiles": {"adaptations": list(adaptations)},
        "backends": {"openai_codex": backend, **(others or {})},
        **({"compaction": dict(compaction)} if compaction else {}),
    }


def other_backend(
    api_base_url: str,
    *,
    models: Sequence[str],
    wire: str = "chat",
    key: str | None = None,
    folder: Path | None = None,
) -> dict[str, object]:
    """Return the block of a backend of another kind.

    A `key` is written into a file of `folder`, where it is looked for.
    """
    block: dict[str, object] = {
        "type": "openai",
        "api_base_url": api_base_url,
        "wire": wire,
        "models": list(models),
    }
    if key is not None:
        assert folder is not None
        file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:8]}.key"
        file.write_text(f"{key}\n", "utf-8")
        file.chmod(0o600)
        block["api_key_file"] = str(file)
    return block


@contextlib.asynccontextmanager
async def running_relay(
    folder: Path, settings: Mapping[str, object], *, program: Program = SERVE
) -> AsyncIterator[RelayProcess]:
    """Run `program` with `settings` as its configuration and `folder` as its home.

    It is asked to stop (SIGTERM) at the end, and killed if it does not, or when the caller fails or
    is cancelled.

    Raises (inside a group):
        RelayStartError: it ended, or opened no port within `START_S`.
    """
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings, indent=1), "utf-8")  # JSON is YAML too
    process = await trio.lowlevel.open_process(
        (sys.executable, "-m", *program.arguments, "--config", str(config), "--port", "0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**bare_environment(folder), **program.environment},
        cwd=folder,
    )
    assert process.stderr is not None
    try:
        async with process.stderr, trio.open_nursery() as nursery:
            with trio.move_on_after(START_S) as patience:
                relay = await nursery.start(_read_log, process.stderr)
            if patience.cancelled_caught:
                raise RelayStartError(f"no port within {START_S:.0f} s")
            relay.pid = process.pid
            yield relay
            process.terminate()
            # The log ends when the process does.
            nursery.cancel_scope.deadline = trio.current_time() + STOP_S
    finally:
        process.kill()
        with trio.move_on_after(REAP_S, shield=True):
            await process.wait()
    relay.status = process.returncode


async def _read_log(
    stderr: trio.abc.ReceiveStream, *, task_status: trio.TaskStatus[RelayProcess]
) -> None:
    """Collect the relay's log to its end; started once it has said its address."""
    log: list[str] = []
    relay: RelayProcess | None = None
    rest = b""
    async for chunk in stderr:
        *lines, rest = (rest + chunk).split(b"\n")
        log += [line.decode("utf-8", "replace") for line in lines]
        if relay is None and (url := _address_in(log)) is not None:
            relay = RelayProcess(url, log)
            task_status.started(relay)
    if relay is None:
        raise RelayStartError("\n".join([*log, rest.decode("utf-8", "replace")]))


def _address_in(log: list[str]) -> str | None:
    """Return the address that the relay has announced, None if it has not yet."""
    for line in log:
        if READY in line:
            return line.partition(READY)[2].strip()
    return None
