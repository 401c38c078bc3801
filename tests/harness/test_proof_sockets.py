"""Both ends of the proof's WebSockets, wired to each other without a relay between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs
import pytest
import trio
import trio.testing

from codexrelay.protocol.raw import parse
from harness.proof import frames, oracle, streams, wires
from harness.proof.bridges import creating
from harness.proof.client import ClientSocket, SocketHeard, ask_over_socket
from harness.proof.plays import Play, SocketPlay, performance_of_events, play_of, refusing
from harness.proof.talk import HANDSHAKE_BYTES
from harness.proof.upstream import Upstream
from harness.proof.virtual import EPOCH_UNIX_S
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.skipif(wires.UNSUPPORTED is not None, reason=str(wires.UNSUPPORTED))

_TEXT: Final = play_of(performance_of_events(streams.text()))
_CALLS: Final = play_of(performance_of_events(streams.parallel_calls()))


def over_socket(play: Play) -> SocketPlay:
    assert play.over_socket is not None
    return play.over_socket


def played(change: Callable[[SocketPlay], SocketPlay], play: Play = _TEXT) -> Play:
    return attrs.evolve(play, over_socket=change(over_socket(play)))


@attrs.define(eq=False)
class Pair:
    upstream: Upstream
    client: ClientSocket
    bearer: str

    async def ask(self, *, lingers_s: float = 0.0) -> SocketHeard:
        heard = SocketHeard()
        if not self.client.is_open:
            await self.client.open(
                heard, "/backend-api/codex/responses", authorization=f"Bearer {self.bearer}"
            )
        if self.client.is_open:
            await ask_over_socket(self.client, creating(), heard, lingers_s=lingers_s)
        return heard


@pytest.fixture
async def ends() -> AsyncIterator[Pair]:
    simulator = Simulator(accounts=some_accounts(1), wall_clock=lambda: EPOCH_UNIX_S, seed=0)
    upstream = Upstream(simulator)
    ours, theirs = wires.pair()
    signed_in = simulator.issuer.sign_in(simulator.accounts[0], now_unix_s=EPOCH_UNIX_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.serve, theirs)
        pair = Pair(upstream, ClientSocket(ours), signed_in.access_token)
        yield pair
        await pair.client.drop()
        nursery.cancel_scope.cancel()


async def test_two_turns_on_one_socket_are_two_answers(ends: Pair) -> None:
    ends.upstream.script.extend((_TEXT, _CALLS))
    for play in (_TEXT, _CALLS):
        heard = await ends.ask()
        asked = ends.upstream.turns[-1]
        await trio.testing.wait_all_tasks_blocked()
        assert bytes(asked.sent) == over_socket(play).wire
        attempt = oracle.Upstream.of(asked)
        assert oracle.judge("responses", heard.message, [attempt], streamed=True) == []
    assert [one.connection for one in ends.upstream.turns] == [1, 1]
    assert parse(ends.upstream.turns[0].body) == creating()


async def test_a_refusal_is_one_error_message_and_the_socket_goes_on(ends: Pair) -> None:
    ends.upstream.script.extend((refusing(429, {"error": {"message": "no", "type": "x"}}), _TEXT))
    assert (await ends.ask()).message.status == 429
    assert (await ends.ask()).message.whole


@pytest.mark.parametrize("at", [0, 60, HANDSHAKE_BYTES - 1])
@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_handshake_is_answered_as_far_as_the_play_says(
    ends: Pair, at: int, end: Literal["fin", "rst"]
) -> None:
    ends.upstream.script.append(played(lambda play: play.cut_handshake(at, end)))
    heard = await ends.ask()
    (hello,) = ends.upstream.handshakes
    assert (len(hello.sent), ends.client.is_open, heard.reset) == (at, False, end == "rst")
    assert not ends.upstream.turns


async def test_a_handshake_that_is_refused_is_read_as_http(ends: Pair) -> None:
    refusal = refusing(426, {"detail": "no"})
    ends.upstream.script.append(
        played(lambda play: attrs.evolve(play, handshake=lambda _: refusal))
    )
    assert (await ends.ask()).message.status == 426


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_cut_is_seen_where_it_is(ends: Pair, end: Literal["fin", "rst"]) -> None:
    whole = over_socket(_TEXT).wire
    ends.upstream.script.append(played(lambda play: play.cut(700, end)))
    heard = await ends.ask()
    (asked,) = ends.upstream.turns
    assert bytes(asked.sent) == whole[:700]
    assert (heard.reset, heard.close_code) == (end == "rst", frames.BROKEN)
    assert heard.texts == frames.texts_of(whole[:700])


async def test_a_close_frame_is_heard_with_its_code(ends: Pair) -> None:
    ends.upstream.script.append(played(lambda play: play.closed(0, 1011)))
    heard = await ends.ask()
    assert (heard.close_code, heard.texts, heard.broken) == (1011, [], None)


@pytest.mark.parametrize("leaves", ["close", "drop"])
async def test_the_backend_sees_at_once_that_its_client_leaves(
    ends: Pair, leaves: str, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0
    ends.upstream.script.append(played(lambda play: play.cut(700, "idle")))
    with trio.move_on_after(2.0):
        await ends.ask()
    if leaves == "close":
        ends.client.close_frame()
    else:
        await ends.client.drop()
    await trio.testing.wait_all_tasks_blocked()
    (asked,) = ends.upstream.turns
    assert (asked.left_at_s, asked.over_at_s) == (2.0, 2.0)
    await trio.sleep(1.0)
    assert ends.upstream.sockets == set()


@pytest.mark.parametrize(("end", "pongs"), [("idle", 1), ("half", 0)])
async def test_half_open_is_who_answers_no_ping(
    ends: Pair,
    end: Literal["idle", "half"],
    pongs: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0
    ends.upstream.script.append(played(lambda play: play.cut(0, end)))
    with trio.move_on_after(2.0):
        await ends.ask()
    stream = ends.client.stream
    await stream.send_all(frames.frame(frames.PING, b"1", masked=True))
    with trio.move_on_after(2.0) as waited:
        found = frames.FrameReader(masked=False).feed(await stream.receive_some(100))
        assert [(one.opcode, one.payload) for one in found] == [(frames.PONG, b"1")]
    assert waited.cancelled_caught != bool(pongs)


async def test_a_message_in_the_middle_of_an_answer_is_a_breach(ends: Pair) -> None:
    ends.upstream.script.append(played(lambda play: play.cut(700, "idle")))
    heard = SocketHeard()
    await ends.client.open(heard, "/responses", authorization=f"Bearer {ends.bearer}")
    await ends.client.say(creating())
    await ends.client.say(creating())
    await ends.client.listen(heard)
    assert ends.upstream.breaches == ["a message while another one is answered"]


def test_frames_do_not_depend_on_how_their_bytes_came() -> None:
    wire = b"".join(
        frames.frame(opcode, payload, masked=True)
        for opcode, payload in (
            (frames.TEXT, b"x"),
            (frames.PING, b""),
            (frames.TEXT, b"y" * 126),
            (frames.TEXT, b"z" * 70_000),
            (frames.CLOSE, b"\x03\xe8"),
        )
    )
    whole = frames.FrameReader(masked=True).feed(wire)
    reader = frames.FrameReader(masked=True)
    assert [
        one for byte in range(0, len(wire), 7) for one in reader.feed(wire[byte : byte + 7])
    ] == whole
    assert [len(one.payload) for one in whole] == [1, 0, 126, 70_000, 2]
    assert whole[-1].close_code == 1000


@pytest.mark.parametrize("wire", [b"\xc1\x00", b"\x83\x00", b"\x81\x81", b"\x09\x00", b"\x89\x7e"])
def test_what_is_no_frame_of_a_server_is_noticed(wire: bytes) -> None:
    reader = frames.FrameReader(masked=False)
    assert reader.feed(wire) == []
    assert reader.broken is not None
