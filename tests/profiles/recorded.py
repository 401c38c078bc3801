"""What real programs have sent: this repository's own recordings, and captures that may lie beside.

`python -m harness compat --record cassettes/requests` makes the recordings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from codexrelay.protocol.raw import JsonObject, get_list, get_object, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "cassettes" / "requests"
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
    #: As sent.
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


def recordings_of(profile: str) -> list[Sent]:
    """Return the recorded requests of a profile's program, row by row of the matrix."""
    program = _PROGRAMS.get(profile, profile)
    found = [sent for sent, about in _recordings() if about.get("program") == program]
    assert found, (
        f"the profile {profile} has no recordings: its program needs a driver in "
        "harness/compat/drivers (and, if that has another name, a line in this module), and then "
        "`python -m harness compat --record cassettes/requests --only PROGRAM`"
    )
    return found


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


def _recordings() -> Iterator[tuple[Sent, JsonObject]]:
    for path in sorted(RECORDINGS.glob("*/*.json")):
        content = json.loads(path.read_bytes())
        if content["method"] == "POST":
            about = get_object(content, "recorded")
            conversation = f"{path.parent.name} {about.get('conversation')}"
            yield _sent(content, path, conversation=conversation), about


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
