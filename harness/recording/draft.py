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
        if is_turn(one):
            self.programs.see(one)


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
