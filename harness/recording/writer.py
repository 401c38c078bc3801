"""Brings cassettes to the disk while they are recorded, beside the event loop: see `worker`.

The file is whole at any moment: it is written beside its place and renamed. What is under way is
written as far as it has come, so that a recorder that is killed loses half a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay import __version__
from harness.cassettes.beside import Beside
from harness.cassettes.document import assembled
from harness.cassettes.file import write_bytes
from harness.cassettes.model import About, Origin
from harness.recording.draft import Counts, Draft
from harness.recording.screen import Screen
from harness.recording.tape import Taken
from harness.secrecy.secrets import Secrets

if TYPE_CHECKING:
    from harness.cassettes.model import Interaction
    from harness.recording.screen import Shown

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

    #: No two cassettes of a recording have the same.
    key: int
    path: Path
    #: Day of the recording.
    date: str
    #: When it began, Unix seconds.
    began_unix_s: float
    #: All that is under way, and what has been finished and not been `kept` yet.
    taken: Sequence[Taken] = attrs.field(repr=False)
    #: Nothing comes any more.
    last: bool


@attrs.frozen(kw_only=True)
class Worked:
    """What became of jobs."""

    #: What is in each cassette, by the job's key.
    counts: Mapping[int, Counts]
    #: The interactions that need not be taken again, by the job's key: their numbers.
    kept: Mapping[int, frozenset[int]]
    #: Why not all of them could be written; None: they are on the disk.
    why: str | None = None


@attrs.define(eq=False)
class Writer:
    """Writes the cassettes of one recording. Used by one thread at a time, and blocks it."""

    said: Said
    #: Known to all cassettes. What is learnt goes here, and nobody else needs it.
    secrets: Secrets = attrs.field(repr=False)
    #: Those that are not finished, by key.
    _drafts: dict[int, Draft] = attrs.field(factory=dict, init=False)

    def work(self, jobs: Sequence[Job]) -> Worked:
        """Write cassettes. One that cannot be written is told, and may come again."""
        # Every secret that any of them says is known before the first is looked through.
        todo = [(job, self._draft(job), _interactions(job)) for job in jobs]
        for _, draft, pairs in todo:
            draft.screen.learn([one for _, one in pairs])
        why: str | None = None
        for job, draft, pairs in todo:
            try:
                self._write(draft, pairs, last=job.last)
            except OSError as error:
                why = error.strerror or str(error)
        worked = Worked(
            counts={job.key: draft.counts for job, draft, _ in todo},
            kept={
                job.key: frozenset(one.number for one in job.taken if one.number in draft.shown)
                for job, draft, _ in todo
            },
            why=why,
        )
        if why is None:
            for job in jobs:
                if job.last:
                    del self._drafts[job.key]
        return worked

    def _draft(self, job: Job) -> Draft:
        if (draft := self._drafts.get(job.key)) is None:
            draft = self._drafts[job.key] = Draft(
                path=job.path,
                date=job.date,
                began_unix_s=job.began_unix_s,
                screen=Screen(self.secrets, Beside(job.path)),
            )
        return draft

    def _write(
        self, draft: Draft, pairs: Sequence[tuple[Taken, Interaction]], *, last: bool
    ) -> None:
        screen = draft.screen
        under_way: dict[int, Shown] = {}
        for taken, one in pairs:
            if not taken.is_finished:
                under_way[one.number] = screen.show(one, finished=False)
            elif one.number not in draft.shown:
                draft.show(one)
        if last:  # knowing every secret that has been said since
            draft.shown = {number: screen.again(shown) for number, shown in draft.shown.items()}
        draft.counts.left_out = sum(shown.left_out for shown in draft.shown.values())
        draft.counts.redacted = screen.redacted
        shown = draft.shown | under_way
        items = [shown[number].text for number in sorted(shown)]
        write_bytes(draft.path, assembled(self._about(draft, complete=last), items))
        if last:
            screen.tidy(draft.shown.values())

    def _about(self, draft: Draft, *, complete: bool) -> About:
        said, programs = self.said, draft.programs
        return About(
            origin=said.origin,
            client=said.client or programs.name,
            client_version=said.client_version or (None if said.client else programs.version),
            relay=__version__,
            date=draft.date,
            began_unix_s=draft.began_unix_s,
            scenario=said.scenario,
            redacted=draft.counts.redacted,
            complete=complete,
        )


def _interactions(job: Job) -> list[tuple[Taken, Interaction]]:
    return [(taken, taken.interaction()) for taken in job.taken]


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
