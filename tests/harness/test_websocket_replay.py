"""WebSockets recorded and replayed, on trio's virtual clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs
import pytest
import trio
import trio.testing
import trio_websocket

from codexrelay.backends.websocket import BROKEN, Closed, FrameStream
from harness.cassettes import document
from harness.cassettes.model import About, Cassette, Frame, Interaction
from harness.cassettes.performance import performance_of
from harness.faults.plan import Plan
from harness.recording.frames import RecordedFrames
from harness.recording.tape import Tape
from harness.replay.frames import FrameScript, ReplayedFrames
from harness.replay.ledger import Ledger
from harness.replay.pace import Pace
from harness.replay.server import ReplayServer
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.trio_frames import TrioFrames
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from harness.replay.server import Change

PATH = "/backend-api/codex/responses"
URI = f"http://openai-codex{PATH}"

Scripted: TypeAlias = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]


async def echo(socket: trio_websocket.WebSocketConnection) -> None:
    """Answer two messages, each after a while, with two; then close."""
    for number in range(2):
        asked = await socket.get_message()
        await trio.sleep(2)
        await socket.send_message(f"{number}: {asked!r}")
        await trio.sleep(30)
        await socket.send_message(b"\x00\xff")
    await socket.aclose(1012, "restarting")


@attrs.define
class Talk:
    """What a client got, when, and how it ended."""

    got: list[str | bytes] = attrs.field(factory=list)
    at_s: list[float] = attrs.field(factory=list)
    code: int | None = None
    reason: str = ""


async def converse(
    frames: FrameStream, sends: tuple[str | bytes, ...] = ("ask", b"more"), *, leave_s: float = 1e6
) -> Talk:
    """Send each message when two have come for the one before; return what came until the end."""
    talk, began_s = Talk(), trio.current_time()
    try:
        with trio.move_on_after(leave_s):
            for message in sends:
                await frames.send(message)
                for _ in range(2):
                    talk.got.append(await frames.receive())
                    talk.at_s.append(trio.current_time() - began_s)
            await frames.receive()
    except Closed as closed:
        talk.code, talk.reason = closed.code, closed.reason
    return talk


async def serve_script(script: Scripted, stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        await script(await request.accept())
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


async def recorded(
    script: Scripted, sends: tuple[str | bytes, ...] = ("ask", b"more"), *, leave_s: float = 1e6
) -> tuple[Talk, Interaction]:
    """Return a conversation with a scripted server, and its recording as a cassette keeps it."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_script, script, theirs)
        socket = await trio_websocket.wrap_client_stream(nursery, ours, "x", PATH)
        tape = Tape(
            track="upstream", number=1, began_at_s=0, method="GET", uri=URI, request_headers=()
        )
        tape.head(101, "Switching Protocols", ())
        frames = RecordedFrames(TrioFrames(socket), tape)
        talk = await converse(frames, sends, leave_s=leave_s)
        await frames.aclose()
        nursery.cancel_scope.cancel()
    cassette = Cassette(about=About(origin="authored"), interactions=(tape.taken().interaction(),))
    return talk, document.parse(document.dump(cassette), folder=None).interactions[0]


async def replayed(
    interaction: Interaction,
    sends: tuple[str | bytes, ...] = ("ask", b"more"),
    *,
    pace: str = "1",
    leave_s: float = 1e6,
    faults: tuple[str, ...] = (),
    max_message_bytes: int = 2**20,
) -> tuple[Talk, ReplayServer]:
    """Return the same conversation with a replay of it, over a connection in memory."""
    cassette = Cassette(about=About(origin="authored"), interactions=(interaction,))
    ledger = Ledger.of({"one": cassette})
    change: Change = Plan.parse(faults).change
    server = ReplayServer(ledger=ledger, pace=Pace.parse(pace), change=change)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as outer:
        outer.start_soon(server.serve_connection, theirs)
        async with ours, trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery, ours, "x", PATH, max_message_size=max_message_bytes
            )
            frames = TrioFrames(socket)
            talk = await converse(frames, sends, leave_s=leave_s)
            await frames.aclose()
            nursery.cancel_scope.cancel()  # its reader may wait for ever
    return talk, server


@in_virtual_time
async def test_a_recording_is_replayed_message_by_message_and_moment_by_moment() -> None:
    talk, interaction = await recorded(echo)

    again, server = await replayed(interaction)

    assert talk.got == ["0: 'ask'", b"\x00\xff", "1: b'more'", b"\x00\xff"]
    assert (talk.code, talk.reason) == (1012, "restarting")
    assert again == talk
    assert again.at_s == [2, 32, 34, 64]
    assert server.ledger.problems() == ()


@in_virtual_time
async def test_a_recording_notes_directions_kinds_and_times() -> None:
    _, interaction = await recorded(echo)

    stream = interaction.response.stream
    assert interaction.response.status == 101
    assert [(frame.at_s, frame.direction, frame.kind, frame.code) for frame in stream.frames] == [
        (0, "out", "text", None),
        (2, "in", "text", None),
        (32, "in", "bin", None),
        (32, "out", "bin", None),
        (34, "in", "text", None),
        (64, "in", "bin", None),
        (64, "in", "close", 1012),
    ]
    assert (stream.end, stream.frames[-1].data) == ("eof", b"restarting")


@in_virtual_time
async def test_a_connection_in_memory_replays_as_a_socket_does() -> None:
    talk, interaction = await recorded(echo)

    script = FrameScript(performance_of(interaction))

    assert await converse(ReplayedFrames(script)) == talk
    assert script.is_played
    assert script.unheard == 0


@in_virtual_time
async def test_a_slow_client_is_answered_so_long_after_it_asked() -> None:
    _, interaction = await recorded(echo)
    frames = ReplayedFrames(FrameScript(performance_of(interaction)))

    await trio.sleep(100)
    talk = await converse(frames)

    assert talk.at_s == [2, 32, 34, 64]


@pytest.mark.parametrize(("pace", "at_s"), [("2", [1, 16, 17, 32]), ("instant", [0, 0, 0, 0])])
def test_the_pace_is_kept(pace: str, at_s: list[float]) -> None:
    @in_virtual_time
    async def run() -> None:
        _, interaction = await recorded(echo)
        again, _ = await replayed(interaction, pace=pace)
        assert again.at_s == at_s

    run()


@pytest.mark.parametrize("code", [1000, 1009, 1011, 1012, 4000])
def test_a_close_code_comes_again(code: int) -> None:
    async def close(socket: trio_websocket.WebSocketConnection) -> None:
        await socket.get_message()
        await socket.aclose(code, "words")

    @in_virtual_time
    async def run() -> None:
        talk, interaction = await recorded(close)
        again, _ = await replayed(interaction)
        in_memory = await converse(ReplayedFrames(FrameScript(performance_of(interaction))))
        assert talk.code == again.code == in_memory.code == code
        assert talk.reason == again.reason == in_memory.reason == "words"

    run()


@in_virtual_time
async def test_a_connection_that_broke_breaks_again() -> None:
    async def leave(socket: trio_websocket.WebSocketConnection) -> None:
        await socket.send_message(str(await socket.get_message()))

    talk, interaction = await recorded(leave)
    again, _ = await replayed(interaction)

    assert interaction.response.stream.end == "reset"
    assert talk.code == again.code == BROKEN
    assert again.got == ["ask"]


@in_virtual_time
async def test_silence_stays_silence_until_the_client_leaves() -> None:
    async def fall_silent(socket: trio_websocket.WebSocketConnection) -> None:
        await socket.send_message(str(await socket.get_message()))
        await trio.sleep_forever()

    talk, interaction = await recorded(fall_silent, leave_s=60)
    again, server = await replayed(interaction, leave_s=60)

    assert interaction.response.stream.end == "closed-by-relay"
    assert talk == again
    assert (again.got, again.code) == (["ask"], None)
    assert server.ledger.problems() == ()


@in_virtual_time
async def test_a_client_that_closes_is_answered() -> None:
    async def wait(socket: trio_websocket.WebSocketConnection) -> None:
        with pytest.raises(trio_websocket.ConnectionClosed):
            await socket.get_message()

    async def close(frames: FrameStream) -> None:
        await frames.close(1001, "going")

    tape = Tape(track="upstream", number=1, began_at_s=0, method="GET", uri=URI, request_headers=())
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_script, wait, theirs)
        socket = await trio_websocket.wrap_client_stream(nursery, ours, "x", PATH)
        await close(RecordedFrames(TrioFrames(socket), tape))

    assert tape.frames == [Frame(at_s=0, direction="out", kind="close", data=b"going", code=1001)]
    assert tape.ended == "eof"


@in_virtual_time
async def test_another_message_closes_with_what_the_recorded_one_was() -> None:
    _, interaction = await recorded(echo)

    again, server = await replayed(interaction, ("something else",))

    assert again.code == 1008
    assert again.reason.startswith("message 1 is not the recorded one")
    assert "something else" not in again.got
    problems = server.ledger.problems()
    assert "message 1 is not the recorded one" in problems[0]
    assert problems[1].endswith("recorded messages that never came: 2")


@in_virtual_time
async def test_json_may_differ_in_ids_and_in_nothing_else() -> None:
    async def answer(socket: trio_websocket.WebSocketConnection) -> None:
        await socket.get_message()
        await socket.aclose(1000)

    def create(text: str, id_: str) -> str:
        return f'{{"type":"response.create","prompt_cache_key":"{id_}","input":"{text}"}}'

    ours, theirs = trio.testing.memory_stream_pair()
    tape = Tape(track="upstream", number=1, began_at_s=0, method="GET", uri=URI, request_headers=())
    tape.head(101, "Switching Protocols", ())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_script, answer, theirs)
        socket = await trio_websocket.wrap_client_stream(nursery, ours, "x", PATH)
        await converse(RecordedFrames(TrioFrames(socket), tape), (create("hello", "one"),))
        nursery.cancel_scope.cancel()
    interaction = tape.taken().interaction()

    same, _ = await replayed(interaction, (create("hello", "two"),))
    other, _ = await replayed(interaction, (create("goodbye", "one"),))

    assert same.code == 1000
    assert other.code == 1008
    assert 'input: recorded "hello" asked "goodbye"' in other.reason


@pytest.mark.parametrize(
    ("fault", "got", "code"),
    [
        ("close@f1=1011", 1, 1011),
        ("cut@f1+rst", 1, BROKEN),
        ("cut@f1", 1, BROKEN),
        ("half-open@f3", 3, None),
        ("oversize@f1=2MiB", 0, 1009),
    ],
)
def test_faults_meet_messages(fault: str, got: int, code: int | None) -> None:
    @in_virtual_time
    async def run() -> None:
        _, interaction = await recorded(echo)
        again, _ = await replayed(interaction, faults=(fault,), leave_s=1000)
        assert (len(again.got), again.code) == (got, code)

    run()


@pytest.mark.parametrize(
    ("fault", "at_s"),
    [
        ("delay@f1=10s", [2, 42, 44, 74]),
        ("delay@f2=10s", [2, 32, 44, 74]),
        ("stall@f2=1.5s", [2, 32, 34, 64]),
        ("stall@f2=60s", [2, 32, 92, 92]),
    ],
)
def test_messages_come_later_than_they_came(fault: str, at_s: list[float]) -> None:
    @in_virtual_time
    async def run() -> None:
        _, interaction = await recorded(echo)
        again, _ = await replayed(interaction, faults=(fault,))
        assert again.at_s == at_s

    run()


@in_virtual_time
async def test_a_message_of_no_letters_is_a_text_as_well() -> None:
    _, interaction = await recorded(echo, sends=("", "more"))

    again, server = await replayed(interaction, ("", "more"))

    assert again.code == 1012
    assert server.ledger.problems() == ()


@in_virtual_time
async def test_a_text_in_no_utf_8_can_be_said() -> None:
    _, interaction = await recorded(echo)

    again, _ = await replayed(interaction, faults=("corrupt@f1",))

    assert again.got == []
    assert again.code == 1007


@in_virtual_time
async def test_a_handshake_can_be_refused() -> None:
    _, interaction = await recorded(echo)

    with pytest.raises(ExceptionGroup) as caught:
        await replayed(interaction, faults=("status=429",))

    (error,) = leaves(caught.value)
    assert isinstance(error, trio_websocket.ConnectionRejected)
    assert (error.status_code, dict(error.headers)[b"retry-after"]) == (429, b"2")


async def test_over_a_socket_a_reset_is_one() -> None:
    _, interaction = await in_memory_recording()
    cassette = Cassette(about=About(origin="authored"), interactions=(interaction,))
    server = ReplayServer(
        ledger=Ledger.of({"one": cassette}),
        pace=Pace.parse("instant"),
        change=Plan.parse(["cut@f1+rst"]).change,
    )
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(server.serve)
            stream = await trio.open_tcp_stream("127.0.0.1", int(base_url.rpartition(":")[2]))
            socket = await trio_websocket.wrap_client_stream(nursery, stream, "x", PATH)
            await socket.send_message("ask")
            assert await socket.get_message() == "0: 'ask'"
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await socket.get_message()
            await stream.aclose()
            nursery.cancel_scope.cancel()

    assert caught.value.reason is not None
    assert caught.value.reason.code == BROKEN


async def in_memory_recording() -> tuple[Talk, Interaction]:
    """Return a conversation that takes no time, and its recording."""

    async def answer(socket: trio_websocket.WebSocketConnection) -> None:
        await socket.send_message(f"0: {await socket.get_message()!r}")

    return await recorded(answer)


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
