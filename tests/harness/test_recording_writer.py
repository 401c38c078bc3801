"""What is on the disk while a recording runs, and behind it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIFramework

from codexrelay.protocol.raw import dump
from harness.cassettes import file
from harness.cassettes.beside import INSIDE_BYTES
from harness.recording import reel, screen, writer
from harness.recording.recorder import Recorder
from harness.recording.screen import LEFT_OUT
from harness.secrecy.scanning import scan_bytes
from harness.secrecy.secrets import Secrets
from tests.fakes.recorded import NAME, recorder_into

if TYPE_CHECKING:
    from pathlib import Path

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

    from harness.cassettes.model import Cassette

TOKEN = "tok-2bFh7QmVxK93LzPd8sYw"


@attrs.define(eq=False)
class Talk:
    """One request of a client, told step by step."""

    recorder: Recorder
    path: str = "/v1/responses"
    asked: bytes = b"{}"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: What the application sends, as it is put here; None ends it.
    says: list[bytes] = attrs.field(factory=list)
    more: trio.Event = attrs.field(factory=trio.Event)
    left: bool = False
    #: Serves it instead.
    app: ASGIFramework | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve it; started when all of `says` is sent, over when `more` is set."""

        async def app(_: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            await receive()
            if self.left:
                await receive()
                return
            await send({"type": "http.response.start", "status": 200, "headers": ()})
            for block in self.says:
                await send({"type": "http.response.body", "body": block, "more_body": True})
            task_status.started()
            await self.more.wait()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        messages = [
            {"type": "http.request", "body": self.asked, "more_body": False},
            {"type": "http.disconnect"},
        ]

        async def receive() -> object:
            return messages.pop(0)

        async def send(_: object) -> None:
            await trio.lowlevel.checkpoint()

        scope = {
            "type": "http",
            "method": "POST",
            "raw_path": self.path.encode(),
            "query_string": b"",
            "headers": self.headers,
        }
        await self.recorder.around_app(self.app or app)(scope, receive, send)  # type: ignore[arg-type]

    async def at_once(self) -> None:
        """Serve it to its end."""
        self.more.set()
        await self.run()


async def written(recorder: Recorder, *, last: bool = False) -> Cassette:
    await recorder._write(last=last)
    return file.read(recorder.folder / f"{NAME}.yaml")


async def test_what_is_under_way_is_on_the_disk_as_far_as_it_has_come(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    talk = Talk(recorder, says=[b"the first half, ", b"and"])
    await Talk(recorder, says=[b"whole"]).at_once()
    async with trio.open_nursery() as nursery:
        await nursery.start(talk.run)
        during = await written(recorder)
        talk.more.set()
    after = await written(recorder, last=True)
    assert not during.about.complete
    first, second = during.interactions
    assert (first.response.body, first.response.stream.complete) == (b"whole", True)
    assert second.response.body == b"the first half, and"
    assert (second.response.stream.complete, second.response.stream.end) == (False, "idle")
    assert after.about.complete
    assert [one.response.stream.complete for one in after.interactions] == [True, True]
    assert after.interactions[0] == first


async def test_nothing_is_written_when_nothing_has_come(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    await recorder._write(last=True)
    assert not os.listdir(tmp_path)


async def test_only_what_asks_a_model_is_a_turn(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    for path in ("/v1/responses", "/v1/chat/completions", "/v1/responses/compact", "/elsewhere"):
        await Talk(recorder, path=path).at_once()
    await written(recorder, last=True)
    assert (recorder.recorded[0].counts.turns, recorder.recorded[0].counts.interactions) == (3, 4)


async def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    await Talk(recorder).at_once()
    await written(recorder)
    (tmp_path / f"{NAME}.yaml").unlink()
    await recorder._write(last=False)
    assert not os.listdir(tmp_path)


async def test_a_client_that_left_and_an_answer_that_was_cut_are_told_apart(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    await Talk(recorder, left=True).at_once()
    cut = Talk(recorder, says=[b"half"])
    async with trio.open_nursery() as nursery:
        await nursery.start(cut.run)
        nursery.cancel_scope.cancel()
    left, was_cut = (await written(recorder, last=True)).interactions
    assert (left.response.status, left.response.stream.end) == (None, "closed-by-relay")
    assert (was_cut.response.status, was_cut.response.stream.end) == (200, "reset")


async def test_a_full_cassette_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reel, "MAX_INTERACTIONS", 2)
    recorder = recorder_into(tmp_path, name=None, wall_clock=lambda: 1_795_000_000.0)
    late = Talk(recorder, says=[b"late"])
    async with trio.open_nursery() as nursery:
        await nursery.start(late.run)
        await Talk(recorder).at_once()
        await Talk(recorder).at_once()
        await recorder._write(last=False)
        first, second = (file.read(one.path) for one in recorder.recorded)
        assert [len(one.interactions) for one in (first, second)] == [2, 1]
        # The first one is not over before what was begun in it is.
        assert not first.about.complete
        late.more.set()
    await recorder._write(last=False)
    first, second = (file.read(one.path) for one in recorder.recorded)
    assert (first.about.complete, second.about.complete) == (True, False)
    await recorder._write(last=True)
    names = [one.path.name for one in recorder.recorded]
    assert names == ["recording-20261118-110640.yaml", "recording-20261118-110640-2.yaml"]
    assert file.read(recorder.recorded[1].path).about.complete
    assert [one.number for one in second.interactions] == [1]


async def test_a_large_body_lies_beside_the_cassette_once(tmp_path: Path) -> None:
    body = b"x" * (INSIDE_BYTES + 1)
    recorder = recorder_into(tmp_path)
    await Talk(recorder, says=[body]).at_once()
    await written(recorder)
    await Talk(recorder).at_once()
    cassette = await written(recorder, last=True)
    assert cassette.interactions[0].response.body == body
    assert (tmp_path / f"{NAME}.yaml").stat().st_size < INSIDE_BYTES
    assert len(list((tmp_path / f"{NAME}.yaml.bodies").iterdir())) == 1


async def test_a_secret_that_is_learnt_late_is_still_in_no_cassette(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    await Talk(recorder, asked=dump({"input": f"what is {TOKEN}?"})).at_once()
    await written(recorder)
    authorization = ((b"authorization", f"Bearer {TOKEN}".encode()),)
    await Talk(recorder, headers=authorization).at_once()
    cassette = await written(recorder, last=True)
    assert TOKEN.encode() not in (tmp_path / f"{NAME}.yaml").read_bytes()
    early, late = cassette.interactions
    assert early.request.body == dump({"input": "what is xxx-xxxxxxxxxxxxxxxxxxx1?"})
    assert early.response.status == late.response.status == 200
    assert recorder.recorded[0].counts.left_out == 0
    assert cassette.about.redacted["token"] == 2


@pytest.mark.parametrize("key", ["any", "codexrelay", "response", "sk-dummy"])
async def test_a_key_that_somebody_made_up_spoils_nothing(tmp_path: Path, key: str) -> None:
    recorder = recorder_into(tmp_path)
    asked = f"what does {key} mean in a response of codexrelay?".encode()
    authorization = ((b"authorization", f"Bearer {key}".encode()),)
    await Talk(recorder, asked=asked, headers=authorization).at_once()
    (one,) = (await written(recorder, last=True)).interactions
    assert one.request.body == asked
    assert key not in dict(one.request.headers)["authorization"]


@attrs.define
class BlindRedactor:
    """Finds nothing."""

    secrets: Secrets
    report: dict[str, int] = attrs.field(factory=dict)

    def learn(self, one: object) -> None:
        pass

    def interaction(self, one: object, *, finished: bool) -> object:
        return one

    def again(self, one: object) -> object:
        return one


async def test_what_redaction_has_missed_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "Redactor", BlindRedactor)
    secrets = Secrets()
    secrets.add(TOKEN, "token")
    recorder = recorder_into(tmp_path, secrets=secrets)
    talk = Talk(recorder, says=[b"so far ", TOKEN.encode()])
    async with trio.open_nursery() as nursery:
        await nursery.start(talk.run)
        during = await written(recorder)
        talk.more.set()
    after = await written(recorder, last=True)
    for cassette in (during, after):
        (one,) = cassette.interactions
        assert dict(one.request.headers) == {LEFT_OUT: "a secret was still in it: token"}
        assert one.response.body == b""
    assert not scan_bytes((tmp_path / f"{NAME}.yaml").read_bytes(), secrets)
    assert recorder.recorded[0].counts.left_out == 1


async def test_a_secret_in_a_form_and_one_in_an_answer_of_the_issuer_are_learnt(
    tmp_path: Path,
) -> None:
    recorder = recorder_into(tmp_path)
    refreshed = dump({"access_token": TOKEN, "token_type": "bearer"})
    asked = b"grant_type=refresh_token&refresh_token=rt-9KwB3mXq7TzVn5Hd"
    await Talk(recorder, "/oauth/token", asked=asked, says=[refreshed]).at_once()
    await Talk(recorder, says=[f"it was {TOKEN}".encode()]).at_once()
    await written(recorder, last=True)
    text = (tmp_path / f"{NAME}.yaml").read_bytes()
    assert TOKEN.encode() not in text
    assert b"rt-9KwB3mXq7TzVn5Hd" not in text


async def test_what_was_under_way_is_counted_once_in_the_report(tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add(TOKEN, "token")
    recorder = recorder_into(tmp_path, secrets=secrets)
    talk = Talk(recorder, says=[TOKEN.encode(), b" and more"])
    async with trio.open_nursery() as nursery:
        await nursery.start(talk.run)
        await written(recorder)
        talk.says.append(b"!")
        talk.more.set()
    cassette = await written(recorder, last=True)
    assert cassette.about.redacted == {"token": 1}


async def test_a_disk_that_is_full_for_a_while_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder = recorder_into(tmp_path)
    await Talk(recorder, says=[b"kept"]).at_once()
    with monkeypatch.context() as full:
        full.setattr(writer, "write_bytes", no_room)
        await recorder._write(last=False)
    assert recorder.failed
    (one,) = (await written(recorder, last=True)).interactions
    assert one.response.body == b"kept"


async def test_what_waits_for_a_full_disk_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder = recorder_into(tmp_path)
    monkeypatch.setattr("harness.recording.recorder.MAX_WAITING_BYTES", 4)
    with monkeypatch.context() as full:
        full.setattr(writer, "write_bytes", no_room)
        await Talk(recorder, says=[b"waits"]).at_once()
        await Talk(recorder, says=[b"kept, as nobody knows yet"]).at_once()
        await recorder._write(last=False)
        await Talk(recorder, asked=b"too", says=[b"much"]).at_once()
    await written(recorder)
    await Talk(recorder, says=[b"kept again"]).at_once()
    answers = [one.response for one in (await written(recorder, last=True)).interactions]
    assert [one.body for one in answers] == [
        b"waits",
        b"kept, as nobody knows yet",
        b"",
        b"kept again",
    ]
    assert [one.stream.complete for one in answers] == [True, True, False, True]


async def test_a_full_cassette_waits_for_what_its_last_request_still_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is all sent, and the task that sent it asks one thing more."""
    monkeypatch.setattr(reel, "MAX_INTERACTIONS", 1)
    recorder = recorder_into(tmp_path, name=None)
    transport = recorder.around_transport(
        "local", httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(b"")))
    )

    async def app(_: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": ()})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await recorder._write(last=False)
        await transport.handle_async_request(httpx.Request("GET", "http://127.0.0.1/x"))

    await Talk(recorder, app=app).at_once()
    await recorder._write(last=True)
    (one,) = recorder.recorded
    client, upstream = file.read(one.path).interactions
    assert upstream.caused_by == client.number


async def test_the_recording_is_finished_when_its_owner_is_cancelled(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.keep_writing)
        await Talk(recorder).at_once()
        nursery.cancel_scope.cancel()
    assert file.read(tmp_path / f"{NAME}.yaml").about.complete


async def test_what_a_task_asks_that_belongs_to_nobody_has_no_cause(tmp_path: Path) -> None:
    """A task that a request starts in a nursery of the process is the process's."""
    recorder = recorder_into(tmp_path)
    transport = recorder.around_transport(
        "local", httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(b"")))
    )

    async def question() -> None:
        await transport.handle_async_request(httpx.Request("GET", "http://127.0.0.1/x"))

    async def request(process: trio.Nursery) -> None:
        async def app(*_: object) -> None:
            process.start_soon(question)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as own:
                own.start_soon(question)

        scope = {"type": "http", "method": "POST", "raw_path": b"/", "query_string": b""}
        await recorder.around_app(app)(scope | {"headers": ()}, None, None)  # type: ignore[arg-type]

    async with trio.open_nursery() as process:
        process.start_soon(request, process)
    cassette = await written(recorder, last=True)
    assert [one.caused_by for one in cassette.track("upstream")] == [None, 1]
