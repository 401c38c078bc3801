"""A simulated model that calls `shell`, whatever tools the client has."""

from __future__ import annotations

import pytest

from codexrelay.protocol.raw import JsonObject, parse_object
from harness.simulator.script import Reasoning, script_for
from harness.simulator.tools import ToolCall
from tests.fakes.simulated import request, user

BASH: JsonObject = {"type": "function", "name": "bash", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("directive", "more"),
    [("[sim foreign_shell]", {}), ("[sim foreign_shell=/tmp]", {"workdir": "/tmp"})],
    ids=["where it is", "in a folder"],
)
def test_a_directive_lets_the_model_call_a_tool_that_the_client_has_not(
    directive: str, more: JsonObject
) -> None:
    asked = user(f"Run the shell command 'ls -1'. {directive}")
    thought, call = script_for(request(asked, tools=[BASH])).items
    assert isinstance(thought, Reasoning)
    assert isinstance(call, ToolCall)
    assert (call.tool.name, call.tool.custom) == ("shell", False)
    assert parse_object(call.payload) == {"command": ["bash", "-lc", "ls -1"], **more}
