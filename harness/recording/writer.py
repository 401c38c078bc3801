"""Brings cassettes to the disk while they are recorded, in a thread of its own.

The file is whole at any moment: it is written beside its place and renamed. What is under way is
written as far as it has come, so that a recorder that is killed loses half a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay import __version__
from harness.cassettes.document import assembled
from harness.cassettes.file import write_bytes
from harness.cassettes.model import About, Origin
from harness.recording.reel import Reel, is_turn
from harness.recording.tape import Taken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.cassettes.model import Interaction
    from harness.recording.screen import Shown

log: structlog.stdlib.BoundLogger = structlog.get_logger("harness.recording")

#: Between two writings at least, and as a multiple of what the last one took.
PAUSE_S: Final = 0.5
_SHARE: Final = 10.0


@attrs.frozen(kw_only=True)
class Said:
    """What the person who records says of it."""

    origin: Origin
    #: None: as the requests say.
    client: str | None = None
    client_version: str | None = None
    scenario: str | None = None


@attrs.frozen(kw_only=True)
class Job:
    """A cassette as it is to be written now."""

    reel: Reel
    mark: object
    taken: Sequence[Taken] = attrs.field(repr=False)
    #: Nothing comes any more.
    last: bool


def work(jobs: Iterable[Job], said: Said) -> None:
    """Write cassettes. Blocks.

    Raises:
        OSError: one of them cannot be written.
    """
    # Every secret that any of them says is known before the first is looked through.
    interactions = {id(one): one.interaction() for job in jobs for one in job.taken}
    for job in jobs:
        job.reel.screen.learn([interactions[id(one)] for one in job.taken])
    for job in jobs:
        _write(job, [(one, interactions[id(one)]) for one in job.taken], said)


def _write(job: Job, pairs: Sequence[tuple[Taken, Interaction]], said: Said) -> None:
    reel, screen = job.reel, job.reel.screen
    under_way: dict[int, Shown] = {}
    for taken, one in pairs:
        if not taken.is_finished:
            under_way[one.number] = screen.show(one, finished=False)
        elif one.number not in reel.shown:  # it is there if the file could not be written then
            reel.shown[one.number] = screen.show(one, finished=True)
            reel.counts.add(one)
            if is_turn(one):
                reel.programs.see(one)
    if job.last:  # knowing every secret that has been said since
        reel.shown = {number: screen.again(shown) for number, shown in reel.shown.items()}
    reel.counts.left_out = sum(shown.left_out for shown in reel.shown.values())
    reel.counts.redacted = screen.redacted
    shown = reel.shown | under_way
    items = [shown[number].text for number in sorted(shown)]
    write_bytes(reel.path, assembled(_about(reel, said, complete=job.last), items))
    if job.last:
        screen.tidy(reel.shown.values())


def _about(reel: Reel, said: Said, *, complete: bool) -> About:
    return About(
        origin=said.origin,
        client=said.client or reel.programs.name,
        client_version=said.client_version or (None if said.client else reel.programs.version),
        relay=__version__,
        date=reel.date,
        began_unix_s=reel.began_unix_s,
        scenario=said.scenario,
        redacted=reel.counts.redacted,
        complete=complete,
    )


@attrs.define(eq=False)
class Pacer:
    """Says how long to wait, so that writing never takes more than a tenth of the time."""

    _took_s: float = 0.0

    def worked(self, began_s: float) -> None:
        """Take note of one writing that began then."""
        self._took_s = trio.current_time() - began_s

    @property
    def pause_s(self) -> float:
        """How long to wait before the next one."""
        return max(PAUSE_S, (_SHARE - 1) * self._took_s)
