"""A relay's upstream WebSockets that are a cassette: handshakes, sockets told apart, faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.websocket import (
    BROKEN,
    Closed,
    Handshake,
    Opened,
    Refused,
    Unreachable,
)
from codexrelay.protocol.raw import dump
from harness.cassettes.model import Frame
from harness.faults.plan import Plan
from harness.replay.dial import ReplayDial
from harness.replay.ledger import Ledger
from harness.replay.pace import Pace
from tests.fakes.replayed import BACKEND, cassette, ledger_of, recorded
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.backends.websocket import FrameStream
    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import End, Interaction

INSTANT = Pace.parse("instant")
ASK = Handshake(
    url=httpx.URL("https://chatgpt.example/backend-api/codex/responses"),
    headers=(("originator", "codex_exec"),),
    within_s=10.0,
)
UPGRADE = (("upgrade", "websocket"), ("connection", "Upgrade"))


def out(at_s: float, **message: Json) -> Frame:
    return Frame(at_s=at_s, direction="out", kind="text", data=dump(message))


def came(at_s: float, **message: Json) -> Frame:
    return Frame(at_s=at_s, direction="in", kind="text", data=dump(message))


def closed(at_s: float, code: int) -> Frame:
    return Frame(at_s=at_s, direction="in", kind="close", code=code)


def socket(
    *frames: Frame, number: int = 1, end: End = "closed-by-relay", status: int | None = 101
) -> Interaction:
    """Return a recorded handshake that was answered after a second, and its frames."""
    one = recorded(
        number,
        method="GET",
        chunks=() if status in (None, 101) else ((1.0, b'{"error":{}}'),),
        status=status,
        end=end,
        headers=(("openai-model", "gpt-5.5"), ("sec-websocket-accept", "x")),
        asked_headers=UPGRADE,
    )
    stream = attrs.evolve(one.response.stream, frames=frames)
    return attrs.evolve(one, response=attrs.evolve(one.response, stream=stream, head_at_s=1.0))


def turn(name: str, at_s: float = 2.0) -> tuple[Frame, ...]:
    """Return a turn as it passes: asked, begun a second later, and done another one later."""
    return (
        out(at_s, type="response.create", input=name, prompt_cache_key=name),
        came(at_s + 1, type="response.created", response={"id": f"resp_{name}0000000000"}),
        came(at_s + 2, type="response.completed", response={"id": f"resp_{name}0000000000"}),
    )


def asked(name: str, **more: Json) -> str:
    message: Json = {"type": "response.create", "input": name, "prompt_cache_key": "other", **more}
    return dump(message).decode()


async def events(frames: FrameStream, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        message = await frames.receive()
        found.append(message if isinstance(message, bytes) else message.encode())
    return found


@in_virtual_time
async def test_a_handshake_is_answered_as_and_when_it_was() -> None:
    ledger = ledger_of(socket(*turn("one")))
    async with ReplayDial(ledger)(ASK) as answer:
        assert isinstance(answer, Opened)
        assert answer.headers == {"openai-model": "gpt-5.5"}
        assert trio.current_time() == 1.0
        await answer.frames.send(asked("one"))
        assert await events(answer.frames, 2) == [frame.data for frame in turn("one")[1:]]
        assert trio.current_time() == 3.0
    assert ledger.problems() == ()


@in_virtual_time
async def test_a_refused_handshake_is_refused_again() -> None:
    ledger = ledger_of(socket(status=429, end="eof"), socket(*turn("one"), number=2))
    dial = ReplayDial(ledger)
    async with dial(ASK) as refused:
        assert isinstance(refused, Refused)
        assert (refused.status, refused.body) == (429, b'{"error":{}}')
    async with dial(ASK) as opened:
        assert isinstance(opened, Opened)
        await opened.frames.send(asked("one"))
    assert ledger.problems() == ()


@in_virtual_time
async def test_where_nobody_was_nobody_is() -> None:
    async with ReplayDial(ledger_of(socket(status=None, end="reset")))(ASK) as answer:
        assert isinstance(answer, Unreachable)
    assert trio.current_time() == 1.0


@in_virtual_time
async def test_a_handshake_without_any_answer_ends_with_its_own_patience() -> None:
    async with ReplayDial(ledger_of(socket(status=None, end="idle")))(ASK) as answer:
        assert isinstance(answer, Unreachable)
    assert trio.current_time() == 10.0


@in_virtual_time
async def test_a_cassette_without_websockets_sends_the_relay_to_http() -> None:
    told: list[str] = []
    ledger = ledger_of(recorded(asked={"model": "m"}))
    async with ReplayDial(ledger, on_miss=told.append)(ASK) as answer:
        assert isinstance(answer, Refused)
        assert answer.status == 426
    assert "no WebSocket to /backend-api/codex/responses was recorded" in told[0]
    assert not [line for line in ledger.problems() if "WEBSOCKET" in line]


@in_virtual_time
async def test_one_websocket_more_than_recorded_is_a_violation() -> None:
    ledger = ledger_of(socket(*turn("one")))
    dial = ReplayDial(ledger)
    async with dial(ASK) as first, dial(ASK) as second:
        assert isinstance(first, Opened)
        await first.frames.send(asked("one"))
        assert isinstance(second, Refused)
        assert second.status == 426
    (problem,) = ledger.problems()
    assert problem.startswith("WEBSOCKET /backend-api/codex/responses was recorded once")


@in_virtual_time
async def test_sockets_are_told_apart_by_their_first_message_and_not_by_their_order() -> None:
    ledger = ledger_of(*(socket(*turn(name), number=at) for at, name in enumerate("abcd", 1)))
    dial = ReplayDial(ledger)
    async with dial(ASK) as one, dial(ASK) as two, dial(ASK) as three:
        assert isinstance(one, Opened)
        assert isinstance(two, Opened)
        assert isinstance(three, Opened)
        for opened, name in ((one, "b"), (two, "d"), (three, "a")):
            await opened.frames.send(asked(name))
            assert await events(opened.frames, 2) == [frame.data for frame in turn(name)[1:]]
    async with dial(ASK) as four:
        assert isinstance(four, Opened)
        await four.frames.send(asked("c"))
        assert len(await events(four.frames, 2)) == 2
    assert ledger.problems() == ()


@in_virtual_time
async def test_a_first_message_of_none_is_a_miss_of_the_first() -> None:
    told: list[str] = []
    ledger = ledger_of(socket(*turn("one")))
    async with ReplayDial(ledger, on_miss=told.append)(ASK) as answer:
        assert isinstance(answer, Opened)
        await answer.frames.send(asked("two"))
        assert answer.frames.closed is not None
        assert answer.frames.closed.code == 1008
    assert 'input: recorded "one" asked "two"' in told[0]
    assert ledger.problems()[1].endswith("recorded messages that never came: 1")


@in_virtual_time
async def test_a_message_goes_on_from_the_response_that_was_told_and_from_no_other() -> None:
    follow_up = out(9.0, type="response.create", input="x", previous_response_id="resp_a0000000000")
    ends = came(10.0, type="response.completed", response={"id": "resp_b0000000000"})
    for named, is_right in (("resp_a0000000000", True), ("resp_c0000000000", False)):
        ledger = ledger_of(socket(*turn("a"), follow_up, ends))
        async with ReplayDial(ledger)(ASK) as answer:
            assert isinstance(answer, Opened)
            await answer.frames.send(asked("a"))
            await events(answer.frames, 2)
            message: Json = {"type": "response.create", "input": "x", "previous_response_id": named}
            await answer.frames.send(dump(message).decode())
            assert (answer.frames.closed is None) is is_right


@in_virtual_time
async def test_an_id_that_was_told_elsewhere_may_be_another_one() -> None:
    first = out(2.0, type="response.create", input="x", previous_response_id="resp_a0000000000")
    ledger = ledger_of(socket(first))
    async with ReplayDial(ledger)(ASK) as answer:
        assert isinstance(answer, Opened)
        message: Json = {"type": "response.create", "input": "x", "previous_response_id": "resp_9z"}
        await answer.frames.send(dump(message).decode())
        assert answer.frames.closed is None


@in_virtual_time
async def test_texts_that_are_filler_fit_what_the_program_says() -> None:
    filled = out(2.0, type="response.create", instructions="xxx xxx 0!", stream=True)
    ledger = Ledger.of({"one": cassette(socket(filled))}, filled=True)
    async with ReplayDial(ledger)(ASK) as answer:
        assert isinstance(answer, Opened)
        message: Json = {"type": "response.create", "instructions": "Fix all 3!", "stream": True}
        await answer.frames.send(dump(message).decode())
        assert answer.frames.closed is None
    assert ledger.problems() == ()


@in_virtual_time
async def test_what_is_due_is_ready_at_once() -> None:
    ledger = ledger_of(socket(*turn("one")))
    async with ReplayDial(ledger)(ASK) as answer:
        assert isinstance(answer, Opened)
        frames = answer.frames
        await frames.send(asked("one"))
        assert list(frames.ready()) == []
        await trio.sleep(1)
        assert list(frames.ready()) == [turn("one")[1].data.decode()]
        await trio.sleep(1)
        assert list(frames.ready()) == [turn("one")[2].data.decode()]
        assert frames.closed is None


@in_virtual_time
async def test_one_that_is_closed_while_idle_shows_it() -> None:
    ledger = ledger_of(socket(*turn("one"), closed(30.0, 1001), end="eof"))
    async with ReplayDial(ledger)(ASK) as answer:
        assert isinstance(answer, Opened)
        await answer.frames.send(asked("one"))
        await events(answer.frames, 2)
        assert answer.frames.closed is None
        await answer.frames.ping()
        await trio.sleep(26)
        assert answer.frames.closed is not None
        assert answer.frames.closed.code == 1001
        with pytest.raises(Closed):
            await answer.frames.send(asked("two"))
    assert ledger.problems() == ()


@pytest.mark.parametrize(
    ("fault", "count", "code"),
    [
        ("close@f1=1011", 1, 1011),
        ("cut@f1+rst", 1, BROKEN),
        ("oversize@f2=2MiB", 1, 1009),
        ("corrupt@f2", 1, 1007),
        ("half-open@f1", 1, None),
        ("delay@f1=30s", 2, None),
    ],
)
def test_faults_meet_a_relays_websocket(fault: str, count: int, code: int | None) -> None:
    @in_virtual_time
    async def run() -> None:
        ledger = ledger_of(socket(*turn("one")))
        change = Plan.parse([fault]).change
        dial = ReplayDial(ledger, change=change, max_message_bytes=2**20)
        got, told = 0, None
        async with dial(ASK) as answer:
            assert isinstance(answer, Opened)
            await answer.frames.send(asked("one"))
            try:
                with trio.move_on_after(100):
                    while True:
                        await answer.frames.receive()
                        got += 1
            except Closed as closed:
                told = closed.code
        assert (got, told) == (count, code)

    run()


@in_virtual_time
async def test_one_that_is_half_open_answers_no_ping() -> None:
    change = Plan.parse(["half-open@f2"]).change
    async with ReplayDial(ledger_of(socket(*turn("one"))), change=change)(ASK) as answer:
        assert isinstance(answer, Opened)
        await answer.frames.send(asked("one"))
        await answer.frames.ping()
        await events(answer.frames, 2)
        with trio.move_on_after(20) as patience:
            await answer.frames.ping()
    assert patience.cancelled_caught


@in_virtual_time
async def test_a_fault_of_the_second_websocket_meets_the_second_whatever_it_plays() -> None:
    ledger = ledger_of(socket(*turn("a")), socket(*turn("b"), number=2))
    dial = ReplayDial(ledger, pace=INSTANT, change=Plan.parse(["2:close@f1=1011"]).change)
    got = []
    for name in ("b", "a"):
        async with dial(ASK) as answer:
            assert isinstance(answer, Opened)
            await answer.frames.send(asked(name))
            with trio.move_on_after(1):
                try:
                    await events(answer.frames, 2)
                    got.append("whole")
                except Closed as closed:
                    got.append(str(closed.code))
    assert got == ["whole", "1011"]


@in_virtual_time
async def test_a_handshake_can_be_refused_by_a_fault() -> None:
    change = Plan.parse(["1:status=503"]).change
    async with ReplayDial(ledger_of(socket(*turn("a"))), change=change)(ASK) as answer:
        assert isinstance(answer, Refused)
        assert answer.status == 503


@in_virtual_time
async def test_a_loose_replay_plays_a_socket_again() -> None:
    ledger = ledger_of(socket(*turn("a")), socket(*turn("b"), number=2), repeat=True)
    dial = ReplayDial(ledger, pace=INSTANT)
    for name in "abaab":
        async with dial(ASK) as answer:
            assert isinstance(answer, Opened)
            await answer.frames.send(asked(name))
            assert await events(answer.frames, 2) == [frame.data for frame in turn(name)[1:]]
    assert ledger.problems() == ()


def test_the_uri_that_was_recorded_is_compared_by_its_path_alone() -> None:
    assert httpx.URL(BACKEND).path == "/backend-api/codex"
