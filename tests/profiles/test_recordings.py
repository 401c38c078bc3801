"""The cassettes in this repository hold what programs say, and nothing of anybody.

What may stay in them: the harness's own prompts, marks and files, and what its simulated model
says; names, enums and schemas; the ids of one run, its day, its moments, its temporary folder, and
the loopback port that the relay names when a connection breaks, all gone when the run is over.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from codexrelay.protocol.raw import parse
from harness.compat.scenarios import SCENARIOS
from harness.compat.verdict import CLIENT_KEY
from harness.taping.cells import said_by_the_model, said_in, without_texts
from tests.profiles.recorded import CASSETTES, cassette

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import Cassette, Headers, Interaction
    from harness.compat.scenarios import Scenario

FILES: Final = sorted(CASSETTES.glob("*/*/*.yaml"))
_BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
#: Longer is somebody's text: no name, enum or pattern of the programs' is.
LONGEST: Final = 64
#: What is left of a text: characters have the filler of their kind, punctuation and space stay.
FILLER: Final = re.compile("[x0\u00d7\u2715\U0001d431\\W_]*")
#: Keys whose texts are filler however short they are.
TEXTS: Final = frozenset(
    {"content", "definition", "description", "instructions", "output", "text", "title"}
)
#: Keys whose texts are the simulated model's own: what it calls tools with.
OF_THE_MODEL: Final = frozenset({"arguments", "input"})
#: The harness's picture, and reasoning, which is a stand-in with a number.
LONG_AND_OURS: Final = {
    "image_url": re.compile(r"data:image/png;base64,[\w+/=]+"),
    "url": re.compile(r"data:image/png;base64,[\w+/=]+"),
    "encrypted_content": re.compile(r"gAAAA[x\-_]+\d*=*"),
}
#: By kind: what it looks like, and what must be in a text for it to be there, which is found fast.
FORBIDDEN: Final = {
    "a token": (re.compile(r"Bearer (?!x)"), ("Bearer ",)),
    "a key": (
        re.compile(rf"\bsk-(?!x)|\beyJ|{re.escape(CLIENT_KEY)}"),
        ("sk-", "eyJ", CLIENT_KEY),
    ),
    "an address of mail": (re.compile(r"@(?<=[\w.+-]@)[\w-]+\.\w"), ("@",)),
    "a folder": (
        re.compile(
            r"(?<![\w./])/(tmp(?!/codexrelay-compat-)|home|root(?!\"|\\+\"|$)|work|Users|var|private)\b"
        ),
        ("/tmp", "/home", "/root", "/work", "/Users", "/var", "/private"),
    ),
    "another host": (
        re.compile(r"https?://(?!relay/|openai-codex/|json-schema\.org/)[^\s\"'\\]*"),
        ("http://", "https://"),
    ),
    "an operating system": (
        re.compile(r"Linux|Darwin|Windows|Debian|Ubuntu|x86_64|\bx64\b|arm64"),
        ("Linux", "Darwin", "Windows", "Debian", "Ubuntu", "x86_64", "x64", "arm64"),
    ),
}
#: The relay's own name of itself upstream, which is no machine's.
OF_THE_RELAY: Final = re.compile(r"codex_exec/\S+ \(Debian 12\.0\.0; x86_64\) xterm")

every_cassette = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(CASSETTES).with_suffix("").as_posix()
)


@every_cassette
def test_a_recording_tells_of_no_person_and_no_machine(path: Path) -> None:
    for one in cassette(path).interactions:
        told = OF_THE_RELAY.sub("", "\n".join(everything(one)))
        assert forbidden_in(told) == {}, one.number


def forbidden_in(text: str) -> dict[str, list[str]]:
    return {
        what: found
        for what, (rule, hints) in FORBIDDEN.items()
        if any(hint in text for hint in hints) and (found := rule.findall(text))
    }


def everything(one: Interaction) -> Iterator[str]:
    """Yield what was asked and answered, as text."""
    yield one.request.uri
    yield from (f"{name}: {value}" for name, value in headers_of(one))
    yield one.request.body.decode()
    yield one.response.body.decode("utf-8", "replace")
    yield from (frame.data.decode("utf-8", "replace") for frame in one.response.stream.frames)


def headers_of(one: Interaction) -> Headers:
    return (*one.request.headers, *one.response.headers)


@every_cassette
def test_the_texts_of_others_are_filler_however_short_they_are(path: Path) -> None:
    recorded = cassette(path)
    assert texts_of_others(recorded, _BY_NAME[path.parent.name]) == []


def texts_of_others(recorded: Cassette, scenario: Scenario) -> list[tuple[str, str]]:
    """Return what the requests of a cassette say that is nobody's filler, with its keys."""
    phrases = {*said_in(scenario), *said_by_the_model(recorded)} - {""}
    # The longer one first: it may begin with the other.
    ordered = sorted(phrases, key=len, reverse=True)
    ours = re.compile("|".join(map(re.escape, ordered)))
    return [
        (key, text)
        for one in recorded.interactions
        for key, text in (*texts(parsed(one)), *of_headers(one))
        if (key in TEXTS or len(text) > LONGEST)
        and not (FILLER.fullmatch(text) or FILLER.fullmatch(ours.sub("", text)))
        and not (key in LONG_AND_OURS and LONG_AND_OURS[key].fullmatch(text))
    ]


def parsed(one: Interaction) -> Json:
    return parse(one.request.body) if one.request.body.startswith(b"{") else None


def of_headers(one: Interaction) -> Iterator[tuple[str, str]]:
    """Yield the texts in the headers that hold JSON, as Codex's do."""
    for name, value in one.request.headers:
        if value.startswith("{"):
            yield from texts(value, name)


def texts(value: Json, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the key that it stands at, those inside JSON texts included."""
    match value:
        case dict():
            for name, inner in value.items():
                yield "", name
                yield from texts(inner, name)
        case list():
            for inner in value:
                yield from texts(inner, key)
        case str() if key in OF_THE_MODEL:
            pass
        case str() if key not in TEXTS and value.startswith("{") and is_json(value):
            yield from texts(parse(value), key)
        case str():
            yield key, value
        case _:
            pass


def is_json(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


@every_cassette
def test_a_recording_says_where_it_comes_from(path: Path) -> None:
    about = cassette(path).about
    assert about.origin == "simulator"
    assert path.parts[-3:-1] == (about.client, about.scenario)
    assert None not in (about.client_version, about.date, about.relay, about.began_unix_s)


# --- that it can fail


@pytest.fixture
def conversation() -> Cassette:
    return cassette(CASSETTES / "sdk" / "tool" / "sdk-chat.yaml")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a token", "authorization: Bearer Ab12"),
        ("a key", '"key": "sk-Ab12"'),
        ("a key", f"x-api-key: {CLIENT_KEY}"),
        ("an address of mail", '"user": "jo.doe@example.org"'),
        ("a folder", '"cwd": "/home/jo/project"'),
        ("a folder", '"cwd": "/tmp/jo"'),
        ("another host", "https://intranet.example/x"),
        ("an operating system", "x-stainless-os: Linux"),
    ],
)
def test_what_tells_of_somebody_is_noticed(what: str, text: str) -> None:
    assert what in forbidden_in(text)


@pytest.mark.parametrize(
    "text", ["A prompt of somebody's", "said relay-compat-4711 to me", '{"answer": "y"}']
)
def test_a_text_of_somebodys_is_noticed(conversation: Cassette, text: str) -> None:
    one = conversation.track("client")[0]
    body = {"messages": [{"role": "system", "content": text}]}
    asked = attrs.evolve(one.request, body=json.dumps(body).encode())
    changed = attrs.evolve(conversation, interactions=(attrs.evolve(one, request=asked),))
    scenario = _BY_NAME["tool"]
    assert texts_of_others(changed, scenario) != []
    assert texts_of_others(without_texts(changed, keep=said_in(scenario)), scenario) == []
