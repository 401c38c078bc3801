"""What a client sees when something goes wrong: exactly one error, in a form that it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import trio
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from codexrelay.backends.codex.settings import BudgetSettings
from codexrelay.config.settings import ServerSettings
from codexrelay.protocol import sse
from codexrelay.protocol.raw import parse_object
from codexrelay.relay import climb
from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.accounts import some_accounts
from harness.simulator.faults import AT_REQUESTS
from tests.fakes.chat_client import ChatClient
from tests.fakes.relay import ask, ask_chat, relaying

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.relay import LiveRelay

_TERMINAL: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "error"}
)
_HELLO: Final = "Hello from the simulated backend."
_ERROR_KEYS: Final = {"message", "type", "code", "param"}


@attrs.frozen
class Told:
    """An error as the client is told it."""

    status: int
    code: str | None
    #: Part of the message.
    message: str


#: Before any output: an HTTP error in every case.
BEFORE: Final[Mapping[str, Told]] = {
    "429": Told(429, "usage_limit_reached", "free again in 1 h"),
    "limit_event": Told(429, "usage_limit_reached", "free again in 1 h"),
    "429short": Told(429, "usage_limit_reached", "free again in"),
    "429plain": Told(429, "rate_limit_exceeded", "Please try again in 2s."),
    "throttle_event": Told(429, "rate_limit_exceeded", "Please try again in 2s."),
    "no_codex": Told(403, None, "upgrade to Plus"),
    "deactivated": Told(403, "deactivated_workspace", "this account is deactivated"),
    "401": Told(401, "token_expired", "authentication token is expired"),
    "400": Told(400, None, "Instructions are not valid"),
    "403html": Told(403, None, "the backend answered 403 with a web page: 403 Forbidden"),
    "500": Told(500, "server_error", "An error occurred while processing your request."),
    "503": Told(503, "server_is_overloaded", "currently overloaded"),
    "failed_early": Told(503, "server_is_overloaded", "currently overloaded"),
    "error_early": Told(503, "server_is_overloaded", "currently overloaded"),
    "drop_early": Told(502, "upstream_connection_error", "the backend broke before it answered"),
    "reset_early": Told(502, "upstream_connection_error", "the backend broke before it answered"),
    "reset_sending": Told(502, "upstream_connection_error", "the backend broke before it answered"),
    "drop_created": Told(502, "upstream_connection_error", "the connection to the backend broke"),
    "hang_early": Told(504, "upstream_timeout_headers", "budgets.headers_s"),
    "hang_first": Told(504, "upstream_timeout_first_event", "budgets.first_event_s"),
}
#: After the first output: the terminal event of a stream, else an HTTP error.
WITHIN: Final[Mapping[str, Told]] = {
    "failed": Told(502, "server_error", "An error occurred while processing your request."),
    "error_event": Told(502, "server_error", "An error occurred while processing your request."),
    "drop": Told(502, "upstream_connection_error", "the connection to the backend broke"),
    "cut": Told(502, "upstream_connection_error", "the connection to the backend broke"),
    "eof": Told(502, "upstream_stream_incomplete", "ended before its terminal event"),
    "hang": Told(504, "upstream_timeout_silence", "budgets.silence_s"),
}
#: Ends one way or the other: what cannot be read may stand in a part that nobody needs.
GARBAGE: Final = "garbage"
#: Shapes of a good answer that real clients choke on, and what is large.
MENDED: Final = ("no_usage", "no_output", "oversized")
#: What comes behind the terminal event of a stream, which is handed on to a client of HTTP.
LATE: Final = "late"

#: Short for the three that hang, long enough for a busy machine in the others.
_SHORT: Final = {
    "hang_early": BudgetSettings(headers_s=0.1),
    "hang_first": BudgetSettings(first_event_s=0.1),
    "hang": BudgetSettings(silence_s=0.5),
}


def test_every_fault_of_a_request_has_its_row() -> None:
    assert {*BEFORE, *WITHIN, GARBAGE, LATE, *MENDED} == AT_REQUESTS


async def everyway(relay: LiveRelay, text: str) -> dict[str, httpx.Response]:
    """Ask the same in both protocols, streamed and whole, at once."""
    answers: dict[str, httpx.Response] = {}

    async def one(name: str, path: str, body: JsonObject) -> None:
        answers[name] = await relay.post(path, body)

    async with trio.open_nursery() as nursery:
        for stream in (True, False):
            way = "streamed" if stream else "whole"
            responses, chat = ask(text, stream=stream), ask_chat(text, stream=stream)
            nursery.start_soon(one, f"responses {way}", "/v1/responses", responses)
            nursery.start_soon(one, f"chat {way}", "/v1/chat/completions", chat)
    return answers


def assert_http_error(answer: httpx.Response, told: Told) -> None:
    assert answer.status_code == told.status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) >= _ERROR_KEYS
    assert (error["code"], told.message in error["message"]) == (told.code, True), error


def terminal_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the one terminal event, which must be the last one."""
    assert answer.status_code == 200, answer.text
    assert answer.content.endswith(b"\n\n")
    events = [event for raw in sse.split(answer.content) if (event := sse.read(raw)) is not None]
    last = events[-1]
    assert [event.name for event in events if event.name in _TERMINAL] == [last.name]
    return parse_object(last.data)


def code_in(terminal: dict[str, Any]) -> str:
    """Return the code of a terminal event: the SDK knows none of ours, so they stand beside."""
    error = terminal["response"]["error"] if "response" in terminal else terminal["error"]
    code: str = error.get("relay_code", error["code"])
    return code


def chat_stream_of(answer: httpx.Response) -> ChatClient:
    assert answer.status_code == 200, answer.text
    client = ChatClient()
    client.read(answer.content)
    return client


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no turn rest for an account that was asked too fast."""
    monkeypatch.setattr(climb, "MAX_REST_S", 0.0)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("fault", BEFORE)
async def test_a_fault_before_any_output_is_one_http_error(tmp_path: Path, fault: str) -> None:
    budgets = _SHORT.get(fault, BudgetSettings())
    async with relaying(tmp_path, budgets=budgets) as relay:
        answers = await everyway(relay, f"[sim fault={fault}]")
    for answer in answers.values():
        assert_http_error(answer, BEFORE[fault])


@pytest.mark.parametrize("fault", WITHIN)
async def test_a_fault_after_the_first_output_ends_a_stream_with_one_terminal_event(
    tmp_path: Path, fault: str
) -> None:
    told, budgets = WITHIN[fault], _SHORT.get(fault, BudgetSettings())
    async with relaying(tmp_path, budgets=budgets) as relay:
        answers = await everyway(relay, f"[sim fault={fault}]")
        assert len(relay.asked) == len(answers), "something was tried again after its output"
    terminal = terminal_of(answers["responses streamed"])
    error = terminal["response"]["error"] if "response" in terminal else terminal["error"]
    assert code_in(terminal) == told.code
    assert told.message in error["message"]
    chat = chat_stream_of(answers["chat streamed"])
    assert chat.content, "the client keeps what it was given"
    assert chat.finish_reason is None
    assert chat.error is not None
    assert set(chat.error) >= _ERROR_KEYS
    assert (chat.error["code"], told.message in chat.error["message"]) == (told.code, True)
    for way in ("responses whole", "chat whole"):
        assert_http_error(answers[way], told)


async def test_garbage_in_a_stream_leaves_no_client_with_two_endings_or_none(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as relay:
        answers = await everyway(relay, f"[sim fault={GARBAGE}]")
    assert terminal_of(answers["responses streamed"])["type"] in _TERMINAL
    assert answers["responses whole"].status_code in (200, 502)
    chat = chat_stream_of(answers["chat streamed"])
    assert chat.finish_reason is None
    assert chat.error is not None
    assert "no JSON object" in chat.error["message"]
    assert_http_error(
        answers["chat whole"], Told(502, "upstream_connection_error", "no JSON object")
    )


@pytest.mark.parametrize("fault", MENDED)
async def test_what_clients_choke_on_is_mended(tmp_path: Path, fault: str) -> None:
    async with relaying(tmp_path) as relay:
        answers = await everyway(relay, f"[sim fault={fault}]")
    streamed = terminal_of(answers["responses streamed"])["response"]
    for response in (streamed, answers["responses whole"].json()):
        valid = Response.model_validate(response, strict=True)
        assert valid.output_text == _HELLO
        assert valid.usage is not None
    chat = chat_stream_of(answers["chat streamed"])
    assert (chat.content, chat.finish_reason, chat.done) == (_HELLO, "stop", True)
    completion = ChatCompletion.model_validate(answers["chat whole"].json(), strict=True)
    assert completion.choices[0].message.content == _HELLO


@pytest.mark.parametrize("expired", [True, False], ids=["expired before", "refused as expired"])
async def test_a_token_that_is_not_good_any_more_is_refreshed_once_and_unseen(
    tmp_path: Path, expired: bool
) -> None:
    simulator = Simulator(accounts=(SimulatedAccount("work", expired=expired),))
    async with relaying(tmp_path, simulator) as relay:
        simulator.expire("work")
        answers = await everyway(relay, "hello")
        assert {answer.status_code for answer in answers.values()} == {200}
        assert len(relay.refreshes) == 1
        refused = [seen for seen in relay.asked if seen.status == 401]
    assert (refused == []) is expired


async def test_a_401_is_repaired_unseen_with_exactly_one_refresh(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        relay.simulator.queue_faults("401")
        answer = await relay.post("/v1/responses", ask())
        assert terminal_of(answer)["type"] == "response.completed"
        assert [seen.status for seen in relay.asked] == [401, 200]
        [refresh] = relay.refreshes
        assert isinstance(refresh.body, dict)
        assert refresh.body["refresh_reason"] == "unauthorized_recovery"


async def test_an_account_whose_tokens_are_withdrawn_is_left_for_another(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator) as relay:
        simulator.revoke("sim-1")
        answers = [await relay.post("/v1/responses", ask()) for _ in range(3)]
        assert [terminal_of(answer)["type"] for answer in answers] == ["response.completed"] * 3
        served = [seen.account for seen in relay.asked if seen.status == 200]
    assert served == ["sim-2"] * 3


async def test_the_last_account_that_must_sign_in_again_is_named(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        relay.simulator.revoke("sim-1")
        answer = await relay.post("/v1/responses", ask())
    assert answer.status_code == 401
    assert "account sim-1 must sign in again" in answer.json()["error"]["message"]


@pytest.mark.parametrize("fault", ["500", "503", "drop_early", "failed_early", "error_early"])
async def test_a_passing_failure_of_the_backend_is_tried_once_more_unseen(
    tmp_path: Path, fault: str
) -> None:
    async with relaying(tmp_path) as relay:
        relay.simulator.queue_faults(fault)
        answer = await relay.post("/v1/responses", ask())
        assert len(relay.asked) == 2
    assert terminal_of(answer)["type"] == "response.completed"


async def test_a_lasting_failure_is_tried_twice_and_then_kept(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask("[sim fault=500]"))
        assert len(relay.asked) == 2
    assert_http_error(answer, BEFORE["500"])
    assert answer.json()["error"]["type"] == "server_error"


async def test_a_limited_account_gives_way_to_another_unseen(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator) as relay:
        simulator.limit("sim-1")
        answers = [await relay.post("/v1/responses", ask()) for _ in range(3)]
        assert [terminal_of(answer)["type"] for answer in answers] == ["response.completed"] * 3
        assert [seen.account for seen in relay.asked if seen.status == 429] == ["sim-1"]


async def test_a_429_says_when_to_come_back_and_no_upstream_call_is_made_meanwhile(
    tmp_path: Path,
) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator) as relay:
        simulator.limit("sim-1", resets_in_s=7200)
        simulator.limit("sim-2", resets_in_s=1800)
        await relay.post("/v1/responses", ask())
        calls = len(relay.asked)
        answer = await relay.post("/v1/responses", ask())
        assert len(relay.asked) == calls == 2
        now_unix_s = simulator.wall_clock()
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "15", "clients obey it in silence: never long"
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert error["type"] == error["code"] == "usage_limit_reached"
    assert error["plan_type"] == "plus"
    assert "30 min" in error["message"]
    assert error["resets_at"] == pytest.approx(now_unix_s + 1800, abs=30)
    assert error["resets_in_seconds"] == pytest.approx(1800, abs=30)


@pytest.mark.usefixtures("restless")
async def test_upstreams_own_retry_after_is_kept(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask("[sim fault=429plain]"))
    assert answer.headers["retry-after"] == "2"


async def test_a_stream_that_was_shown_life_is_told_its_failure_as_an_event(
    tmp_path: Path,
) -> None:
    server, budgets = ServerSettings(keep_alive_s=0.02), BudgetSettings(headers_s=0.5)
    async with relaying(tmp_path, server=server, budgets=budgets) as relay:
        answers = await everyway(relay, "[sim fault=hang_early]")
    streamed, chat = answers["responses streamed"], answers["chat streamed"]
    assert streamed.content.startswith(b": keep-alive\n\n")
    terminal = terminal_of(streamed)
    assert terminal["type"] == "response.failed"
    assert code_in(terminal) == "upstream_timeout_headers"
    assert chat.content.startswith(b":")
    failed = chat_stream_of(chat)
    assert failed.error is not None
    assert failed.error["code"] == "upstream_timeout_headers"
    assert failed.finish_reason is None
    for way in ("responses whole", "chat whole"):
        assert_http_error(answers[way], BEFORE["hang_early"])


async def test_the_whole_turn_has_a_budget_too(tmp_path: Path) -> None:
    # Shown life, so that on a slow machine too the stream is open when the budget runs out.
    server, budgets = ServerSettings(keep_alive_s=0.02), BudgetSettings(turn_s=0.5)
    async with relaying(tmp_path, server=server, budgets=budgets) as relay:
        answers = await everyway(relay, "[sim fault=hang]")
    terminal = terminal_of(answers["responses streamed"])
    assert code_in(terminal) == "upstream_timeout_turn"
    assert "budgets.turn_s" in terminal["response"]["error"]["message"]
    assert_http_error(answers["chat whole"], Told(504, "upstream_timeout_turn", "turn_s"))


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/responses", {"model": None}, "model"),
        ("/v1/responses", {"model": 5}, "model"),
        ("/v1/responses", {"input": None}, "input"),
        ("/v1/responses", {"input": 5}, "input"),
        ("/v1/responses", {"input": ["x"]}, "input[0]"),
        ("/v1/responses", {"stream": "yes"}, "stream"),
        ("/v1/responses", {"tools": {}}, "tools"),
        ("/v1/responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("/v1/responses/compact", {"model": None}, "model"),
        ("/v1/responses/compact", {"input": None}, "input"),
        ("/v1/chat/completions", {"model": None}, "model"),
        ("/v1/chat/completions", {"messages": None}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": ["x"]}, "messages[0]"),
        ("/v1/chat/completions", {"n": 2}, "n"),
        ("/v1/chat/completions", {"stream": "yes"}, "stream"),
    ],
)
async def test_a_request_at_fault_is_told_where(
    tmp_path: Path, path: str, change: JsonObject, param: str
) -> None:
    body = (ask_chat() if "chat" in path else ask()) | change
    body = {name: value for name, value in body.items() if value is not None}
    async with relaying(tmp_path) as relay:
        answer = await relay.post(path, body)
        assert relay.asked == []
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"model":"\xff"}'], ids=repr
)
async def test_a_body_that_is_no_json_object_is_a_400(tmp_path: Path, content: bytes) -> None:
    async with relaying(tmp_path) as relay:
        for path in ("/v1/responses", "/v1/chat/completions", "/v1/responses/compact"):
            answer = await relay.http.post(path, content=content)
            assert_http_error(answer, Told(400, "invalid_json", "JSON"))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/v1/embeddings", "/v2/responses"])
async def test_an_unknown_path_is_a_404_in_the_openai_shape(
    tmp_path: Path, path: str, method: str
) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.request(method, path)
    assert_http_error(answer, Told(404, "not_found", "/v1/models"))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/responses", "POST"),
        ("DELETE", "/v1/responses", "POST"),
        ("OPTIONS", "/v1/responses", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("GET", "/v1/responses/compact", "POST"),
        ("POST", "/v1/models", "GET"),
    ],
)
async def test_a_wrong_method_is_a_405_that_names_the_right_one(
    tmp_path: Path, method: str, path: str, allowed: str
) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.request(method, path)
    assert_http_error(answer, Told(405, "method_not_allowed", allowed))
    assert allowed in answer.headers["allow"]
