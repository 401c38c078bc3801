"""What real programs have sent: this repository's own cassettes, and captures that may lie beside.

`python -m harness tape` makes the cassettes; `cassettes/PROGRAM/SCENARIO/ROW.yaml` is one
conversation of one row of the compatibility matrix.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
import pytest

from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)
from harness.cassettes import file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cassettes.model import Cassette

ROOT = Path(__file__).parents[2]
CASSETTES = ROOT / "cassettes"
#: Nothing goes wrong in these, so that a program sends each request once. Where something does, it
#: sends what it has sent in them.
UNDISTURBED = ("text", "tool", "parallel", "reasoning", "patch", "image", "title", "resume")
CAPTURES = ROOT.parent / "shared" / "clients" / "captures"

#: Profile -> what the harness calls its program, where that is another name.
_PROGRAMS = {"codex_cli": "codex", "openai_sdk": "sdk"}
#: Profile -> what the captures call its program, likewise.
_CAPTURED = {"codex_cli": "codex", "openai_sdk": "openai"}
#: Profiles of no program in particular, which cannot be recorded.
UNRECORDED = {"generic": "it is whatever the other profiles do not recognise"}


@attrs.frozen(kw_only=True)
class Sent:
    """A turn's request as a program sent it."""

    name: str
    conversation: str
    path: str
    #: A capture's as sent; a cassette has the names in lower case.
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: JsonObject = attrs.field(repr=False)

    @property
    def lower(self) -> dict[str, str]:
        """The headers as the relay looks them up."""
        return {name.lower(): value for name, value in self.headers.items()}

    @property
    def is_title(self) -> bool:
        """Whether it is a side request for a title, without tools."""
        items = get_list(self.body, "input")
        carried = any(is_object(item) and item.get("type") == "additional_tools" for item in items)
        return not get_list(self.body, "tools") and not carried

    @property
    def user_messages(self) -> int:
        """How many messages of the user it has."""
        return sum(item.get("role") == "user" for item in self.items)

    @property
    def items(self) -> list[JsonObject]:
        """Its messages, or its input items."""
        given = get_list(self.body, "messages") or get_list(self.body, "input")
        return [item for item in given if is_object(item)]


def recordings_of(profile: str, *scenarios: str) -> list[Sent]:
    """Return the recorded requests of a profile's program, conversation by conversation.

    Of the scenarios named; of all that are undisturbed if none is.
    """
    program = _PROGRAMS.get(profile, profile)
    found = [
        sent
        for sent in _recorded(program)
        if not scenarios or sent.conversation.partition(" ")[2] in scenarios
    ]
    assert found, (
        f"the profile {profile} has no recordings: its program needs a driver in "
        "harness/compat/drivers (and, if that has another name, a line in this module), and then "
        "`python -m harness tape --clients PROGRAM`"
    )
    return found


def all_recordings() -> list[Sent]:
    """Return the recorded requests of all programs."""
    programs = sorted(folder.name for folder in CASSETTES.iterdir() if folder.is_dir())
    return [sent for program in programs for sent in _recorded(program)]


@functools.cache
def cassette(path: Path) -> Cassette:
    """Return a cassette. It is read once, as that takes some time."""
    return file.read(path)


def captures_of(profile: str) -> list[Sent]:
    """Return the captured requests of a profile's program; skips the test where there are none."""
    if not CAPTURES.is_dir():
        pytest.skip("no captured client requests lie beside this repository")
    program = _CAPTURED.get(profile, profile)
    rows = ("", "extras-", "multiturn-")
    found = [
        _sent(json.loads(path.read_bytes()), path, conversation=path.parent.name)
        for path in sorted(CAPTURES.glob("*/*-POST-*.json"))
        if path.parent.name.startswith(tuple(row + program for row in rows)) and _is_turn(path)
    ]
    if not found:
        pytest.skip(f"no captured requests are of {profile}")
    return found


@functools.cache
def _recorded(program: str) -> tuple[Sent, ...]:
    return tuple(
        sent
        for scenario in UNDISTURBED
        for path in sorted((CASSETTES / program / scenario).glob("*.yaml"))
        for sent in _turns_of(path)
    )


def _turns_of(path: Path) -> Iterator[Sent]:
    row, scenario = path.stem, path.parent.name
    for one in cassette(path).track("client"):
        if one.request.method == "POST":
            yield Sent(
                name=f"{row}/{scenario}/{one.number}",
                conversation=f"{row} {scenario}",
                path=urlsplit(one.request.uri).path,
                headers=dict(one.request.headers),
                body=parse_object(one.request.body),
            )


def _sent(content: JsonObject, path: Path, *, conversation: str) -> Sent:
    headers = content["headers"]
    assert isinstance(headers, dict | list)
    return Sent(
        name=f"{path.parent.name}/{path.stem}",
        conversation=conversation,
        path=get_text(content, "path") or "",
        headers=dict(headers),  # type: ignore[arg-type]  # pairs or an object, of texts
        body=get_object(content, "body"),
    )


def _is_turn(path: Path) -> bool:
    return path.stem.endswith(("_responses", "_completions"))
