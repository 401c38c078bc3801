"""Our relay, started as its users start it: a process of its own with a configuration file."""

from __future__ import annotations

import base64
import compileall
import importlib.util
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Final

from benchmarks.processes import launch, line_in
from benchmarks.subject import CODEXRELAY
from harness.relay_process import relay_settings

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.subject import Subject

_LISTENING: Final = re.compile(r"codexrelay listening on (http://\S+)")
_TOKEN_VALID_S: Final = 10 * 24 * 3600
#: Variables that beat the configuration file, and could name a real backend.
_RELAY_VARIABLES: Final = (
    *("OPENAI_", "CODEX_", "CODEXRELAY_"),
    *("COMPACTION_", "DYNAMIC_COMPRESSION_", "ENABLE_"),
)


def start_relay(
    stack: contextlib.ExitStack,
    *,
    stub_url: str,
    folder: Path,
    name: str = CODEXRELAY,
    websocket: str = "auto",
    program: Sequence[str] = ("-m", "codexrelay"),
    accounts: int = 1,
    max_sessions: int | None = None,
) -> Subject:
    """Start `codexrelay serve` with made-up accounts and the stub as backend and issuer.

    `websocket` says which turns go to the stub over a WebSocket, as the relay's key does; `program`
    is what Python runs; `max_sessions`, how many sessions it keeps in memory, None as it does by
    itself. The log, at the level that users have, goes to a file below `folder`.

    Raises:
        MeasurementError: it did not start.
    """
    _write_bytecode()
    home = folder / name
    config = write_files(
        home,
        stub_url=stub_url,
        now_unix_s=time.time(),
        websocket=websocket,
        accounts=accounts,
        max_sessions=max_sessions,
    )
    log = home / "log"
    command = [sys.executable, *program, "serve", "--config", str(config)]
    return launch(
        stack,
        name,
        [*command, "--port", "0", "--log-level", "info"],
        home,
        look_for_url=lambda: line_in(log, _LISTENING),
        stderr=log,
        env=environment_for_relay(os.environ),
    )


def _write_bytecode() -> None:
    """Write what an installation has beside its modules, where that can be written.

    A relay that is run from its sources with no bytecode compiles 300 modules at each start, which
    is more than a third of it (measured). Nobody's users wait for that.
    """
    spec = importlib.util.find_spec("codexrelay")
    for folder in (spec and spec.submodule_search_locations) or ():
        compileall.compile_dir(folder, quiet=2)


def write_files(
    home: Path,
    *,
    stub_url: str,
    now_unix_s: float,
    websocket: str = "auto",
    accounts: int = 1,
    max_sessions: int | None = None,
) -> Path:
    """Write the accounts and the configuration below `home`; return the path of the latter."""
    store = home / "accounts"
    store.mkdir(mode=0o700, parents=True)
    for number in range(accounts):
        name = f"bench-{number}" if number else "bench"
        account = store / f"{name}.json"
        account.write_text(json.dumps(_account(name, now_unix_s)), "utf-8")
        account.chmod(0o600)  # the relay warns of others
    config = home / "config.yaml"
    settings = relay_settings(api_base_url=f"{stub_url}/v1", issuer_url=stub_url, store=store)
    settings["backends"]["openai_codex"]["websocket"] = websocket  # type: ignore[index]
    if max_sessions is not None:
        settings["sessions"]["max_sessions"] = max_sessions  # type: ignore[index]
    config.write_text(json.dumps(settings), "utf-8")  # JSON is YAML too
    return config


def environment_for_relay(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without whatever would beat the configuration file."""
    return {name: ours[name] for name in ours if not name.startswith(_RELAY_VARIABLES)}


def _account(name: str, now_unix_s: float) -> dict[str, object]:
    expires_unix_s = int(now_unix_s + _TOKEN_VALID_S)  # far ahead: no refresh during a run
    claims = {
        "exp": expires_unix_s,
        "https://api.openai.com/auth": {
            "chatgpt_account_id": f"made-up-{name}",
            "chatgpt_plan_type": "plus",
        },
    }
    return {
        "account_id": name,
        "access_token": _unsigned_jwt(claims),
        "refresh_token": f"made-up-{name}",
        "expiry_date": expires_unix_s * 1000,
        "chatgpt_account_id": f"made-up-{name}",
    }


def _unsigned_jwt(claims: Mapping[str, object]) -> str:
    parts = (json.dumps({"alg": "none"}).encode(), json.dumps(claims).encode(), b"signature")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
