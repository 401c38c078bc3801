"""The model is told of the environment what the request says, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.environment_context import with_message
from codexrelay.protocol.relay_fields import RelayFields, split

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

SYSTEM: JsonObject = {"role": "developer", "content": "Be brief."}
TOOLS: JsonObject = {"type": "additional_tools", "tools": []}
USER: JsonObject = {"role": "user", "content": "hi"}
CWD = RelayFields(environment={"cwd": "/p"})


def text_of(environment: JsonObject) -> str:
    [message, _] = with_message([USER], RelayFields(environment=environment))
    assert isinstance(message, dict)
    assert message["role"] == "user"
    [part] = message["content"]
    return str(part["text"])


def test_only_what_is_supplied_is_told_in_one_message() -> None:
    assert text_of({"shell": "zsh", "cwd": "/p", "network_access": False}) == (
        "<environment_context>\n"
        "  <cwd>/p</cwd>\n"
        "  <network_access>false</network_access>\n"
        "  <shell>zsh</shell>\n"
        "</environment_context>"
    )


def test_a_whole_block_is_told_as_it_is() -> None:
    assert text_of({"codex_environment_context": "as I said — ✓", "cwd": "/p"}) == "as I said — ✓"


@pytest.mark.parametrize("environment", [{}, {"cwd": ""}, {"cwd": None}])
def test_where_nothing_is_supplied_nothing_is_added(environment: JsonObject) -> None:
    items = [USER]
    assert with_message(items, RelayFields(environment=environment)) is items


def test_it_stands_behind_what_leads_the_conversation() -> None:
    items: list[Json] = [TOOLS, SYSTEM, USER, SYSTEM]
    told = with_message(items, CWD)
    assert [*told[:2], *told[3:]] == items
    assert with_message([SYSTEM], CWD)[0] is SYSTEM


@pytest.mark.parametrize("value", [["/p"], {"type": "x"}])
def test_what_is_no_text_is_refused(value: Json) -> None:
    with pytest.raises(RequestError) as caught:
        with_message([USER], RelayFields(environment={"sandbox_mode": value}))
    assert caught.value.param == "sandbox_mode"


def test_what_is_refused_inside_extra_body_is_named_there() -> None:
    _, said = split({"model": "m", "extra_body": {"cwd": ["/p"]}})
    with pytest.raises(RequestError) as caught:
        with_message([USER], said)
    assert caught.value.param == "extra_body.cwd"
    assert "`extra_body.cwd`" in caught.value.message
