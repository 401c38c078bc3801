"""WebSockets that are recorded upstream: handshakes, messages, ends, and no secret."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.websocket import (
    BROKEN,
    Closed,
    Handshake,
    Message,
    Opened,
    Refused,
    Unreachable,
)
from codexrelay.protocol.raw import dump
from harness.cassettes import file
from harness.cassettes.model import Cassette, Frame, Interaction
from harness.recording.frames import RecordedFrames
from harness.recording.tape import Tape
from harness.recording.upstream_side import recorded_dial
from harness.secrecy.scanning import scan_path
from harness.secrecy.secrets import Secrets
from tests.fakes.recorded import NAME, recorder_into
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from harness.cassettes.model import Headers

URL = "http://127.0.0.1:1/backend-api/codex/responses"
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzb21lYm9keS1lbHNlIn0.c2lnbmF0dXJlLW9mLWl0"
KEY = "sk-proj-Zq8vT3mXr5LwKd72HnBcYp0sGfJu4aEi"
HEADERS = (
    ("authorization", f"Bearer {TOKEN}"),
    ("chatgpt-account-id", "7d1f0c52-9c1b-4c57-8a63-6f1e2b3c4d5e"),
    ("originator", "codex_exec"),
)


@attrs.define(eq=False)
class Scripted:
    """A WebSocket that answers what it is told to, and notes what it was told."""

    answers: list[Message | Closed]
    heard: list[Message] = attrs.field(factory=list)
    pings: int = 0
    gone: Closed | None = None

    async def send(self, data: Message) -> None:
        if self.gone is not None:
            raise self.gone
        self.heard.append(data)

    async def receive(self) -> Message:
        answer = self.answers.pop(0)
        if isinstance(answer, Closed):
            self.gone = answer
            raise answer
        return answer

    def ready(self) -> Sequence[Message]:
        ready = [one for one in self.answers if not isinstance(one, Closed)]
        self.answers = self.answers[len(ready) :]
        return ready

    async def ping(self) -> None:
        self.pings += 1

    @property
    def closed(self) -> Closed | None:
        return self.gone

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.gone = Closed(code, reason)

    async def aclose(self) -> None:
        self.gone = self.gone or Closed(BROKEN)


@attrs.define(eq=False)
class Dialled:
    """A dial that gives one answer."""

    answer: Opened | Refused | Unreachable
    after_s: float = 0

    @asynccontextmanager
    async def __call__(self, handshake: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        await trio.sleep(self.after_s)
        yield self.answer


@attrs.define(eq=False)
class Shelf:
    """Takes the one tape that is begun."""

    tape: Tape = attrs.field(init=False)

    def relay_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        self.tape = Tape(
            track="upstream",
            number=1,
            began_at_s=0,
            method=method,
            uri=uri,
            request_headers=headers,
        )
        return self.tape


def opened(*answers: Message | Closed) -> tuple[Dialled, Scripted]:
    frames = Scripted(list(answers))
    return Dialled(Opened(frames=frames, headers={"openai-model": "gpt-5.5"})), frames


def handshake() -> Handshake:
    return Handshake(url=httpx.URL(URL), headers=HEADERS, within_s=10)


async def one_of(
    folder: Path, dialled: Dialled, *sends: Message, receives: int = 0, ready: bool = False
) -> Interaction:
    """Return the recording of a WebSocket on which that was sent, then so many messages awaited."""
    recorder = recorder_into(folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.keep_writing)
        async with recorder.around_dial("openai-codex", dialled)(handshake()) as answer:
            if isinstance(answer, Opened):
                await talk(answer, sends, receives)
                if ready:
                    answer.frames.ready()
        nursery.cancel_scope.cancel()
    (one,) = cassette_in(folder).track("upstream")
    return one


async def talk(answer: Opened, sends: Sequence[Message], receives: int) -> None:
    try:
        for message in sends:
            await answer.frames.send(message)
        for _ in range(receives):
            await answer.frames.receive()
    except Closed:
        pass


def cassette_in(folder: Path) -> Cassette:
    return file.read(folder / f"{NAME}.yaml")


def said(one: Interaction) -> list[tuple[str, str, bytes]]:
    frames = one.response.stream.frames
    return [(frame.direction, frame.kind, frame.data) for frame in frames]


async def test_handshake_and_messages_are_noted(tmp_path: Path) -> None:
    dialled, frames = opened("one", b"\x00two", Closed(1012, "restarting"))

    one = await one_of(tmp_path, dialled, "ask", receives=3)

    assert frames.heard == ["ask"]
    assert (one.request.method, one.request.uri) == (
        "GET",
        "http://openai-codex/backend-api/codex/responses",
    )
    assert ("upgrade", "websocket") in one.request.headers
    assert ("originator", "codex_exec") in one.request.headers
    assert one.response.status == 101
    assert one.response.headers == (("openai-model", "gpt-5.5"),)
    assert said(one) == [
        ("out", "text", b"ask"),
        ("in", "text", b"one"),
        ("in", "bin", b"\x00two"),
        ("in", "close", b"restarting"),
    ]
    assert [frame.code for frame in one.response.stream.frames] == [None, None, None, 1012]
    assert one.response.stream.end == "eof"
    assert one.caused_by is None


async def test_messages_that_are_ready_are_noted_too(tmp_path: Path) -> None:
    dialled, _ = opened("one", "two", "three")

    one = await one_of(tmp_path, dialled, "ask", receives=1, ready=True)

    assert [data for way, _, data in said(one) if way == "in"] == [b"one", b"two", b"three"]
    assert one.response.stream.end == "closed-by-relay"


async def test_a_refused_handshake_is_an_ordinary_answer(tmp_path: Path) -> None:
    refused = Refused(status=429, headers={"retry-after": "2"}, body=b'{"error":{}}')

    one = await one_of(tmp_path, Dialled(refused))

    assert (one.response.status, one.response.reason) == (429, "Too Many Requests")
    assert (one.response.body, one.response.stream.end) == (b'{"error":{}}', "eof")
    assert ("retry-after", "2") in one.response.headers
    assert one.response.stream.complete


async def test_nobody_there_is_a_connection_that_broke(tmp_path: Path) -> None:
    one = await one_of(tmp_path, Dialled(Unreachable("nobody listens")))

    assert (one.response.status, one.response.stream.end) == (None, "reset")


@in_virtual_time
async def test_time_runs_from_the_asking_on() -> None:
    dialled, _ = opened("one")
    dialled.after_s, shelf = 2.5, Shelf()

    async with recorded_dial("openai-codex", dialled, shelf)(handshake()) as answer:
        assert isinstance(answer, Opened)
        await trio.sleep(1)
        await answer.frames.receive()

    assert shelf.tape.head_at_s == 2.5
    assert [frame.at_s for frame in shelf.tape.frames] == [3.5]


@in_virtual_time
async def test_leaving_in_the_handshake_is_the_relays_doing() -> None:
    dialled, _ = opened()
    dialled.after_s, shelf = 100, Shelf()

    with trio.move_on_after(1):
        async with recorded_dial("openai-codex", dialled, shelf)(handshake()):
            raise AssertionError("it was not there yet")

    assert (shelf.tape.status, shelf.tape.ended) == (None, "closed-by-relay")


@in_virtual_time
async def test_one_that_was_closed_while_nobody_listened_was_closed_by_the_peer() -> None:
    tape = tape_of()
    inner = Scripted([])
    frames = RecordedFrames(inner, tape)
    inner.gone = Closed(1001, "idle")

    frames.left()

    assert tape.ended == "eof"
    assert tape.frames == [Frame(at_s=0, direction="in", kind="close", data=b"idle", code=1001)]


@in_virtual_time
async def test_nothing_is_noted_behind_the_end() -> None:
    tape = tape_of()
    frames = RecordedFrames(Scripted(["late"]), tape)
    await frames.close(1000)
    await frames.receive()

    assert [frame.kind for frame in tape.frames] == ["close"]


async def test_pings_pass_and_are_not_noted() -> None:
    tape, inner = tape_of(), Scripted([])
    await RecordedFrames(inner, tape).ping()
    assert (inner.pings, tape.frames) == (1, [])


@in_virtual_time
async def test_more_messages_than_are_kept_leave_a_recording_that_is_not_whole() -> None:
    tape = attrs.evolve(tape_of(), max_body_bytes=10)
    tape.head(101, "Switching Protocols", ())
    frames = RecordedFrames(Scripted(["12345", "678901", "2", Closed(1000)]), tape)
    await frames.send("ask")
    await talk(Opened(frames=frames, headers={}), (), 4)

    assert [frame.data for frame in tape.frames] == [b"ask", b"12345", b""]
    assert tape.size_bytes == 8
    assert not tape.taken().interaction().response.stream.complete


def tape_of() -> Tape:
    return Tape(track="upstream", number=1, began_at_s=0, method="GET", uri=URL, request_headers=())


HOSTILE: dict[str, list[Message]] = {
    "the bearer of the handshake": [f"who sent {TOKEN}?"],
    "over two messages": [f"{KEY[:20]}", f"{KEY[20:]}"],
    "in the pieces of a text": [
        dump({"type": "response.output_text.delta", "item_id": "msg_1", "delta": piece}).decode()
        for piece in (KEY[:9], KEY[9:25], KEY[25:])
    ],
    "in the headers of an error": [
        dump(
            {
                "type": "error",
                "status": 401,
                "error": {"message": "no"},
                "headers": {"set-cookie": "session=Zk3PqL0vXw92RbT6yHnM; Path=/"},
            }
        ).decode()
    ],
    "in the output of a tool": [
        dump({"type": "x", "output": dump({"text": f'OPENAI_API_KEY="{KEY}"'}).decode()}).decode()
    ],
    "escaped": ["".join(f"\\u{ord(each):04x}" for each in KEY)],
    "in bytes": [b"\xff\x00" + KEY.encode()],
    "in the reason of a close frame": [],
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("goes_out", [False, True], ids=["in", "out"])
async def test_no_secret_of_a_message_is_written_down(
    case: str, *, goes_out: bool, tmp_path: Path
) -> None:
    messages = HOSTILE[case]
    end = Closed(1008, KEY if not messages else "")
    dialled, _ = opened(*(() if goes_out else messages), end)

    one = await one_of(tmp_path, dialled, *(messages if goes_out else ()), receives=9)

    written = (tmp_path / f"{NAME}.yaml").read_bytes()
    for secret in (TOKEN, KEY, KEY[:20], KEY[25:], "Zk3PqL0vXw92RbT6yHnM", HEADERS[1][1]):
        assert secret.encode() not in written
    texts = [message if isinstance(message, bytes) else message.encode() for message in messages]
    assert [len(data) for _, kind, data in said(one) if kind != "close"] == list(map(len, texts))
    secrets = Secrets()
    secrets.add(KEY, "key")
    assert not list(scan_path(tmp_path, secrets))


def test_a_secret_over_two_messages_is_found_in_a_cassette(tmp_path: Path) -> None:
    cassette = tmp_path / "one.yaml"
    frames = (
        f"{{at: 0.1, dir: in, kind: text, data: 'a {KEY[:20]}'}}",
        "{at: 0.2, dir: out, kind: text, data: 'something else'}",
        f"{{at: 0.3, dir: in, kind: text, data: '{KEY[20:]} b'}}",
    )
    lines = "".join(f"      - {frame}\n" for frame in frames)
    cassette.write_text(f"interactions:\n- response:\n    stream:\n      frames:\n{lines}", "utf-8")

    found = [finding.place for _, finding in scan_path(cassette, Secrets())]

    assert "interactions[0].response.stream.frames.in, byte 2" in found
