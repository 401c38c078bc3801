"""The process that writes: it outlives signals, not its owner, and its death stops no stream."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from structlog.testing import capture_logs

from harness.cassettes import file
from harness.recording.worker import InProcess, Keeping
from harness.recording.writer import Said
from harness.secrecy.secrets import Secrets
from tests.fakes.recorded import NAME, recorder_into

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.recording.recorder import Recorder
    from harness.recording.tape import Tape

KNOWN, LEARNT = "tok-2bFh7QmVxK93LzPd8sYw", "tok-5XcTn0RwJq71VbGe4HkU"
ANSWERS = """
import pickle, sys
from harness.recording.writer import Worked
worked = Worked(counts={0: None}, kept={0: frozenset()})
pickle.dump((worked, ((40, "left out", {"number": 7}),)), sys.stdout.buffer)
sys.stdout.flush()
sys.stdin.buffer.read()
"""


@contextmanager
def working(worker: InProcess) -> Iterator[InProcess]:
    try:
        yield worker
    finally:
        worker.close()


def answering(script: str) -> InProcess:
    """Run something else in its place."""
    command = [sys.executable, "-c", script]
    return InProcess(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))


def asked(recorder: Recorder, said: bytes, token: str = "") -> Tape:
    """Note a request and as much of its answer."""
    headers = (("authorization", f"Bearer {token}"),) if token else ()
    tape = recorder.client_asks("POST", "http://relay/v1/responses", headers)
    recorder.client_is_done(tape)
    tape.head(200, "OK", ())
    tape.receive(said)
    return tape


async def test_it_writes_and_learns_and_a_signal_does_not_end_it(tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add(KNOWN, "token")
    with working(InProcess.start(Said(origin="simulator"), secrets)) as worker:
        recorder = recorder_into(tmp_path, worker=worker)
        asked(recorder, f"one {KNOWN}".encode()).end("eof")
        late = asked(recorder, f"two {LEARNT}".encode())
        await recorder._write(last=False)
        during = file.read(tmp_path / f"{NAME}.yaml")
        if sys.platform != "win32":
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                worker.process.send_signal(number)
        late.receive(b" and more")
        late.end("eof")
        asked(recorder, b"three", LEARNT).end("eof")
        await recorder._write(last=True)
    written = file.read(tmp_path / f"{NAME}.yaml")
    assert [one.response.stream.end for one in during.interactions] == ["eof", "idle"]
    assert [len(one.response.body) for one in written.interactions] == [28, 37, 5]
    text = (tmp_path / f"{NAME}.yaml").read_text("utf-8")
    assert KNOWN not in text
    assert LEARNT not in text
    assert recorder.recorded[0].counts.turns == 3
    assert (recorder.failed, worker.process.returncode) == (False, 0)


async def test_one_that_is_gone_is_told_once_and_what_comes_is_let_go_of(tmp_path: Path) -> None:
    with working(InProcess.start(Said(origin="simulator"), Secrets())) as worker:
        recorder = recorder_into(tmp_path, worker=worker)
        worker.process.kill()
        worker.process.wait()
        asked(recorder, b"one").end("eof")
        with capture_logs() as lines:
            await recorder._write(last=False)
            later = asked(recorder, b"two")
            later.end("eof")
            await recorder._write(last=False)
            await recorder._write(last=True)
    assert [line["log_level"] for line in lines] == ["error"]
    assert "exit status" in lines[0]["why"]
    assert recorder.failed
    assert later.size_bytes == 0
    assert not any(reel.tapes for reel in recorder._reels)


async def test_what_it_says_is_said_in_the_recorders_log(tmp_path: Path) -> None:
    with working(answering(ANSWERS)) as worker:
        recorder = recorder_into(tmp_path, worker=worker)
        asked(recorder, b"one").end("eof")
        with capture_logs() as lines:
            await recorder._write(last=True)
    assert lines == [{"log_level": "error", "event": "left out", "number": 7}]


def test_its_own_log_lines_are_kept_for_that() -> None:
    lines: list[tuple[int, str, object]] = []
    log = structlog.wrap_logger(None, processors=[Keeping(lines)])
    log.error("left out", number=7)
    assert lines == [(40, "left out", {"number": 7})]
