"""What is written of one cassette so far, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from codexrelay.profiles import recognise
from codexrelay.profiles.profile import Kind
from codexrelay.protocol.raw import JsonObject, parse_object
from harness.recording.screen import Screen, Shown

if TYPE_CHECKING:
    from harness.cassettes.model import Interaction

#: End the paths at which a client asks a model.
_TURNS: Final = ("/responses", "/responses/compact", "/chat/completions")
_CREATE: Final = b"response.create"


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
        self.turns += turns_in(one)
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


@attrs.define(eq=False, kw_only=True)
class Draft:
    """One cassette, as the one who writes it knows it."""

    path: Path
    #: Day of the recording.
    date: str
    #: When it began, Unix seconds.
    began_unix_s: float
    screen: Screen
    #: Those that are finished, by number.
    shown: dict[int, Shown] = attrs.field(factory=dict)
    counts: Counts = attrs.field(factory=Counts)
    programs: Programs = attrs.field(factory=Programs)

    def show(self, one: Interaction) -> None:
        """Take one that is finished, as it may be written."""
        self.shown[one.number] = self.screen.show(one, finished=True)
        self.counts.add(one)
        if turns_in(one):
            self.programs.see(one)


def turns_in(one: Interaction) -> int:
    """Return how often a client asks for an answer of a model in it."""
    path = urlsplit(one.request.uri).path
    if one.track != "client" or not path.endswith(_TURNS):
        return 0
    return int(one.request.method == "POST") + len(_asked_in(one))


def _asked_in(one: Interaction) -> list[JsonObject]:
    """Return the messages over a WebSocket that ask for an answer of a model."""
    asked = [
        _object(frame.data)
        for frame in one.response.stream.frames
        if frame.direction == "out" and frame.kind == "text" and _CREATE in frame.data
    ]
    return [
        value
        for value in asked
        if value.get("type") == _CREATE.decode() and value.get("generate") is not False
    ]


def program_of(one: Interaction) -> tuple[str, str | None]:
    """Return which program's request it is, as the relay sees it or it says itself; its version."""
    headers = dict(one.request.headers)
    profile = recognise(headers, {})
    if profile.kind is not Kind.PROGRAM:  # known by its tools, perhaps
        bodies = [_object(one.request.body), *_asked_in(one)]
        profile = recognise(headers, next(filter(None, bodies), {}))
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
