"""The recordings in this repository hold what programs say, and nothing of anybody."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from codexrelay.protocol.raw import parse
from harness.compat.command import DRIVERS
from harness.compat.recording import MARKS, prompt_for
from harness.compat.verdict import CLIENT_KEY
from tests.profiles.recorded import RECORDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codexrelay.protocol.raw import Json

FILES = sorted(RECORDINGS.glob("*/*.json"))
#: Longer is somebody's text: no name, enum or pattern of the programs' is.
LONGEST = 64
REPLACED = re.compile(r"<text: \d+ characters>")
#: What the scenario itself made them say.
OURS = re.compile("|".join(re.escape(prompt_for(mark)) for mark in MARKS))
#: The simulated model's own words.
ARGUMENTS = ("arguments", "input")
FORBIDDEN = {
    "a key": re.compile(rf"\bsk-|\beyJ|Bearer (?!<token>)|{re.escape(CLIENT_KEY)}"),
    "an address of mail": re.compile(r"[\w.+-]+@[\w-]+\.\w"),
    "a folder": re.compile(
        r"(?<![\w./])/(tmp|home(?!/user)|root(?!\"|\\\")|work|Users|var|private)\b"
    ),
    "a port": re.compile(r"127\.0\.0\.1:(?!8787\b)|localhost"),
    "a time": re.compile(r"(?<!\d)1[6-9]\d{8}(\d{3})?(?!\d)"),
    "an id of the run": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-(?!4000-8000-0{8}\d{4})[0-9a-f]{4}-"),
    "an operating system": re.compile(r"Linux|Darwin|Windows|Debian|Ubuntu|x86_64|x64|arm64"),
}


def texts(value: Json, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the key that it stands at, those inside JSON texts included."""
    match value:
        case dict():
            for name, inner in value.items():
                yield key, name
                yield from texts(inner, name)
        case list():
            for inner in value:
                yield from texts(inner, key)
        case str() if value.startswith("{"):
            yield from texts(parse(value), key)
        case str():
            yield key, value
        case _:
            pass


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recording_tells_of_no_person_no_machine_and_no_text(path: Path) -> None:
    content = path.read_text("utf-8")
    assert {
        what: found for what, rule in FORBIDDEN.items() if (found := rule.findall(content))
    } == {}
    long = [
        (key, text)
        for key, text in texts(json.loads(content))
        if len(text) > LONGEST and key not in ARGUMENTS and not OURS.search(text)
    ]
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_texts_of_others_are_replaced_however_short_they_are(path: Path) -> None:
    for key, text in texts(json.loads(path.read_bytes())["body"]):
        if key in ("description", "instructions", "definition", "text", "content", "output"):
            ours = OURS.search(text) or text.strip() in MARKS
            assert ours or REPLACED.fullmatch(text) or text in NAMES_AT_SUCH_KEYS, (key, text)


#: Properties of tools have such names too; below them there are only the words of JSON schema.
NAMES_AT_SUCH_KEYS = frozenset(
    {"type", "string", "description", "enum", "default", "format", "text", "verbosity"}
    | {"input_text", "summary_text", "low", "medium", "high", "title", "items", "array", "number"}
)


def test_every_way_to_run_a_program_is_recorded_in_two_conversations() -> None:
    recorded = {
        (path.parent.name, json.loads(path.read_bytes())["recorded"]["conversation"])
        for path in FILES
    }
    variants = [variant.name for driver in DRIVERS for variant in driver.variants]
    assert recorded == {(name, number) for name in variants for number in (1, 2)}


def test_a_recording_says_where_it_comes_from() -> None:
    for path in FILES:
        about = json.loads(path.read_bytes())["recorded"]
        assert set(about) == {"program", "version", "date", "relay", "origin", "conversation"}
        assert about["origin"] == "simulator"
        assert path.parent.name.startswith(about["program"])
