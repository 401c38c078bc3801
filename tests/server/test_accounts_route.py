"""What a client is told when the backend, or a file, turns its accounts down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs
import orjson
import pytest

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.protocol.raw import JsonObject, dump
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import LiveRelay, ask, relaying
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

_UNAUTHORIZED: JsonObject = {"detail": "Unauthorized"}
_NO_CODEX: JsonObject = {
    "error": {"message": "Your plan has no Codex.", "code": "usage_not_included", "type": "plan"}
}
_COMPLETED = b"event: response.completed\ndata: " + dump(
    {
        "type": "response.completed",
        "response": {"id": "resp_1", "status": "completed", "output": []},
    }
)


@attrs.define(eq=False)
class Backend:
    """Answers every request alike; in health it completes each response."""

    status: int = 200
    body: JsonObject = attrs.field(factory=dict)
    asked: int = 0

    async def __call__(self, caller: Caller) -> None:
        while await caller.request():
            self.asked += 1
            body = _COMPLETED + b"\n\n" if self.status == 200 else dump(self.body)
            kind = "text/event-stream" if self.status == 200 else "application/json"
            head = f"HTTP/1.1 {self.status} X\r\ncontent-type: {kind}\r\n"
            await caller.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


@attrs.frozen
class Scene:
    """A relay in front of a backend of few words."""

    relay: LiveRelay
    backend: Backend
    clock: WallClock

    async def ask(self) -> httpx.Response:
        return await self.relay.post("/v1/responses", ask())

    async def states(self) -> list[str]:
        """The word of `/healthz` for each account."""
        accounts = (await self.relay.http.get("/healthz")).json()["accounts"]
        return [account["state"] for account in accounts]

    def stored(self) -> list[bool]:
        """The `needs_reauth` of each account file."""
        paths = self.relay.store.glob("sim-?.json")
        return [orjson.loads(path.read_bytes())["needs_reauth"] for path in paths]


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture(params=[1, 3], ids=["one account", "three accounts"])
async def scene(
    tmp_path: Path, clock: WallClock, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    simulator = Simulator(accounts=some_accounts(request.param), wall_clock=clock)
    backend = Backend()
    async with (
        serving(backend) as upstream,
        relaying(
            tmp_path, simulator, backend=CodexBackendSettings(api_base_url=upstream.url)
        ) as relay,
    ):
        yield Scene(relay, backend, clock)


def error(answer: httpx.Response) -> JsonObject:
    told: JsonObject = answer.json()["error"]
    return told


async def test_an_outage_in_which_every_token_is_refused_ends_when_the_backend_is_well(
    scene: Scene,
) -> None:
    accounts = len(scene.stored())
    scene.backend.status, scene.backend.body = 401, _UNAUTHORIZED
    answers = [await scene.ask() for _ in range(6)]
    assert {answer.status_code for answer in answers} == {401}
    assert len(scene.relay.refreshes) == 2 * accounts
    assert scene.stored() == [False] * accounts
    assert await scene.states() == ["set_aside"] * accounts
    scene.backend.status = 200
    assert (await scene.ask()).status_code == 401  # not yet
    scene.clock.now_unix_s += 60
    assert (await scene.ask()).status_code == 200
    assert await scene.states() == ["valid"] * accounts
    assert scene.stored() == [False] * accounts


async def test_a_refused_turn_is_told_what_the_backend_said_and_later_ones_also_until_when(
    scene: Scene,
) -> None:
    scene.backend.status, scene.backend.body = 401, _UNAUTHORIZED
    first, *later = [await scene.ask() for _ in range(4)]
    assert error(first) == {
        "message": "Unauthorized",
        "type": "authentication_error",
        "code": None,
        "param": None,
    }
    asked = scene.backend.asked
    told = error(later[-1])
    assert (told["type"], told["code"]) == ("authentication_error", None)
    each = (
        r"account sim-\d was turned away with 401 authentication_error and is tried again in 60 s"
    )
    command = r"`codexrelay accounts update sim-\d`"
    assert re.fullmatch(
        rf"Unauthorized \({each}(; {each})*\); "
        rf"if tokens go on being refused: {command}( or {command})*",
        str(told["message"]),
    )
    await scene.ask()
    assert scene.backend.asked == asked


async def test_a_plan_without_codex_is_told_as_such_however_often_one_asks(scene: Scene) -> None:
    scene.backend.status, scene.backend.body = 403, _NO_CODEX
    first, second = await scene.ask(), await scene.ask()
    assert (first.status_code, second.status_code) == (403, 403)
    assert error(first)["message"] == "Your plan has no Codex."
    for answer in (first, second):
        assert (error(answer)["type"], error(answer)["code"]) == ("plan", "usage_not_included")
    assert str(error(second)["message"]).startswith(
        "Your plan has no Codex. (account sim-1 was turned away with 403 usage_not_included "
        "and is tried again in 1 h"
    )
    assert scene.backend.asked == len(scene.stored())
    scene.backend.status = 200
    scene.clock.now_unix_s += 3600
    assert (await scene.ask()).status_code == 200


@pytest.mark.parametrize("field", ["access_token", "refresh_token", "chatgpt_account_id"])
@pytest.mark.parametrize(
    "value", ["s3cret\r\nx: y", "s3cr\u00e9t"], ids=["line break", "another alphabet"]
)
async def test_what_cannot_be_sent_is_a_problem_of_the_file_by_name_and_never_quoted(
    tmp_path: Path, field: str, value: str
) -> None:
    async with relaying(tmp_path) as relay:
        path = relay.store / "sim-1.json"
        path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {field: value}))
        await relay.services.relay.instances.members[0].lender.rescan()
        answer = await relay.post("/v1/responses", ask())
        assert relay.asked == []
    assert answer.status_code == 401
    assert f"sim-1.json: {field}: must be printable ASCII" in str(error(answer)["message"])
    assert "s3c" not in answer.text
