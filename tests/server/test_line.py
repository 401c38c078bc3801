"""At most so many turns on an account at a time: the others wait in line, in order of arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import ask, eventually, relaying, with_accounts

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.relay import LiveRelay


def capped(
    folder: Path, accounts: int = 1, *, cap: int = 1, pace_s: float = 0.0
) -> AbstractAsyncContextManager[LiveRelay]:
    return relaying(
        folder,
        Simulator(accounts=some_accounts(accounts), pace_s=pace_s),
        backend=with_accounts(max_concurrent_turns=cap),
    )


async def test_three_clients_of_one_account_are_served_in_order_of_arrival(tmp_path: Path) -> None:
    served: list[str] = []

    async def client(relay: LiveRelay, text: str) -> None:
        answer = await relay.post("/v1/responses", ask(f"[sim text={text}]"))
        assert answer.status_code == 200
        assert b'"type":"response.completed"' in answer.content
        served.append(text)

    async with capped(tmp_path, pace_s=0.02) as relay:
        async with trio.open_nursery() as nursery, relay.open_turn(ask("[sim fault=hang]")) as held:
            await held.until(b"Hello")
            for number, text in enumerate(("first", "second", "third"), start=1):
                nursery.start_soon(client, relay, text)
                await eventually(lambda number=number: relay.in_line() == number)
            assert len(relay.asked) == 1
            waiting = await relay.journal("last", state="waiting")
            held.reset()
        texts = [str(seen.body) for seen in relay.asked[1:]]
        assert [text.split("[sim text=")[1].split("]")[0] for text in texts] == served
        # Only one was on the account at any time.
        ends = await relay.journal(str(waiting["request"]))
    assert served == ["first", "second", "third"]
    [passed] = waiting["waiting_for"]  # type: ignore[misc]
    assert (passed["account"], passed["why"]) == ("sim-1", "busy")
    assert passed["told"] == "account sim-1 serves as many turns as it may"
    assert ends["waiting_for"] == []
    assert ends["attempts"][0]["waited_s"] > 0  # type: ignore[index,call-overload]


async def test_an_account_never_serves_more_than_its_cap(tmp_path: Path) -> None:
    most = 0

    async def watch(relay: LiveRelay) -> None:
        nonlocal most
        while True:
            running = sum(not seen.ended for seen in relay.asked)
            most = max(most, running)
            await trio.lowlevel.checkpoint()

    async with capped(tmp_path, 2, cap=2, pace_s=0.002) as relay, trio.open_nursery() as nursery:
        nursery.start_soon(watch, relay)
        async with trio.open_nursery() as clients:
            for _ in range(12):
                clients.start_soon(relay.post, "/v1/responses", ask("[sim deltas=10]"))
        nursery.cancel_scope.cancel()
        assert {seen.status for seen in relay.asked} == {200}
        assert len(relay.asked) == 12
    assert 2 <= most <= 4


async def test_at_the_cap_another_account_is_used_first(tmp_path: Path) -> None:
    async with capped(tmp_path, 2) as relay, relay.open_turn(ask("[sim fault=hang]")) as held:
        await held.until(b"Hello")
        for _ in range(3):
            answer = await relay.post("/v1/responses", ask())
            assert answer.headers["x-codexrelay-account"] == "sim-2"


async def test_the_catalogue_can_be_had_while_every_account_is_busy(tmp_path: Path) -> None:
    async with capped(tmp_path) as relay, relay.open_turn(ask("[sim fault=hang]")) as held:
        await held.until(b"Hello")
        answer = await relay.http.get("/v1/models")
        assert answer.status_code == 200
        assert any("/models" in seen.path for seen in relay.simulator.seen)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact"])
async def test_a_client_that_leaves_the_line_leaves_nothing_behind(
    tmp_path: Path, path: str
) -> None:
    body: JsonObject = {"model": "gpt-5.5", "input": [{"role": "user", "content": "hello"}]}
    async with capped(tmp_path) as relay:
        async with relay.open_turn(ask("[sim fault=hang]")) as held:
            await held.until(b"Hello")
            async with relay.open_turn(body, path=path):
                await eventually(lambda: relay.in_line() == 1)
                waiting = await relay.journal("last", state="waiting")
            await eventually(lambda: relay.in_line() == 0)
            left = await relay.journal(str(waiting["request"]), state="client")
            assert (left["state"], left["attempts"]) == ("client left", [])
        await relay.until_at_rest()
        assert len(relay.asked) == 1
        assert (await relay.post("/v1/responses", ask())).status_code == 200
