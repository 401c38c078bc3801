"""A conversation with one tool, held by the openai SDK as a printed block sets it up.

`sdk_client.py BLOCK PROTOCOL SHAPE PROMPT`; BLOCK is the file that holds the block, PROTOCOL `chat`
or `responses`, SHAPE `streamed` or `whole`. Prints the final text. A script of its own, because
something that may hang, be interrupted or end with a traceback wants a process.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING, Final, cast

import attrs
import openai

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
    from openai.types.chat import ChatCompletionFunctionToolParam as ChatTool
    from openai.types.responses import FunctionToolParam, Response, ResponseInputItemParam

TURNS: Final = 4
INSTRUCTIONS: Final = "You are terse."
TOOL: Final = "bash"
PARAMETERS: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
}
CHAT_TOOL: Final[ChatTool] = {
    "type": "function",
    "function": {"name": TOOL, "description": "Run a command.", "parameters": PARAMETERS},
}
RESPONSES_TOOL: Final[FunctionToolParam] = {
    "type": "function",
    "name": TOOL,
    "description": "Run a command.",
    "parameters": PARAMETERS,
    "strict": False,
}


@attrs.frozen(kw_only=True)
class Way:
    """How requests are made: what the block says, and the shape of their answers."""

    client: openai.OpenAI
    model: str
    extra_body: dict[str, object]
    streamed: bool


def run_tool(name: str, arguments: str) -> str:
    """Run the command that the model asked for; return what it printed."""
    if name != TOOL:
        return f"there is no tool {name}"
    command = json.loads(arguments)["command"]
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    return done.stdout


def ask_chat(way: Way, messages: list[ChatCompletionMessageParam]) -> ChatCompletion:
    """Make one chat request."""
    if not way.streamed:
        return way.client.chat.completions.create(
            model=way.model, messages=messages, tools=[CHAT_TOOL], extra_body=way.extra_body
        )
    with way.client.chat.completions.stream(
        model=way.model,
        messages=messages,
        tools=[CHAT_TOOL],
        stream_options={"include_usage": True},
        extra_body=way.extra_body,
    ) as stream:
        return stream.get_final_completion()


def chat(way: Way, prompt: str) -> str:
    """Hold the conversation over /v1/chat/completions; return the final text."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": prompt},
    ]
    for _ in range(TURNS):
        message = ask_chat(way, messages).choices[0].message
        calls = [call for call in message.tool_calls or () if call.type == "function"]
        if not calls:
            return message.content or ""
        messages.append(
            {
                "role": "assistant",
                "content": message.content,
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {
                            "name": call.function.name,
                            "arguments": call.function.arguments,
                        },
                    }
                    for call in calls
                ],
            }
        )
        messages += [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": run_tool(call.function.name, call.function.arguments),
            }
            for call in calls
        ]
    return ""


def ask_responses(way: Way, items: list[ResponseInputItemParam]) -> Response:
    """Make one responses request, without state on the server."""
    if not way.streamed:
        return way.client.responses.create(
            model=way.model,
            instructions=INSTRUCTIONS,
            input=items,
            tools=[RESPONSES_TOOL],
            store=False,
            include=["reasoning.encrypted_content"],
            extra_body=way.extra_body,
        )
    with way.client.responses.stream(
        model=way.model,
        instructions=INSTRUCTIONS,
        input=items,
        tools=[RESPONSES_TOOL],
        store=False,
        include=["reasoning.encrypted_content"],
        extra_body=way.extra_body,
    ) as stream:
        return stream.get_final_response()


def responses(way: Way, prompt: str) -> str:
    """Hold the conversation over /v1/responses; return the final text."""
    items: list[ResponseInputItemParam] = [{"role": "user", "content": prompt}]
    for _ in range(TURNS):
        answer = ask_responses(way, items)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return answer.output_text
        items += [
            cast("ResponseInputItemParam", item.model_dump(exclude_none=True))
            for item in answer.output
        ]
        items += [
            {
                "type": "function_call_output",
                "call_id": call.call_id,
                "output": run_tool(call.name, call.arguments),
            }
            for call in calls
        ]
    return ""


def main() -> None:
    """Read the arguments, hold the conversation, print its last text."""
    path, protocol, shape, prompt = sys.argv[1:]
    # Not as a program: its last lines are for people who try it.
    block = runpy.run_path(path)
    way = Way(
        client=block["client"],
        model=block["model"],
        extra_body=block["extra_body"],
        streamed=shape == "streamed",
    )
    print({"chat": chat, "responses": responses}[protocol](way, prompt))


if __name__ == "__main__":
    main()
