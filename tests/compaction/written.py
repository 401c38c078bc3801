"""Histories written for tests: calls and their results, in both dialects."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from codexrelay.compaction.calls import Call
from codexrelay.compaction.results import results_of
from codexrelay.protocol.raw import Json, JsonObject

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name, arguments and output of a call.
Said = tuple[str, JsonObject, Json]


def call(name: str, arguments: Json = None, **more: Json) -> Call:
    """Return a call, with its arguments as an object or as fields."""
    return Call(id="call_1", name=name, arguments=more if arguments is None else arguments)


@functools.cache
def lines(count: int, word: str = "line") -> str:
    """Return so many lines of text, each long enough that forty of them are no small result."""
    return "\n".join(f"{word} {number}: {'x' * 30}" for number in range(count))


def chat(*said: Said) -> JsonObject:
    """Return a Chat request whose history has these calls, each answered at once."""
    messages: list[Json] = [{"role": "system", "content": "Be brief."}, _asked()]
    for number, (name, arguments, output) in enumerate(said):
        function: JsonObject = {"name": name, "arguments": json.dumps(arguments)}
        messages += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": f"call_{number}", "content": output},
        ]
    return {"model": "m", "messages": messages}


def responses(*said: Said) -> JsonObject:
    """Return the same as a Responses request."""
    items: list[Json] = [_asked()]
    for number, (name, arguments, output) in enumerate(said):
        items += [
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA" * 20},
            {
                "type": "function_call",
                "call_id": f"call_{number}",
                "name": name,
                "arguments": json.dumps(arguments),
            },
            {"type": "function_call_output", "call_id": f"call_{number}", "output": output},
        ]
    return {"model": "m", "instructions": "Be brief.", "input": items}


def _asked() -> JsonObject:
    return {"role": "user", "content": "Mend it."}


def outputs(body: JsonObject) -> list[Sequence[str]]:
    """Return the texts of the results in a history, in order."""
    return [result.texts for result in results_of(body)]
