"""What the simulated backend refuses, in the real one's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import zstandard

from codexrelay.protocol.raw import dump
from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.checks import UNSUPPORTED
from tests.fakes.simulated import request, signed_in_headers, simulated, user

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_HELLO: Final = user("hello")
_CALL: Final[JsonObject] = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "bash",
    "arguments": "{}",
}
_OUTPUT: Final[JsonObject] = {"type": "function_call_output", "call_id": "call_1", "output": "hi"}

DETAILS: Final[dict[str, tuple[JsonObject, str]]] = {
    "store": (request(_HELLO, store=True), "Store must be set to false"),
    "stream": (request(_HELLO, stream=False), "Stream must be set to true"),
    "input": (request(input="hello"), "Input must be a list"),
    "model": (
        request(_HELLO, model="gpt-5.1-codex"),
        "The 'gpt-5.1-codex' model is not supported when using Codex with a ChatGPT account.",
    ),
    "system message": (
        request({"role": "system", "content": "Be brief."}, _HELLO),
        "System messages are not allowed",
    ),
    "unknown fault": (request(user("[sim fault=flood]")), "No fault is called 'flood'"),
} | {
    name: (request(_HELLO) | {name: "x"}, f"Unsupported parameter: {name}") for name in UNSUPPORTED
}


@pytest.mark.parametrize(("body", "detail"), DETAILS.values(), ids=DETAILS.keys())
async def test_a_400_of_the_front_end_says_what_is_wrong(body: JsonObject, detail: str) -> None:
    async with simulated(Simulator()) as client:
        answer = await client.post(body)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


MESSAGES: Final[dict[str, tuple[JsonObject, str]]] = {
    "output without call": (
        request(_HELLO, _OUTPUT),
        "No tool call found for function call output with call_id call_1.",
    ),
    "custom output without call": (
        request(_HELLO, _CALL, _OUTPUT | {"type": "custom_tool_call_output"}),
        "No tool call found for custom tool call output with call_id call_1.",
    ),
    "call without output": (
        request(_HELLO, _CALL),
        "No tool output found for function call call_1.",
    ),
    "item reference": (
        request({"type": "item_reference", "id": "rs_1"}, _HELLO),
        "Item with id 'rs_1' not found",
    ),
}


@pytest.mark.parametrize(("body", "message"), MESSAGES.values(), ids=MESSAGES.keys())
async def test_a_400_of_the_model_service_names_the_item(body: JsonObject, message: str) -> None:
    async with simulated(Simulator()) as client:
        answer = await client.post(body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert message in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "input")


async def test_a_body_that_is_no_json_is_refused() -> None:
    async with simulated(Simulator()) as client:
        answer = await client.http.post(
            client.simulator.api_base_url + "/responses", content=b"{", headers=client.headers
        )
    assert answer.status_code == 400


async def test_a_zstd_body_without_a_size_in_its_header_is_read() -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    body = compressor.compress(dump(request(_HELLO))) + compressor.flush()
    async with simulated(Simulator()) as client:
        answer = await client.http.post(
            client.simulator.api_base_url + "/responses",
            content=body,
            headers=client.headers | {"content-encoding": "zstd"},
        )
    assert answer.status_code == 200
    assert client.simulator.seen[0].body == request(_HELLO)


async def test_a_bearer_is_needed_and_must_be_known() -> None:
    async with simulated(Simulator()) as client:
        url = client.simulator.api_base_url + "/responses"
        missing = await client.http.post(url, json=request(_HELLO))
        unknown = await client.http.post(
            url, json=request(_HELLO), headers={"authorization": "Bearer sk-not-a-key"}
        )
    assert (missing.status_code, missing.json()) == (401, {"detail": "Unauthorized"})
    assert unknown.status_code == 401
    assert unknown.json()["detail"].startswith("Could not parse your authentication token.")


async def test_the_account_header_must_match_the_bearer() -> None:
    two = (SimulatedAccount("a"), SimulatedAccount("b"))
    async with simulated(Simulator(accounts=two)) as client:
        url = client.simulator.api_base_url + "/responses"
        mixed = client.headers | {"chatgpt-account-id": two[1].account_id}
        bearer_only = {"authorization": client.headers["authorization"]}
        for headers in (mixed, bearer_only):
            answer = await client.http.post(url, json=request(_HELLO), headers=headers)
            assert answer.status_code == 403
            assert "chatgpt-account-id does not match" in answer.json()["detail"]
        own = await client.http.post(
            url, json=request(_HELLO), headers=signed_in_headers(client.simulator, "b")
        )
    assert own.status_code == 200
    assert [seen.account for seen in client.simulator.seen] == ["a", "a", "b"]


@pytest.mark.parametrize("prefix", ["", "/v1", "/backend-api/codex", "/any/other/v1"])
async def test_the_model_endpoint_is_found_below_any_base_url(prefix: str) -> None:
    async with simulated(Simulator()) as client:
        answer = await client.http.post(
            f"{client.simulator.base_url}{prefix}/responses",
            json=request(_HELLO),
            headers=client.headers,
        )
    assert answer.status_code == 200


async def test_a_websocket_is_answered_426() -> None:
    async with simulated(Simulator()) as client:
        answer = await client.http.get(
            client.simulator.api_base_url + "/responses",
            headers=client.headers | {"connection": "Upgrade", "upgrade": "websocket"},
        )
        after = await client.post(request(_HELLO))
    assert (answer.status_code, after.status_code) == (426, 200)


async def test_other_paths_and_methods_are_not_found() -> None:
    async with simulated(Simulator()) as client:
        unknown = await client.http.get(client.simulator.base_url + "/backend-api/ps/mcp")
        wrong = await client.http.delete(client.simulator.base_url + "/oauth/token")
    assert (unknown.status_code, wrong.status_code) == (404, 405)


_NO_CHATGPT: Final = "model is not supported when using Codex with a ChatGPT account."


@pytest.mark.parametrize(
    ("account", "model", "status"),
    [
        (SimulatedAccount("a", plan="free"), "gpt-6.1-sol", 400),
        (SimulatedAccount("a", plan="free"), "gpt-5.5", 200),
        (SimulatedAccount("a", plan="free"), "gpt-5.4", 400),
        (SimulatedAccount("a", plan="pro"), "gpt-6.1-sol", 200),
        (SimulatedAccount("a", plan="pro"), "gpt-5.4", 200),
        (SimulatedAccount("a"), "gpt-6.1-sol", 200),
        (SimulatedAccount("a", plan="pro", lacks={"gpt-5.4"}), "gpt-5.4", 400),
    ],
)
async def test_a_model_is_refused_to_accounts_that_do_not_have_it(
    account: SimulatedAccount, model: str, status: int
) -> None:
    simulator = Simulator(accounts=(account,), plans={"gpt-5.4": ("plus", "pro")})
    async with simulated(simulator) as client:
        answers = [await client.post(request(_HELLO, model=model))]
        unary: JsonObject = {"model": model, "input": [_HELLO]}
        answers.append(await client.post(unary, path="/responses/compact"))
    assert [answer.status_code for answer in answers] == [status, status]
    if status == 400:
        assert answers[0].json() == {"detail": f"The '{model}' {_NO_CHATGPT}"}


def test_plans_of_an_unknown_model_are_refused() -> None:
    with pytest.raises(ValueError, match="no model is called 'gpt-2'"):
        Simulator(plans={"gpt-2": ("free",)})
