"""What Droid's user is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.profiles.droid import PROFILE

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

SYSTEM: Final[JsonObject] = {"role": "system", "content": "You are an agent."}
COMPLAINT: Final[JsonObject] = {
    "role": "user",
    "content": 'Error: Your custom model "gpt-5.5-high" appears to be another one.',
}
PROMPT: Final[JsonObject] = {"role": "user", "content": "go"}


def chat(*messages: Json) -> JsonObject:
    return {"model": "gpt-5.5", "messages": list(messages)}


def test_who_uses_a_gpt_like_name_over_chat_is_told_of_an_alias() -> None:
    (hint,) = PROFILE.hints({}, chat(SYSTEM, COMPLAINT, PROMPT))
    assert "'gpt-5.5-high'" in hint
    assert "`models.aliases: {relay-model: gpt-5.5}`" in hint
    assert '`"model": "relay-model"`' in hint


def test_the_header_that_comes_with_such_a_name_will_do() -> None:
    (hint,) = PROFILE.hints({"openai-platform": "org-1"}, chat(SYSTEM, PROMPT))
    assert "'gpt-5.5'" in hint


@pytest.mark.parametrize(
    "body",
    [chat(SYSTEM, PROMPT), {"model": "gpt-5.5", "input": [PROMPT]}, chat(), chat(None, 1, "text")],
    ids=["another name", "Responses", "no messages", "no messages at all"],
)
def test_who_does_not_is_told_nothing(body: JsonObject) -> None:
    headers = {"openai-platform": "org-1"} if "input" in body else {}
    assert PROFILE.hints(headers, body) == ()
