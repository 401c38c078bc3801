"""Stands in a relay's seams, sees all that passes, and changes, delays, joins or splits none of it.

What the relay asks upstream is noted as caused by a client's request if the task that asks belongs
to that request: the request's own task is among those that own it. A refresh is started by a
request, but belongs to the process, and so has no cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from harness.recording.client_side import RecordedApp
from harness.recording.draft import Counts
from harness.recording.reel import Reel
from harness.recording.tape import MAX_BODY_BYTES, Tape
from harness.recording.upstream_side import RecordedTransport, recorded_dial
from harness.recording.worker import Worker, WorkerError
from harness.recording.writer import Job, Pacer

if TYPE_CHECKING:
    import httpx
    from hypercorn.typing import ASGIFramework

    from codexrelay.backends.websocket import Dial
    from harness.cassettes.model import Headers
    from harness.recording.tape import Taken
    from harness.recording.writer import Worked

log: structlog.stdlib.BoundLogger = structlog.get_logger("harness.recording")

#: For the last writing, when whoever records is going: enough for a hundred megabytes.
LAST_S: Final = 120.0
#: Most that waits for a disk that takes nothing; of what comes then, the bodies are not kept.
MAX_WAITING_BYTES: Final = 256 * 2**20


@attrs.define(eq=False, kw_only=True)
class Recorded:
    """A cassette that has been written."""

    path: Path
    #: As of the last writing.
    counts: Counts = attrs.field(factory=Counts)


@attrs.define(eq=False, kw_only=True)
class Recorder:
    """Records one relay, into one cassette or, one after the other, several."""

    folder: Path
    #: It knows what is secret. Whoever gives it closes it, when `keep_writing` is over.
    worker: Worker
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: Of the only cassette, without `.yaml`; None: as many as are needed, named by their times.
    name: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    #: Something could not be written; what, is in the log.
    failed: bool = attrs.field(default=False, init=False)
    #: The last writing failed, and nothing has been written since.
    _stuck: bool = attrs.field(default=False, init=False)
    #: Nothing can be written any more: what comes is let go of.
    _over: bool = attrs.field(default=False, init=False)
    #: It was told that bodies are not kept, since it got stuck.
    _told: bool = attrs.field(default=False, init=False)
    #: All cassettes so far.
    recorded: list[Recorded] = attrs.field(factory=list, init=False)
    #: Those that are not finished; the last one takes what begins.
    _reels: list[Reel] = attrs.field(factory=list, init=False)
    #: By the task that serves it: a client's request under way.
    _asking: dict[trio.lowlevel.Task, tuple[Reel, Tape]] = attrs.field(factory=dict, init=False)
    _begun: trio.Event = attrs.field(factory=trio.Event, init=False)

    # --- where it stands

    def around_app(self, app: ASGIFramework) -> ASGIFramework:
        """Stand before an application; see `World.around_app`."""
        return RecordedApp(app, self)

    def around_transport(
        self, backend: str, inner: httpx.AsyncBaseTransport
    ) -> httpx.AsyncBaseTransport:
        """Stand before a backend's connections; see `World.around_transport`."""
        return RecordedTransport(backend, inner, self)

    def around_dial(self, backend: str, inner: Dial) -> Dial:
        """Stand before a backend's WebSockets; see `World.around_dial`."""
        return recorded_dial(backend, inner, self)

    # --- what its sides ask of it

    def client_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        """See `client_side.Clients`."""
        reel = self._open_reel()
        tape = reel.begin("client", method, uri, headers, caused_by=None, bodies=self._has_room())
        self._asking[trio.lowlevel.current_task()] = reel, tape
        self._begun.set()
        return tape

    def client_is_done(self, tape: Tape) -> None:
        """See `client_side.Clients`."""
        task = trio.lowlevel.current_task()
        assert self._asking.pop(task)[1] is tape

    def relay_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        """See `upstream_side.Upstreams`."""
        reel, cause = self._cause() or (self._open_reel(), None)
        number = None if cause is None else cause.number
        self._begun.set()
        bodies = self._has_room()
        return reel.begin("upstream", method, uri, headers, caused_by=number, bodies=bodies)

    def _has_room(self) -> bool:
        """Whether bodies can be kept: what cannot be written must not fill the memory."""
        if self._over:
            return False
        if not self._stuck:
            return True
        waiting = sum(reel.unwritten_bytes for reel in self._reels)
        if waiting < MAX_WAITING_BYTES:
            return True
        if not self._told:
            self._told = True
            log.error("too much waits to be written: bodies are left out", waiting_bytes=waiting)
        return False

    def _cause(self) -> tuple[Reel, Tape] | None:
        """Return the client's request that the current task belongs to."""
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        while task is not None:
            if (found := self._asking.get(task)) is not None:
                return found
            nursery = task.parent_nursery
            task = None if nursery is None else nursery.parent_task
        return None

    def _open_reel(self) -> Reel:
        if not self._reels or (self._reels[-1].is_full and not self._over):
            now = datetime.fromtimestamp(self.wall_clock(), UTC)
            path = self._free_path(now)
            reel = Reel(
                key=len(self.recorded),
                path=path,
                date=now.date().isoformat(),
                began_unix_s=round(now.timestamp(), 3),
                endless=self.name is not None,
                max_body_bytes=self.max_body_bytes,
            )
            self._reels.append(reel)
            self.recorded.append(Recorded(path=reel.path))
        return self._reels[-1]

    def _free_path(self, now: datetime) -> Path:
        if self.name is not None:
            return self.folder / f"{self.name}.yaml"
        stem = f"recording-{now:%Y%m%d-%H%M%S}"
        taken = {one.path for one in self.recorded}
        path, number = self.folder / f"{stem}.yaml", 1
        while path in taken or path.exists():
            number += 1
            path = self.folder / f"{stem}-{number}.yaml"
        return path

    # --- the writing

    async def keep_writing(self) -> None:
        """Write what is recorded, over and over, until cancelled; then for the last time.

        A cassette that cannot be written is told in the log, and tried again.
        """
        pacer = Pacer()
        try:
            while True:
                await self._begun.wait()
                await trio.sleep(pacer.pause_s)
                began_s = trio.current_time()
                await self._write(last=False)
                pacer.worked(began_s)
                if not any(reel.tapes for reel in self._reels):
                    self._begun = trio.Event()
        finally:
            with trio.move_on_after(LAST_S, shield=True) as patience:
                await self._write(last=True)
            if patience.cancelled_caught:
                self.failed = True
                log.error("the recording could not be finished in time", seconds=LAST_S)

    async def _write(self, *, last: bool) -> None:
        if self._over:
            for reel in self._reels:
                reel.settle(reel.finished)
            return
        jobs, todo = [], []
        for reel in self._reels:
            mark, finished, taken = reel.mark, reel.finished, reel.take()  # no checkpoint between
            # Whose answer is all sent may still ask something upstream.
            asked = any(reel is asking for asking, _ in self._asking.values())
            is_done = reel.is_full and not asked and all(one.is_finished for one in taken)
            over = last or is_done
            if over or mark != reel.written_mark:
                jobs.append(_job(reel, taken, last=over))
                todo.append((reel, reel.mark_when_settled, finished))
        if not jobs:
            return
        worked: Worked | None = None
        try:
            worked = await trio.to_thread.run_sync(self.worker.work, jobs, abandon_on_cancel=last)
            why = worked.why
        except WorkerError as error:
            why = str(error)
        if worked is None:
            log.error("nothing more is recorded: what writes it has ended", why=why)
            self._over = self.failed = True
            return
        for reel, _, _ in todo:
            reel.kept |= worked.kept[reel.key]
            self.recorded[reel.key].counts = worked.counts[reel.key]
        if why is not None:
            if not self._stuck:
                log.error("the recording cannot be written", why=why)
            self._stuck = self.failed = True
            return
        if self._stuck:
            log.info("the recording can be written again")
            self._stuck = self._told = False
        for reel, mark, finished in todo:
            reel.written_mark = mark
            reel.settle(finished)
        done = {job.key for job in jobs if job.last}
        self._reels = [reel for reel in self._reels if reel.key not in done]


def _job(reel: Reel, taken: Sequence[Taken], *, last: bool) -> Job:
    return Job(
        key=reel.key,
        path=reel.path,
        date=reel.date,
        began_unix_s=reel.began_unix_s,
        taken=taken,
        last=last,
    )
