"""Where cassettes are made safe and written: in a process of its own, so that no stream waits.

To look through a large body takes calls that hold Python's lock for a tenth of a second and more.
In a thread they would stop the event loop, and so every stream of the relay.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs
import structlog

from harness.recording.tape import Taken
from harness.recording.writer import Job, Said, Worked, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.secrecy.secrets import Secrets

log: structlog.stdlib.BoundLogger = structlog.get_logger("harness.recording")

#: What the process runs: the harness need not be installed, so its folder is given along.
_CODE: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop()); "
    "from harness.recording.worker import main; main()"
)
_ROOT: Final = Path(__file__).parents[2]
#: What of a `Taken` grows while it is under way, and how much of that goes in one piece.
_LONG: Final = ("sent", "received", "at_s", "frames")
_RUN: Final = 500
#: Where processors are scarce, streams go first.
_NICE: Final = 5
#: For the process to end when nothing is left to do.
_END_S: Final = 10.0
#: A level of `logging`, what is said, and its facts.
_Line: TypeAlias = tuple[int, str, Mapping[str, object]]


class WorkerError(Exception):
    """The process that writes has ended, and what it knew is gone; the text says how."""


class Worker(Protocol):
    """Writes cassettes."""

    def work(self, jobs: Sequence[Job]) -> Worked:
        """Write them; see `Writer.work`. Blocks, and is called by one thread at a time.

        Raises:
            WorkerError: nothing can be written any more.
        """
        ...

    def close(self) -> None:
        """Let go of it. Blocks for a moment."""
        ...


@attrs.define(eq=False)
class InThread:
    """Writes in the thread that calls, as tests do: streams wait for it now and then."""

    writer: Writer

    def work(self, jobs: Sequence[Job]) -> Worked:
        """See `Worker`."""
        return self.writer.work(jobs)

    def close(self) -> None:
        """See `Worker`."""


@attrs.define(eq=False)
class InProcess:
    """Writes in a process of its own, which ends when this one does, however that may end."""

    process: subprocess.Popen[bytes]
    #: A thread waits for it.
    _is_asked: bool = attrs.field(default=False, init=False)

    @classmethod
    def start(cls, said: Said, secrets: Secrets) -> InProcess:
        """Start the process. It gets a copy of `secrets`, and what is learnt stays there. Blocks.

        Raises:
            OSError: it cannot be started.
        """
        worker = cls(
            subprocess.Popen(
                [sys.executable, "-c", _CODE, str(_ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                **_out_of_the_terminals_reach(),
            )
        )
        # One that has ended already is told at the first writing.
        with contextlib.suppress(OSError):
            worker._send([Writer(said, secrets)])
        return worker

    def work(self, jobs: Sequence[Job]) -> Worked:
        """See `Worker`."""
        self._is_asked = True
        try:
            self._send(_parts(jobs))
            worked, lines = _load(self.process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError, ValueError):
            raise WorkerError(self._how_it_ended()) from None
        finally:
            self._is_asked = False
        for level, event, facts in lines:
            log.log(level, event, **facts)
        assert isinstance(worked, Worked)
        return worked

    def close(self) -> None:
        """See `Worker`. What it is still doing then is cut off."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self._is_asked:  # by a thread that nobody waits for any more
            self.process.kill()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _send(self, parts: Sequence[object] | Iterator[object]) -> None:
        assert self.process.stdin is not None
        for part in parts:
            pickle.dump(part, self.process.stdin, pickle.HIGHEST_PROTOCOL)
        self.process.stdin.flush()

    def _how_it_ended(self) -> str:
        try:
            return f"exit status {self.process.wait(_END_S)}"
        except subprocess.TimeoutExpired:
            return "it does not answer"


def _out_of_the_terminals_reach() -> dict[str, Any]:
    """Return how to start what Ctrl-C must not end before the last cassette is written."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _parts(jobs: Sequence[Job]) -> Iterator[object]:
    """Take jobs apart: what is packed in one call holds up the event loop as long as it takes."""
    nothing: dict[str, Any] = dict.fromkeys(_LONG, ())
    for job in jobs:
        yield attrs.evolve(job, taken=()), len(job.taken)
        for one in job.taken:
            yield attrs.evolve(one, **nothing)
            for name in _LONG:
                items = getattr(one, name)
                for start in range(0, len(items), _RUN):
                    yield name, items[start : start + _RUN]
            yield None
    yield None


# --- in the process


def main() -> None:
    """Write what comes in at stdin, and tell at stdout what became of it, until nobody is there."""
    # Who is told to end is the one who records; the last cassette is still to come then.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32":
        os.nice(_NICE)
    lines: list[_Line] = []
    structlog.configure(processors=[Keeping(lines)])
    answers = os.fdopen(os.dup(1), "wb")
    with contextlib.suppress(OSError):  # somebody who prints is not to be taken for an answer
        os.dup2(2, 1)
    # They end as he does, whom there is nothing to tell any more.
    with contextlib.suppress(EOFError, BrokenPipeError, pickle.UnpicklingError), answers:
        writer = _load(sys.stdin.buffer)
        while True:
            worked = writer.work(_jobs(sys.stdin.buffer))
            pickle.dump((worked, tuple(lines)), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
            lines.clear()


@attrs.frozen
class Keeping:
    """Keeps log lines, for the one who records to say them where all of his go."""

    lines: list[_Line]

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        """Keep one; structlog calls it."""
        level = logging.getLevelNamesMapping().get(method.upper(), logging.ERROR)
        facts = {name: value for name, value in event.items() if name != "event"}
        self.lines.append((level, str(event["event"]), facts))
        raise structlog.DropEvent


def _jobs(source: IO[bytes]) -> list[Job]:
    """Put jobs together again; see `_parts`."""
    jobs = []
    while (part := _load(source)) is not None:
        job, number = part
        jobs.append(attrs.evolve(job, taken=[_taken(source) for _ in range(number)]))
    return jobs


def _taken(source: IO[bytes]) -> Taken:
    one = _load(source)
    assert isinstance(one, Taken)
    long: dict[str, list[Any]] = {name: [] for name in _LONG}
    while (part := _load(source)) is not None:
        name, items = part
        long[name] += items
    whole: dict[str, Any] = {name: tuple(items) for name, items in long.items()}
    return attrs.evolve(one, **whole)


def _load(source: IO[bytes] | None) -> Any:  # noqa: ANN401  (whatever the other side has sent)
    assert source is not None
    return pickle.load(source)
