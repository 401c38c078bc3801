"""The client's system text stands where its mode says, and nothing of it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.prompt import DEFAULT_TEXT, Placed, Prompt, led_by, place

if TYPE_CHECKING:
    from codexrelay.protocol.capabilities import PromptMode
    from codexrelay.protocol.raw import JsonObject

AROUND = Prompt(default="D", prepend=("P",), append=("A",))


@pytest.mark.parametrize(
    ("mode", "prompt", "client", "instructions", "at_head"),
    [
        ("codex_default", AROUND, ("S", "T"), "P\n\nD\n\nA", ("S", "T")),
        ("merge_custom", AROUND, ("S", "T"), "P\n\nD\n\nS\n\nT\n\nA", ()),
        ("custom_only", AROUND, ("S", "T"), "P\n\nS\n\nT\n\nA", ()),
        ("codex_default", AROUND, (), "P\n\nD\n\nA", ()),
        ("custom_only", AROUND, (), "P\n\nA", ()),
        ("custom_only", Prompt(default="D"), (), "D", ()),
        ("custom_only", Prompt(default="D"), ("",), "D", ()),
        ("custom_only", Prompt(fallback_to_default=False), (), "", ()),
        ("codex_default", Prompt(), ("S",), DEFAULT_TEXT, ("S",)),
        ("merge_custom", Prompt(default="D"), ("D",), "D", ()),
        ("merge_custom", Prompt(default="D", deduplicate=False), ("D",), "D\n\nD", ()),
    ],
)
def test_each_mode_has_its_place_for_the_text(
    mode: PromptMode,
    prompt: Prompt,
    client: tuple[str, ...],
    instructions: str,
    at_head: tuple[str, ...],
) -> None:
    assert place(mode, prompt, client) == Placed(instructions, at_head)


@given(
    mode=st.sampled_from(["codex_default", "merge_custom", "custom_only"]),
    client=st.lists(st.text()),
    around=st.lists(st.text(), max_size=2),
    deduplicate=st.booleans(),
)
def test_every_character_arrives(
    mode: PromptMode, client: list[str], around: list[str], deduplicate: bool
) -> None:
    prompt = Prompt(prepend=tuple(around), append=tuple(around), deduplicate=deduplicate)
    placed = place(mode, prompt, client)
    for text in client:
        assert text in placed.instructions or text in placed.at_head


def test_the_default_text_is_short_and_speaks_of_no_tool_by_name() -> None:
    assert len(DEFAULT_TEXT) < 600
    assert not {"shell", "apply_patch", "codex"} & set(DEFAULT_TEXT.lower().split())


def test_what_leads_the_input_stands_behind_tools_that_ride_there() -> None:
    user: JsonObject = {"role": "user", "content": "hi"}
    tools: JsonObject = {"type": "additional_tools", "tools": []}
    kinds = [
        item["type"] if "type" in item else item["role"] for item in led_by(("S",), [tools, user])
    ]
    assert kinds == ["additional_tools", "message", "user"]
    assert led_by(("S",), [user])[1] is user
    assert led_by(("S",), []) == [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "S"}],
        }
    ]
