"""Who the backend and the sign-in service are told is asking, behind a whole relay."""

from __future__ import annotations

import getpass
import platform
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio

from codexrelay import __version__
from codexrelay.backends.codex.identity import CODEX, RELAY, Name
from codexrelay.backends.codex.settings import CodexBackendSettings
from harness.simulator import Simulator
from tests.fakes.account_commands import AccountCommands
from tests.fakes.relay import ask, ask_chat, relaying
from tests.fakes.simulated import user
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from codexrelay.backends.codex.identity import Identity
    from harness.simulator import Seen

_CLIENT: Final = Name("0.172.1", "codex-tui", "codex-tui/0.172.1 (Mac OS 26.1.0; arm64) ghostty")
_OF_CODEX: Final = dict([*_CLIENT.in_front, *_CLIENT.behind])
_OF_CODEX_WITHOUT_VERSION: Final = dict(_CLIENT.behind)
_ROUTES: Final = ("/v1/responses", "/v1/chat/completions", "/v1/responses/compact")


async def everything_asked(
    folder: Path, which: Identity, headers: dict[str, str] | None = None
) -> list[Seen]:
    """Have a relay send every kind of request that it sends; return what was seen of them."""
    simulator = Simulator()
    async with relaying(folder, simulator, backend=CodexBackendSettings(identity=which)) as relay:
        simulator.expire("sim-1")
        for path in _ROUTES:
            body = ask_chat() if "chat" in path else ask(input=[user("hi")])
            answer = await relay.post(path, body, headers=headers)
            assert answer.status_code == 200, answer.text
        await relay.http.get("/v1/models")
        with trio.fail_after(20):
            await simulator.wait_until(lambda: any("/models" in s.path for s in simulator.seen))
        assert relay.refreshes
        return list(simulator.seen)


def name_in(seen: Seen) -> Name:
    return Name(
        seen.header("version"), seen.header("originator") or "", seen.header("user-agent") or ""
    )


def paths(seen: list[Seen]) -> set[str]:
    return {one.path.rpartition("/")[2].partition("?")[0] for one in seen}


@pytest.mark.parametrize(
    ("which", "headers", "turns", "own"),
    [
        ("codex", None, CODEX, CODEX),
        ("codex", _OF_CODEX, CODEX, CODEX),
        ("relay", None, RELAY, RELAY),
        ("relay", _OF_CODEX, RELAY, RELAY),
        ("client", None, CODEX, CODEX),
        ("client", {"user-agent": "opencode/1.17.4"}, CODEX, CODEX),
        ("client", _OF_CODEX, _CLIENT, CODEX),
        ("client", _OF_CODEX_WITHOUT_VERSION, _CLIENT, CODEX),
    ],
)
async def test_every_request_to_the_backend_names_the_one_that_its_block_says(
    tmp_path: Path,
    which: Identity,
    headers: dict[str, str] | None,
    turns: Name,
    own: Name,
) -> None:
    seen = await everything_asked(tmp_path, which, headers)
    backend = [one for one in seen if "/oauth/" not in one.path]
    assert paths(backend) == {"responses", "compact", "models"}
    for one in backend:
        assert name_in(one) == (own if "/models" in one.path else turns), one.path
        assert len(dict(one.headers)) == len(one.headers), "no header is sent twice"


@pytest.mark.parametrize("which", ["codex", "relay", "client"])
async def test_the_sign_in_service_is_told_the_relays_own_name(
    tmp_path: Path, which: Identity
) -> None:
    seen = await everything_asked(tmp_path, which, _OF_CODEX)
    [refresh] = [one for one in seen if "/oauth/" in one.path]
    assert name_in(refresh) == Name(None, "", f"codexrelay/{__version__}")


@pytest.mark.parametrize("which", ["codex", "relay"])
async def test_nothing_of_this_machine_shows_upstream(tmp_path: Path, which: Identity) -> None:
    seen = await everything_asked(tmp_path, which, _OF_CODEX)
    told = "\n".join(f"{name}: {value}" for one in seen for name, value in one.headers).lower()
    private = {
        socket.gethostname(),
        platform.node(),
        getpass.getuser(),
        str(Path.cwd()),
        str(Path.home()),
        str(tmp_path),
        platform.release(),
        platform.version(),
        platform.platform(),
        platform.python_version(),
        sys.executable,
        "python",
        "httpx",
        "trio",
        "linux",
        "darwin",
        "mac os",
        "windows",
    }
    # A short name of a host or a person may be a part of any word.
    assert [word for word in private if len(word) > 3 and word.lower() in told] == []


@pytest.mark.parametrize(
    ("which", "agent"),
    [("codex", CODEX.user_agent), ("relay", RELAY.user_agent), ("client", CODEX.user_agent)],
)
async def test_the_question_for_the_quota_names_the_same(
    tmp_path: Path, which: Identity, agent: str
) -> None:
    clock = WallClock()
    simulator = Simulator(wall_clock=clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        commands = AccountCommands(folder=tmp_path, simulator=simulator, clock=clock)
        simulator.write_store(commands.store)
        config = tmp_path / "own.yaml"
        config.write_text(
            f"backends:\n  openai_codex:\n    identity: {which}\n"
            f"    api_base_url: {simulator.api_base_url}\n"
            "    extra:\n      codex:\n        managed_oauth:\n"
            f"          storage_path: {commands.store}\n"
        )
        result = await commands.run_beside("--config", str(config), "limits")
        assert result.exit_code == 0, result.output
        nursery.cancel_scope.cancel()
    [usage] = [one for one in simulator.seen if one.path.endswith("/usage")]
    assert usage.header("user-agent") == agent
