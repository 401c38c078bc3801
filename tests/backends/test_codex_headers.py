"""What goes upstream in headers, seen by the backend behind a whole relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio

from codexrelay.backends.codex import headers, identity
from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.protocol.raw import get_list, is_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes import responses_events as events
from tests.fakes.relay import ask, ask_chat, post_bytes, relaying
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.simulated import request, user

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

_THREAD: Final = "01a20317-e2c0-7991-a4e3-a316f011f49a"
#: As Codex CLI 0.169 sends them to a custom provider; metadata shortened.
_CODEX: Final = {
    "x-codex-beta-features": "remote_compaction_v2,another",
    "x-codex-window-id": f"{_THREAD}:0",
    "x-codex-turn-metadata": '{"request_kind":"turn"}',
    "x-client-request-id": _THREAD,
    "session-id": _THREAD,
    "thread-id": _THREAD,
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)",
}
_STATE: Final = "x-codex-turn-state"
_TOOL: Final[JsonObject] = {
    "type": "function",
    "name": "bash",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
}


def follow_up(answer: httpx.Response, *before: Json) -> list[Json]:
    """Return the input of a tool follow-up: what came before, the answer's items, and results."""
    output = get_list(answer.json(), "output")
    results: list[Json] = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "hi"}
        for item in output
        if is_object(item) and "call_id" in item
    ]
    return [*before, *output, *results]


async def post(
    relay: LiveRelay, *items: Json, headers: dict[str, str] | None = None
) -> httpx.Response:
    body = request(tools=[_TOOL]) | {"input": list(items), "stream": False, "prompt_cache_key": "p"}
    answer = await relay.post("/v1/responses", body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def states(relay: LiveRelay) -> list[str | None]:
    """Return the turn state that each request brought to the backend."""
    return [seen.header(_STATE) for seen in relay.asked]


async def test_the_backend_sees_what_codex_sends_in_its_order(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        await relay.post("/v1/responses", ask(prompt_cache_key="p-1"))
        [seen] = relay.asked
        account = relay.simulator.account("sim-1")
        token = relay.simulator.tokens("sim-1").access_token
    hop = {"host", "content-length"}
    assert [pair for pair in seen.headers if pair[0] not in hop] == [
        ("version", identity.VERSION),
        ("x-codex-beta-features", identity.BETA_FEATURES),
        ("x-client-request-id", "p-1"),
        ("session-id", "p-1"),
        ("thread-id", "p-1"),
        ("accept", "text/event-stream"),
        ("accept-encoding", "identity"),
        ("content-type", "application/json"),
        ("authorization", f"Bearer {token}"),
        ("chatgpt-account-id", account.account_id),
        ("originator", identity.ORIGINATOR),
        ("user-agent", identity.USER_AGENT),
    ]


async def test_nothing_of_the_client_that_is_its_own_goes_upstream(tmp_path: Path) -> None:
    private = {
        "authorization": "Bearer sk-of-the-client",
        "chatgpt-account-id": "account-of-the-client",
        "cookie": "session=of-the-client",
        "openai-platform": "org-of-the-client",
        "openai-organization": "org-of-the-client",
        "openai-beta": "responses=of-the-client",
        "x-api-key": "key-of-the-client",
        "x-forwarded-for": "address-of-the-client",
        "x-stainless-os": "os-of-the-client",
        "x-session-id": "session-of-the-client",
        "user-agent": "agent-of-the-client/1",
        "originator": "originator-of-the-client",
    }
    async with relaying(tmp_path) as relay:
        for path, body in (("/v1/responses", ask()), ("/v1/chat/completions", ask_chat())):
            await relay.post(path, body, headers=private)
        upstream = [f"{name}: {value}" for seen in relay.asked for name, value in seen.headers]
    assert upstream
    assert [line for line in upstream if "of-the-client" in line] == []


async def test_what_codex_says_for_the_backend_is_passed_on(tmp_path: Path) -> None:
    lite = {"x-openai-internal-codex-responses-lite": "true", "x-openai-subagent": "review"}
    hint = {"x-codex-routing-hint": "model=gpt-5.5", "x-codex-header-of-tomorrow": "yes"}
    async with relaying(tmp_path) as relay:
        await relay.post("/v1/responses", ask(), headers=_CODEX | lite | hint)
        [seen] = relay.asked
    sent = dict(seen.headers)
    assert len(sent) == len(seen.headers), "no header is sent twice"
    kept = {name: value for name, value in _CODEX.items() if name.startswith(("x-", "s", "t"))}
    assert sent.items() >= (kept | lite | hint).items()
    assert (sent["originator"], sent["user-agent"]) == (identity.ORIGINATOR, identity.USER_AGENT)


async def test_header_values_pass_byte_for_byte_in_both_directions(tmp_path: Path) -> None:
    asked: list[bytes] = []
    stream = events.created() + events.text("hi") + events.completed()

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        promotion = "x-codex-promo-message: für dich 👋\r\n".encode()
        await caller.send(b"HTTP/1.1 200 OK\r\n%scontent-length: " % promotion)
        await caller.send(b"%d\r\n\r\n%s" % (len(stream), stream))

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
        relay.connect() as client,
    ):
        folder = '{"workspaces":{"/home/jürgen":{}}}'.encode()
        line, rest = post_bytes("/v1/responses", ask()).split(b"\r\n", 1)
        await client.send(b"%s\r\nx-codex-turn-metadata: %s\r\n%s" % (line, folder, rest))
        head = await client.receive_until(b"\r\n\r\n")
        await client.receive_until(b"response.completed")
    assert b"x-codex-turn-metadata: %s\r\n" % folder in asked[0]
    assert "x-codex-promo-message: für dich 👋\r\n".encode() in head


async def test_requests_of_one_session_are_named_alike_and_of_others_differently(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as relay:
        for session in ("one", "one", "two"):
            headers = {"x-session-id": session}
            await relay.post("/v1/chat/completions", ask_chat(), headers=headers)
        first, again, other = relay.asked
    assert first.header("session-id") == again.header("session-id") != other.header("session-id")
    assert isinstance(first.body, dict)
    assert first.body["prompt_cache_key"] == first.header("session-id")


async def test_bearer_and_account_id_are_always_of_the_same_account(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(3))
    async with relaying(tmp_path, simulator) as relay:
        simulator.expire("sim-2")
        simulator.limit("sim-3", after=2)

        async def one(number: int) -> None:
            body = ask_chat() if number % 2 else ask()
            path = "/v1/chat/completions" if number % 2 else "/v1/responses"
            answer = await relay.post(path, body, headers={"x-session-id": f"s-{number}"})
            assert answer.status_code == 200

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(one, number)
        assert {seen.account for seen in relay.asked if seen.status == 200} == {
            account.name for account in simulator.accounts
        }
        # 403 is the backend's answer to a bearer and an account id that do not match.
        assert {seen.status for seen in relay.asked} <= {200, 401, 429}
        for seen in relay.asked:
            if seen.account is not None:
                account_id = simulator.account(seen.account).account_id
                assert seen.header("chatgpt-account-id") == account_id


# --- turn state


async def test_the_turn_state_is_echoed_until_the_next_user_message(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        first = await post(relay, user("one"))
        history = follow_up(first, user("one"))
        second = await post(relay, *history)
        history = follow_up(second, *history)
        await post(relay, *history)
        await post(relay, *history, user("two"))
    given = first.headers[_STATE]
    assert states(relay) == [None, given, given, None]


async def test_chat_clients_get_the_same_care(tmp_path: Path) -> None:
    tools: list[Json] = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]
    body = ask_chat("one", tools=tools, stream=False)
    async with relaying(tmp_path) as relay:
        first = await relay.post("/v1/chat/completions", body)
        message = first.json()["choices"][0]["message"]
        result: JsonObject = {
            "role": "tool",
            "tool_call_id": message["tool_calls"][0]["id"],
            "content": "hi",
        }
        follow = [*get_list(body, "messages"), message, result]
        await relay.post("/v1/chat/completions", body | {"messages": follow})
        again: list[Json] = [*follow, {"role": "user", "content": "two"}]
        await relay.post("/v1/chat/completions", body | {"messages": again})
        assert states(relay) == [None, first.headers[_STATE], None]


async def test_a_turn_stays_with_the_account_that_gave_its_state(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(3))
    async with relaying(tmp_path, simulator) as relay:
        first = await post(relay, user("one"))
        history = follow_up(first, user("one"))
        for _ in range(4):
            await post(relay, *history)
        assert len({seen.account for seen in relay.asked}) == 1
        assert states(relay) == [None, *[first.headers[_STATE]] * 4]


@pytest.mark.parametrize("echoes", [True, False], ids=["Codex CLI", "another client"])
async def test_a_turn_state_never_reaches_another_account(tmp_path: Path, echoes: bool) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator) as relay:
        first = await post(relay, user("one"), headers=_CODEX if echoes else None)
        given = first.headers[_STATE]
        [old] = [seen.account for seen in relay.asked]
        assert old is not None
        # Codex CLI sends the first value it was given until its turn ends, wherever that is served.
        headers = _CODEX | {_STATE: given} if echoes else None
        history = follow_up(first, user("one"))
        simulator.limit(old)
        moved = await post(relay, *history, headers=headers)
        await post(relay, *history, headers=headers)
        received: list[tuple[str | None, str | None]] = [
            (seen.account, seen.header(_STATE)) for seen in relay.asked[1:]
        ]
    [new] = {account for account, _ in received} - {old}
    assert received == [(old, given), (new, None), (new, moved.headers[_STATE])]


async def test_codex_gets_the_account_of_the_state_that_it_sends(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(3))
    async with relaying(tmp_path, simulator) as relay:
        first = await post(relay, user("one"), headers=_CODEX)
        headers = _CODEX | {_STATE: first.headers[_STATE]}
        # Its own compaction in the middle of a turn looks like a new user message.
        await post(relay, user("one"), user("summarise"), headers=headers)
        await post(relay, *follow_up(first, user("one")), headers=headers)
        assert len({seen.account for seen in relay.asked}) == 1
        assert states(relay) == [None, *[first.headers[_STATE]] * 2]


async def test_a_state_that_nobody_here_gave_is_sent_to_no_account(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        await post(relay, user("one"), headers=_CODEX | {_STATE: "of-another-life"})
    assert states(relay) == [None]


async def test_a_client_that_leaves_with_the_terminal_event_is_remembered(tmp_path: Path) -> None:
    stream = events.created() + events.text("hi") + events.completed()
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\nx-codex-turn-state: s-1\r\n")
        # More is promised than comes: the backend takes its time to end the body.
        await caller.send(b"content-length: 9999\r\n\r\n" + stream)
        await caller.left()

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
    ):
        answered: JsonObject = {"type": "reasoning", "encrypted_content": "x"}
        for items in ([user("one")], [user("one"), answered]):
            async with relay.open_turn(request(*items, prompt_cache_key="p")) as turn:
                await turn.until(b'"type":"response.completed"')
    assert [b"\r\nx-codex-turn-state: s-1\r\n" in head for head in asked] == [False, True]


def test_a_handshake_has_what_a_client_says_of_its_session_and_nothing_of_a_body() -> None:
    client = {
        "x-codex-window-id": "w:0",
        "x-codex-turn-metadata": "{}",
        "x-codex-routing-hint": "model=gpt-5.5",
        headers.LITE: "true",
        "x-openai-subagent": "review",
    }
    request = headers.request_headers(
        client, session_id="s", turn_state="t", accept="text/event-stream"
    )
    names = [name for name, _ in headers.handshake_headers(request)]
    assert names == [
        "openai-beta",
        "x-client-request-id",
        "session-id",
        "thread-id",
        "x-codex-window-id",
        "x-codex-turn-metadata",
        "x-codex-routing-hint",
        "x-openai-subagent",
        "x-codex-turn-state",
    ]
