"""One cassette while it is being recorded: what has been begun in it. The event loop's alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.recording.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from harness.cassettes.model import Headers, Track
    from harness.recording.tape import Taken

#: When a cassette has so much in it, the next request begins another: what is written over and over
#: stays small, all day long.
MAX_INTERACTIONS: Final = 200
MAX_REEL_BYTES: Final = 16 * 2**20


@attrs.define(eq=False, kw_only=True)
class Reel:
    """One cassette, and what has been noted of it. What is taken, a `writer.Writer` works on."""

    #: No two cassettes of a recording have the same.
    key: int
    path: Path
    #: Day of the recording.
    date: str
    #: When it began, Unix seconds.
    began_unix_s: float
    #: It is the only one: however much comes, it goes here.
    endless: bool = False
    max_body_bytes: int
    began_s: float = attrs.field(factory=trio.current_time)
    #: How many were begun.
    begun: int = 0
    #: Bodies of those that are written for good, in bytes.
    settled_bytes: int = 0
    #: Those that may still change, or are not written yet.
    tapes: list[Tape] = attrs.field(factory=list)
    #: As it was when it was written last; see `mark`.
    written_mark: object = None
    #: Of `tapes`, those that are finished and need not be taken again: their numbers.
    kept: frozenset[int] = frozenset()

    def begin(
        self,
        track: Track,
        method: str,
        uri: str,
        headers: Headers,
        *,
        caused_by: int | None,
        bodies: bool = True,
    ) -> Tape:
        """Begin to note a request that is made now; without `bodies`, all but what they hold."""
        self.begun += 1
        tape = Tape(
            track=track,
            number=self.begun,
            began_at_s=round(trio.current_time() - self.began_s, 6),
            caused_by=caused_by,
            method=method,
            uri=uri,
            request_headers=headers,
            max_body_bytes=self.max_body_bytes if bodies else 0,
        )
        self.tapes.append(tape)
        return tape

    @property
    def size_bytes(self) -> int:
        """How much of bodies is in it."""
        return self.settled_bytes + self.unwritten_bytes

    @property
    def unwritten_bytes(self) -> int:
        """How much of bodies is not written for good."""
        return sum(tape.size_bytes for tape in self.tapes)

    @property
    def is_full(self) -> bool:
        """Whether what comes next belongs into another one."""
        return not self.endless and (
            self.begun >= MAX_INTERACTIONS or self.size_bytes >= MAX_REEL_BYTES
        )

    @property
    def mark(self) -> object:
        """What tells one state from another."""
        return (self.begun, [tape.mark for tape in self.tapes])

    @property
    def mark_when_settled(self) -> object:
        """What `mark` will be once all that is finished now is settled, and nothing has come."""
        return (self.begun, [tape.mark for tape in self.tapes if tape.ended is None])

    @property
    def finished(self) -> frozenset[int]:
        """The numbers of those that are not settled, and to which nothing can come any more."""
        return frozenset(tape.number for tape in self.tapes if tape.ended is not None)

    def take(self) -> tuple[Taken, ...]:
        """Return what may have changed since it was taken last."""
        return tuple(tape.taken() for tape in self.tapes if tape.number not in self.kept)

    def settle(self, numbers: AbstractSet[int]) -> None:
        """Let go of these: they were finished when they were taken, and are written."""
        self.settled_bytes += sum(tape.size_bytes for tape in self.tapes if tape.number in numbers)
        self.tapes = [tape for tape in self.tapes if tape.number not in numbers]
        self.kept -= numbers
