"""The README's chapter "Troubleshooting": its messages are what clients, or the log, are told."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import pytest
from structlog.testing import capture_logs

from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.backends.codex.settings import CodexBackendSettings, CodexSettings, ExtraSettings
from codexrelay.config.settings import ModelsSettings, ServerSettings
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.relay import ask, ask_chat, relaying, with_accounts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.relay import LiveRelay

    Reproduce = Callable[[Path], Awaitable[str]]

README: Final = Path(__file__).parents[2] / "README.md"
#: What stands for what differs from case to case.
VARIABLE: Final = re.compile(r"\b(FOLDER|FILE|ID|WHY|TIME|MODELS?|VALUE|NAMES)\b")
CLOSED: Final = "http://127.0.0.1:9"


def messages() -> list[str]:
    """Return the messages of the chapter, each on one line."""
    text = README.read_text("utf-8")
    chapter = text.partition("\n## Troubleshooting\n")[2].partition("\n## ")[0]
    told = chapter.partition("What follows are the messages")[2]
    blocks = re.findall(r"(?:^    .*\n)+", told, re.MULTILINE)
    return [" ".join(textwrap.dedent(block).split()) for block in blocks]


def pattern(message: str) -> re.Pattern[str]:
    """Return what a message looks like, whatever stands in its variable places."""
    parts = VARIABLE.split(message)
    # Every second part is the name of a place.
    return re.compile("".join(".+" if i % 2 else re.escape(p) for i, p in enumerate(parts)))


async def told(
    relay: LiveRelay, status: int, body: JsonObject | None = None, **headers: str
) -> str:
    """Ask as a client does, and return the message of the refusal."""
    answer = await relay.post("/v1/responses", body or ask(), headers=headers)
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert isinstance(message, str)
    return message


def two() -> Simulator:
    return Simulator(accounts=[SimulatedAccount("home"), SimulatedAccount("work")])


def one(*, expired: bool = False) -> Simulator:
    return Simulator(accounts=[SimulatedAccount("home", expired=expired)])


def codex_home(folder: Path, content: bytes | None = None) -> Path:
    """Return a folder for Codex CLI's file, with the file if there is content."""
    home = folder / ".codex"
    home.mkdir()
    if content is not None:
        (home / "auth.json").write_bytes(content)
        (home / "auth.json").chmod(0o600)
    return home


def signed_in_codex(folder: Path, simulator: Simulator) -> Path:
    """Return a folder in which Codex CLI is signed in to the first account."""
    account = simulator.accounts[0]
    pair = simulator.tokens(account.name)
    tokens = {
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "account_id": account.account_id,
    }
    return codex_home(folder, orjson.dumps({"auth_mode": "chatgpt", "tokens": tokens}))


async def no_account(folder: Path) -> str:
    async with relaying(folder, signed_in=False, auth_json=codex_home(folder)) as relay:
        return await told(relay, 401)


async def dead_account(folder: Path) -> str:
    async with relaying(folder, one()) as relay:
        relay.simulator.revoke("home")
        return await told(relay, 401)


async def broken_account_file(folder: Path) -> str:
    async with relaying(folder, signed_in=False) as relay:
        relay.store.mkdir(mode=0o700)
        (relay.store / "home.json").write_text("{", "utf-8")
        (relay.store / "home.json").chmod(0o600)
        return await told(relay, 401)


async def all_left_out(folder: Path) -> str:
    async with relaying(folder, one(), backend=with_accounts(accounts=("work",))) as relay:
        return await told(relay, 401)


async def no_auth_json(folder: Path) -> str:
    home, off = codex_home(folder), with_accounts(enabled=False)
    async with relaying(folder, signed_in=False, backend=off, auth_json=home) as relay:
        return await told(relay, 401)


async def broken_auth_json(folder: Path) -> str:
    async with relaying(folder, signed_in=False, auth_json=codex_home(folder, b"{")) as relay:
        return await told(relay, 401)


async def auth_json_with_an_api_key(folder: Path) -> str:
    home = codex_home(folder, b'{"OPENAI_API_KEY": "sk-1"}')
    async with relaying(folder, signed_in=False, auth_json=home) as relay:
        return await told(relay, 401)


async def dead_auth_json(folder: Path) -> str:
    simulator = one()
    home = signed_in_codex(folder, simulator)
    async with relaying(folder, simulator, signed_in=False, auth_json=home) as relay:
        simulator.revoke("home")
        return await told(relay, 401)


async def no_sign_in_service(folder: Path) -> str:
    codex = CodexSettings(oauth_issuer=CLOSED, managed_oauth=ManagedOAuthSettings())
    backend = CodexBackendSettings(extra=ExtraSettings(codex=codex))
    async with relaying(folder, one(expired=True), backend=backend) as relay:
        return await told(relay, 503)


async def unknown_model(folder: Path) -> str:
    async with relaying(folder, two()) as relay:
        return await told(relay, 400, ask(model="gpt-9"))


async def model_of_another_plan(folder: Path) -> str:
    simulator = Simulator(accounts=[SimulatedAccount("home", plan="free")])
    async with relaying(folder, simulator) as relay:
        return await told(relay, 400, ask(model="gpt-5.6-sol"))


async def unknown_model_strictly(folder: Path) -> str:
    async with relaying(folder, models=ModelsSettings(strict=True)) as relay:
        return await told(relay, 400, ask(model="gpt-9"))


async def all_limited(folder: Path) -> str:
    async with relaying(folder, two()) as relay:
        for name in ("home", "work"):
            relay.simulator.limit(name, resets_in_s=7500)
        return await told(relay, 429)


async def one_limited(folder: Path) -> str:
    async with relaying(folder, one()) as relay:
        relay.simulator.limit("home", resets_in_s=7500)
        return await told(relay, 429)


async def auth_json_limited(folder: Path) -> str:
    simulator = one()
    home = signed_in_codex(folder, simulator)
    async with relaying(folder, simulator, signed_in=False, auth_json=home) as relay:
        simulator.limit("home", resets_in_s=7500)
        return await told(relay, 429)


async def wrong_client_key(folder: Path) -> str:
    server = ServerSettings(client_keys=("the-key-of-the-relay",))
    async with relaying(folder, server=server) as relay:
        return await told(relay, 401, authorization="Bearer another-key")


async def foreign_host(folder: Path) -> str:
    async with relaying(folder) as relay:
        return await told(relay, 403, host="relay.example:8787")


async def misspelt_capability(folder: Path) -> str:
    async with relaying(folder) as relay:
        body = ask(codex_capabilities={"prompt_mode": "custom"})
        return await told(relay, 400, body)


async def misspelt_parameter(folder: Path) -> str:
    async with relaying(folder) as relay:
        return await told(relay, 400, ask(model="gpt-5.5?effort=high"))


async def no_backend(folder: Path) -> str:
    backend = CodexBackendSettings(api_base_url=f"{CLOSED}/codex")
    async with relaying(folder, one(), backend=backend) as relay:
        return await told(relay, 502)


async def complaint_of_droid(folder: Path) -> str:
    """Droid 0.225.2 over chat: its complaint is a user message behind the system message."""
    complaint = (
        'Error: Your custom model "gpt-5.5" appears to be an OpenAI model, but is configured with '
        'provider "generic-chat-completion-api".'
    )
    body = ask_chat("hello")
    assert isinstance(body["messages"], list)
    body["messages"][:0] = [
        {"role": "system", "content": "You are Droid."},
        {"role": "user", "content": complaint},
    ]
    headers = {"user-agent": "factory-cli/0.225.2", "openai-platform": "org-1"}
    with capture_logs() as lines:
        async with relaying(folder) as relay:
            answer = await relay.post("/v1/chat/completions", body, headers=headers)
    assert answer.status_code == 200
    (said,) = [line["event"] for line in lines if "Droid" in line["event"]]
    assert isinstance(said, str)
    return said


#: How a message begins -> what makes the relay say it.
REPRODUCED: Final[Mapping[str, Reproduce]] = {
    "no Codex account to use: no account file": no_account,
    "account ID must sign in again": dead_account,
    "no Codex account to use: FILE: file: is not a JSON object (WHY). Mend": broken_account_file,
    "no Codex account to use: managed_oauth.accounts": all_left_out,
    "no Codex account to use: no auth.json": no_auth_json,
    "no Codex account to use: FILE: file: is not a JSON object (WHY); sign in": broken_auth_json,
    "no Codex account to use: FILE: tokens: there is an API key": auth_json_with_an_api_key,
    "account codex-cli must sign in again": dead_auth_json,
    "account ID cannot be refreshed": no_sign_in_service,
    "The backend's catalogue has no model": unknown_model,
    "The model 'MODEL' is not offered by the plan of any account": model_of_another_plan,
    "The model 'MODEL' does not exist": unknown_model_strictly,
    "The usage limit has been reached for every account": all_limited,
    "The usage limit has been reached; account ID": one_limited,
    "The usage limit has been reached; it is free again": auth_json_limited,
    "a client key is needed": wrong_client_key,
    "codexrelay answers to loopback names only": foreign_host,
    "`codex_capabilities.prompt_mode`": misspelt_capability,
    "a model has no parameter": misspelt_parameter,
    "the backend cannot be reached": no_backend,
    "Droid puts an error text": complaint_of_droid,
}


@pytest.mark.parametrize("message", messages(), ids=lambda message: message[:40])
async def test_a_message_of_the_chapter_is_what_is_really_said(
    message: str, tmp_path: Path
) -> None:
    begins = [how for begin, how in REPRODUCED.items() if message.startswith(begin)]
    assert len(begins) == 1, f"nothing here reproduces: {message}"
    said = await begins[0](tmp_path)
    assert pattern(message).fullmatch(said), said


@pytest.mark.parametrize("begin", REPRODUCED)
def test_the_chapter_has_every_message_that_is_reproduced(begin: str) -> None:
    assert [message for message in messages() if message.startswith(begin)] != []


def test_a_place_that_differs_is_marked_and_nothing_else_is() -> None:
    assert pattern("account ID is (WHY)").fullmatch("account work is (gone: long ago)")
    assert not pattern("account ID is (WHY)").fullmatch("account work was (gone)")
    assert not pattern("IDs").fullmatch("works")
