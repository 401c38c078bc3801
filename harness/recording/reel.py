"""One cassette while it is being recorded: what has been begun in it, and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import trio

from codexrelay.profiles import recognise
from codexrelay.profiles.profile import Kind
from codexrelay.protocol.raw import JsonObject, parse_object
from harness.recording.screen import Screen, Shown
from harness.recording.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cassettes.model import Headers, Interaction, Track
    from harness.recording.tape import Taken

#: When a cassette has so much in it, the next request begins another: what is written over and over
#: stays small, all day long.
MAX_INTERACTIONS: Final = 200
MAX_REEL_BYTES: Final = 16 * 2**20
#: End the paths at which a client asks a model.
_TURNS: Final = ("/responses", "/responses/compact", "/chat/completions")


@attrs.define(eq=False, kw_only=True)
class Reel:
    """One cassette. The event loop begins and takes; one thread at a time works on what is taken.

    Its fields up to `tapes` are the loop's, the rest is the working thread's.
    """

    path: Path
    #: Day of the recording.
    date: str
    #: When it began, Unix seconds.
    began_unix_s: float
    screen: Screen
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

    #: Those that are finished, by number.
    shown: dict[int, Shown] = attrs.field(factory=dict)
    counts: Counts = attrs.field(factory=lambda: Counts())
    programs: Programs = attrs.field(factory=lambda: Programs())

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

    def take(self) -> tuple[Taken, ...]:
        """Return what may have changed since it was taken last."""
        return tuple(tape.taken() for tape in self.tapes)

    def settle(self, taken: Sequence[Taken]) -> None:
        """Let go of those that were finished when they were taken: they are written."""
        done = {id(one.tape) for one in taken if one.is_finished}
        self.settled_bytes += sum(tape.size_bytes for tape in self.tapes if id(tape) in done)
        self.tapes = [tape for tape in self.tapes if id(tape) not in done]


@attrs.define
class Counts:
    """What is in a cassette, for whoever recorded it."""

    #: Requests of clients for an answer of a model.
    turns: int = 0
    interactions: int = 0
    incomplete: int = 0
    #: What could not be made safe, and is not in it.
    left_out: int = 0
    redacted: Mapping[str, int] = attrs.field(factory=dict)

    def add(self, one: Interaction) -> None:
        """Count an interaction that is finished."""
        self.interactions += 1
        self.turns += is_turn(one)
        self.incomplete += not one.response.stream.complete


@attrs.define
class Programs:
    """The client programs whose requests are in a cassette."""

    #: By name, in order of appearance; the version None where the program does not say it.
    versions: dict[str, dict[str | None, None]] = attrs.field(factory=dict)

    def see(self, one: Interaction) -> None:
        """Take note of whose request it is."""
        name, version = program_of(one)
        self.versions.setdefault(name, {})[version] = None

    @property
    def name(self) -> str | None:
        """All their names; None before there was one."""
        return ", ".join(self.versions) or None

    @property
    def version(self) -> str | None:
        """The version, if there is one program of one version."""
        found = [version for versions in self.versions.values() for version in versions]
        return found[0] if len(found) == 1 else None


def is_turn(one: Interaction) -> bool:
    """Tell whether a client asks for an answer of a model."""
    if one.track != "client" or one.request.method != "POST":
        return False
    return urlsplit(one.request.uri).path.endswith(_TURNS)


def program_of(one: Interaction) -> tuple[str, str | None]:
    """Return which program's request it is, as the relay sees it or it says itself; its version."""
    headers = dict(one.request.headers)
    profile = recognise(headers, {})
    if profile.kind is not Kind.PROGRAM:  # known by its tools, perhaps
        profile = recognise(headers, _object(one.request.body))
    product = headers.get("user-agent", "").partition(" ")[0]
    name, _, version = product.partition("/")
    if profile.kind is not Kind.ANY or not name:
        name = profile.name
    return name, version if version[:1].isdigit() else None


def _object(body: bytes) -> JsonObject:
    try:
        return parse_object(body)
    except ValueError:
        return {}
