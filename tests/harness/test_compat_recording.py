"""What `compat --record` keeps of a request, and how it listens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
import zstandard

from codexrelay.protocol.raw import dump
from harness.compat.recording import (
    MARKS,
    Stable,
    Tap,
    prompt_for,
    steady,
    without_texts,
)
from harness.simulator import Simulator
from harness.simulator.arrival import HttpRequest
from tests.fakes.no_tls import NO_TLS
from tests.fakes.simulated import request, signed_in_headers, user

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

UUID: Final = "01a20317-e2c0-7991-a4e3-a316f011f49a"
STAND_IN: Final = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"description": "Runs."}, {"description": "<text: 5 characters>"}),
        ({"type": "text", "text": "Be terse."}, {"type": "text", "text": "<text: 9 characters>"}),
        ({"text": {"verbosity": "low"}}, {"text": {"verbosity": "low"}}),
        ({"note": "n" * 65}, {"note": "<text: 65 characters>"}),
        ({"model": "gpt-5.5"}, {"model": "gpt-5.5"}),
        ({"content": prompt_for(MARKS[0])}, {"content": prompt_for(MARKS[0])}),
        ({"content": f'"{prompt_for(MARKS[1])}"'}, {"content": f'"{prompt_for(MARKS[1])}"'}),
        ({"output": f"{MARKS[0]}\n"}, {"output": f"{MARKS[0]}\n"}),
        ({"output": '{"pid": 7}'}, {"output": "<text: 10 characters>"}),
        ({"arguments": '{"command":"ls"}'}, {"arguments": '{"command":"ls"}'}),
        ({"turn_started_at_unix_ms": 1795348228286}, {"turn_started_at_unix_ms": 0}),
        ({"create_time": 1795817795.68}, {"create_time": 0}),
        ({"maximum": 9007199254740991}, ...),
        ({"max_tokens": 32000, "strict": False, "n": None}, ...),
    ],
)
def test_texts_go_and_shapes_stay(value: JsonObject, kept: JsonObject) -> None:
    assert without_texts(value, Stable()) == (value if kept is ... else kept)


def test_an_id_has_one_stand_in_wherever_it_stands() -> None:
    stable = Stable(home="/tmp/run-1/home")
    body: JsonObject = {
        "session": UUID,
        "id": f"msg_{UUID}",
        "window": f"{UUID}:0",
        "call_id": "call_fed363251dfe404e9b855a0a",
        "again": "call_fed363251dfe404e9b855a0a",
        "other": "call_00000000000000000000ffff",
        "encrypted_content": "gAAAAABstub65db4995136144c3b4aa7ffe7f9e9976",
        "inside": dump({"cwd": "/tmp/run-1/home/project", "session": UUID}).decode(),
        "url": "http://127.0.0.1:35387/v1",
    }
    kept = without_texts(body, stable)
    assert kept == {
        "session": STAND_IN,
        "id": f"msg_{STAND_IN}",
        "window": f"{STAND_IN}:0",
        "call_id": "call_000000000000000000000002",
        "again": "call_000000000000000000000002",
        "other": "call_000000000000000000000003",
        "encrypted_content": "gAAAAencrypted0004",
        "inside": f'{{"cwd":"/home/user/project","session":"{STAND_IN}"}}',
        "url": "http://127.0.0.1:8787/v1",
    }


def test_two_runs_leave_the_same_behind() -> None:
    def run(session: str, folder: str) -> Json:
        sent: JsonObject = {"session": session, "cwd": f"{folder}/project", "text": "a day"}
        return without_texts(sent, Stable(home=folder))

    assert run(UUID, "/tmp/a/home") == run(UUID.replace("a", "b"), "/tmp/b/home")


def test_the_order_does_not_depend_on_luck() -> None:
    def post(body: JsonObject) -> HttpRequest:
        return HttpRequest("POST", "/v1/responses", (), dump(body))

    tool: JsonObject = {"type": "function", "name": "bash"}
    title, task = post({"n": "title"}), post({"n": "task", "tools": [tool]})
    more = post({"n": "more", "tools": [tool]})
    models = [HttpRequest("GET", "/v1/models?a=1", (("n", str(n)),), b"") for n in range(2)]
    for sent in ([task, title, models[0], more], [models[0], title, task, more, models[1]]):
        assert steady(sent) == [models[0], title, task, more]


async def test_the_tap_hears_what_passes_and_changes_nothing() -> None:
    simulator = Simulator()
    async with trio.open_nursery() as nursery:
        port = (await nursery.start(simulator.serve)).rpartition(":")[2]
        tap = Tap(int(port))
        url = await nursery.start(tap.serve)
        packed = zstandard.ZstdCompressor().compress(dump(request(user("hello"))))
        headers = signed_in_headers(simulator, simulator.accounts[0].name)
        with trio.fail_after(60):
            async with httpx.AsyncClient(base_url=url, trust_env=False, verify=NO_TLS) as http:
                for encoding, content in (
                    ({}, dump(request(user("hello")))),
                    ({"Content-Encoding": "zstd"}, packed),
                ):
                    answer = await http.post(
                        "/backend-api/codex/responses", content=content, headers=headers | encoding
                    )
                    assert b"response.completed" in answer.content
        nursery.cancel_scope.cancel()
    first, second = tap.requests
    assert first.method == "POST"
    assert first.target == "/backend-api/codex/responses"
    assert dict(first.headers)["chatgpt-account-id"] == headers["chatgpt-account-id"]
    assert json.loads(first.body) == request(user("hello"))
    assert ("Content-Encoding", "zstd") in second.headers
    assert second.body == packed


async def test_a_refused_websocket_does_not_deafen_the_tap() -> None:
    simulator = Simulator()
    upgrade = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    async with trio.open_nursery() as nursery:
        port = (await nursery.start(simulator.serve)).rpartition(":")[2]
        tap = Tap(int(port))
        tap_port = (await nursery.start(tap.serve)).rpartition(":")[2]
        with trio.fail_after(60):
            async with await trio.open_tcp_stream("127.0.0.1", int(tap_port)) as stream:
                await stream.send_all(upgrade)
                await stream.receive_some()
                await stream.send_all(b"GET /y HTTP/1.1\r\nhost: a\r\n\r\n")
                while len(tap.requests) < 2:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert [heard.target for heard in tap.requests] == ["/x", "/y"]
