"""The scripted conversation between a local model and Codex: what it sends, and how it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.compaction.settings import STUB_MARK
from codexrelay.protocol.raw import get_object, is_object
from harness.demo.mixed.history import chat_messages, input_items, told_results
from harness.demo.mixed.session import FAILED_OVER, MOVED, verdict
from harness.openai_api import chat_checks, responses_checks

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

WARNED = "12:00:00 warning history compaction is off for the rest of this session"


def chat(reads: int) -> JsonObject:
    return {"model": "m", "messages": chat_messages(reads, "And now?")}


def responses(reads: int) -> JsonObject:
    return {"model": "m", "input": input_items(reads, "And now?")}


def test_its_requests_are_such_as_a_strict_server_takes() -> None:
    assert chat_checks.problem_of(chat(3)) is None
    assert responses_checks.problem_of(responses(3)) is None


@pytest.mark.parametrize("body", [chat(2), responses(2)], ids=["chat", "responses"])
def test_results_that_arrive_as_they_were_sent_are_whole(body: JsonObject) -> None:
    assert told_results(body) == ["whole", "whole"]


def test_a_stub_and_anything_else_are_told_apart() -> None:
    body = chat(3)
    results = [
        message
        for message in chat_messages(3, "")
        if is_object(message) and message["role"] == "tool"
    ]
    results[0]["content"] = f"{STUB_MARK} notes.txt: left out"
    results[1]["content"] = "cut"
    assert told_results(body | {"messages": list(results)}) == [
        "stub",
        "3 other characters",
        "whole",
    ]
    assert not get_object(body, "input")


@pytest.mark.parametrize(
    ("log", "good"),
    [
        ([f"{WARNED} client_session={MOVED}", f"{WARNED} client_session={FAILED_OVER}"], True),
        ([f"{WARNED} client_session={MOVED}"], False),
        ([f"{WARNED} client_session={MOVED}"] * 2, False),
        (
            [
                f"{WARNED} client_session={MOVED}",
                f"{WARNED} client_session={FAILED_OVER}",
                f"{WARNED} client_session=another",
            ],
            False,
        ),
    ],
    ids=["one each", "one is missing", "one twice", "one too many"],
)
def test_each_conversation_has_one_warning(log: list[str], *, good: bool) -> None:
    assert all(fact.holds for fact in verdict(log)) is good
