"""A program finds its recording again although its texts have become filler there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codexrelay.protocol.raw import dump, parse
from harness.replay.filled import fits
from harness.replay.ledger import Ledger, Miss, Taken
from harness.replay.matching import key_of
from harness.secrecy.texts import Filler
from tests.fakes.cassettes import cassette, interaction

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject
    from harness.cassettes.model import Cassette

ASKED: dict[str, Any] = {
    "model": "gpt-5.5",
    "instructions": "You are a careful agent.\nToday is 2026-11-28; work in /tmp/run-a_b1/project.",
    "input": [
        {"role": "user", "content": "Run echo mark"},
        {"type": "function_call", "call_id": "call_4f2a9c1d7e8b", "name": "sh", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_4f2a9c1d7e8b", "output": "mark\n"},
    ],
    "tools": [{"type": "function", "name": "sh", "description": "Runs “a” command.\\n"}],
    "prompt_cache_key": "0198c0de-0000-7000-8000-00000000abcd",
}


def filled(asked: JsonObject) -> Json:
    return parse(Filler(keep=("Run echo mark", "mark")).request(dump(asked)))


def test_a_request_fits_what_it_became() -> None:
    assert fits(filled(ASKED), ASKED)
    assert fits(ASKED, ASKED)


def test_what_varies_from_run_to_run_does_not_count() -> None:
    other = ASKED | {
        "instructions": ASKED["instructions"]
        .replace("2026-11-28", "2027-01-31")
        .replace("a_b1", "zzz9"),
        "prompt_cache_key": "0198c0de-0000-7000-8000-0000000012ef",
    }
    assert fits(filled(ASKED), other)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-5.4"},
        {"instructions": "You are a careful agent.\nToday is 2026-11-28."},
        {"instructions": ASKED["instructions"].replace(";", ",")},
        {"tools": []},
        {"tools": [ASKED["tools"][0] | {"name": "bash"}]},
        {"input": ASKED["input"][:2]},
        {"input": [ASKED["input"][0] | {"content": "Run echo Mark"}, *ASKED["input"][1:]]},
        {"stream": True},
    ],
    ids=str,
)
def test_what_says_something_else_does_not_fit(change: dict[str, Any]) -> None:
    assert not fits(filled(ASKED), ASKED | change)


def recorded_filled() -> Cassette:
    one = interaction(request_body=dump(filled(ASKED)))
    return cassette(one)


def taken(ledger: Ledger, body: bytes) -> Taken | Miss:
    one = ledger.recordings[0].interaction
    request = one.request
    return ledger.take(
        key_of(one.track, request.method, request.uri, headers=request.headers, body=body)
    )


def test_a_ledger_plays_it_once_to_whoever_asks_so_and_only_if_it_is_told_to() -> None:
    strict = Ledger.of({"a": recorded_filled()})
    assert isinstance(taken(strict, dump(ASKED)), Miss)
    lenient = Ledger.of({"a": recorded_filled()}, filled=True)
    assert isinstance(taken(lenient, dump(ASKED)), Taken)
    assert lenient.problems() == ()
    assert isinstance(taken(lenient, dump(ASKED)), Miss)
