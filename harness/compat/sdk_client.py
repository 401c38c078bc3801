"""A conversation with one tool, held by the openai SDK as a printed block sets it up.

`sdk_client.py [--edits] [--picture FILE] BLOCK PROTOCOL SHAPE PROMPT`; BLOCK is the
file that holds the block, PROTOCOL `chat` or `responses`, SHAPE `streamed` or `whole`. What stands
on standard input belongs to the prompt. Prints the final text, and thoughts on stderr. A script of
its own, because something that may hang, be interrupted or end with a traceback wants a process.
"""

from __future__ import annotations

import argparse
import base64
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
import openai

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
    from openai.types.chat import ChatCompletionFunctionToolParam as ChatTool
    from openai.types.chat import ChatCompletionMessageToolCallUnion as ChatCall
    from openai.types.chat import ChatCompletionMessageToolCallUnionParam as ChatCallParam
    from openai.types.chat import ChatCompletionToolUnionParam as AnyChatTool
    from openai.types.responses import Response, ResponseInputItemParam, ToolParam

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
RESPONSES_TOOL: Final[ToolParam] = {
    "type": "function",
    "name": TOOL,
    "description": "Run a command.",
    "parameters": PARAMETERS,
    "strict": False,
}
#: It takes a patch as it is, and no JSON.
PATCH_TOOL: Final = "apply_patch"
PATCH_DESCRIPTION: Final = "Change a file of the project."
CHAT_PATCH_TOOL: Final[AnyChatTool] = {
    "type": "custom",
    "custom": {"name": PATCH_TOOL, "description": PATCH_DESCRIPTION},
}
RESPONSES_PATCH_TOOL: Final[ToolParam] = {
    "type": "custom",
    "name": PATCH_TOOL,
    "description": PATCH_DESCRIPTION,
}


@attrs.frozen(kw_only=True)
class Way:
    """How requests are made: what the block says, and the shape of their answers."""

    client: openai.OpenAI
    model: str
    extra_body: dict[str, object]
    streamed: bool
    #: Files may be changed.
    edits: bool
    #: A file that is shown with the prompt.
    picture: Path | None

    @property
    def picture_url(self) -> str | None:
        """Return the picture in an address."""
        if self.picture is None:
            return None
        return f"data:image/png;base64,{base64.b64encode(self.picture.read_bytes()).decode()}"


def apply_patch(patch: str) -> str:
    """Change the one line of the one file that a patch is about."""
    lines = patch.splitlines()
    name = next(line for line in lines if line.startswith("*** Update File: "))
    old = next(line[1:] for line in lines if line.startswith("-"))
    new = next(line[1:] for line in lines if line.startswith("+"))
    path = Path(name.partition(": ")[2])
    path.write_text(path.read_text("utf-8").replace(f"{old}\n", f"{new}\n"), "utf-8")
    return f"changed {path.name}"


def run_tool(name: str, arguments: str) -> str:
    """Run the command that the model asked for; return what it printed."""
    if name == PATCH_TOOL:
        return apply_patch(json.loads(arguments)["input"])
    if name != TOOL:
        return f"there is no tool {name}"
    command = json.loads(arguments)["command"]
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    return done.stdout


def run_chat_call(call: ChatCall) -> str:
    """Run what a chat completion calls; return what comes of it."""
    if call.type == "custom":
        return apply_patch(call.custom.input)
    return run_tool(call.function.name, call.function.arguments)


def as_given(call: ChatCall) -> ChatCallParam:
    """Return a call as a request has it."""
    if call.type == "custom":
        return {
            "id": call.id,
            "type": "custom",
            "custom": {"name": call.custom.name, "input": call.custom.input},
        }
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": call.function.arguments},
    }


def ask_chat(way: Way, messages: list[ChatCompletionMessageParam]) -> ChatCompletion:
    """Make one chat request."""
    tools: list[AnyChatTool] = [CHAT_TOOL, *([CHAT_PATCH_TOOL] if way.edits else [])]
    if not way.streamed:
        return way.client.chat.completions.create(
            model=way.model, messages=messages, tools=tools, extra_body=way.extra_body
        )
    with way.client.chat.completions.stream(
        model=way.model,
        messages=messages,
        tools=tools,
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
    if way.picture_url is not None:
        messages[-1] = {
            "role": "user",
            "content": [
                {"type": "text", "text": prompt},
                {"type": "image_url", "image_url": {"url": way.picture_url}},
            ],
        }
    for _ in range(TURNS):
        message = ask_chat(way, messages).choices[0].message
        # Not a field of the API's own, but what everybody calls it.
        print((message.model_extra or {}).get("reasoning_content", ""), file=sys.stderr)
        calls = message.tool_calls or []
        if not calls:
            return message.content or ""
        messages.append(
            {
                "role": "assistant",
                "content": message.content,
                "tool_calls": [as_given(call) for call in calls],
            }
        )
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": run_chat_call(call)}
            for call in calls
        ]
    return ""


def ask_responses(way: Way, items: list[ResponseInputItemParam]) -> Response:
    """Make one responses request, without state on the server."""
    tools = [RESPONSES_TOOL, *([RESPONSES_PATCH_TOOL] if way.edits else [])]
    if not way.streamed:
        return way.client.responses.create(
            model=way.model,
            instructions=INSTRUCTIONS,
            input=items,
            tools=tools,
            store=False,
            include=["reasoning.encrypted_content"],
            extra_body=way.extra_body,
        )
    with way.client.responses.stream(
        model=way.model,
        instructions=INSTRUCTIONS,
        input=items,
        tools=tools,
        store=False,
        include=["reasoning.encrypted_content"],
        extra_body=way.extra_body,
    ) as stream:
        return stream.get_final_response()


def responses(way: Way, prompt: str) -> str:
    """Hold the conversation over /v1/responses; return the final text."""
    items: list[ResponseInputItemParam] = [{"role": "user", "content": prompt}]
    if way.picture_url is not None:
        items[-1] = {
            "role": "user",
            "content": [
                {"type": "input_text", "text": prompt},
                {"type": "input_image", "image_url": way.picture_url, "detail": "auto"},
            ],
        }
    for _ in range(TURNS):
        answer = ask_responses(way, items)
        calls = [item for item in answer.output if item.type == "function_call"]
        patches = [item for item in answer.output if item.type == "custom_tool_call"]
        for thought in (item for item in answer.output if item.type == "reasoning"):
            print(*(part.text for part in thought.summary), sep="\n", file=sys.stderr)
        if not calls and not patches:
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
        items += [
            {
                "type": "custom_tool_call_output",
                "call_id": patch.call_id,
                "output": apply_patch(patch.input),
            }
            for patch in patches
        ]
    return ""


def main() -> None:
    """Read the arguments, hold the conversation, print its last text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--edits", action="store_true")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("block")
    parser.add_argument("protocol", choices=["chat", "responses"])
    parser.add_argument("shape", choices=["streamed", "whole"])
    parser.add_argument("prompt")
    given = parser.parse_args()
    # Not as a program: its last lines are for people who try it.
    block = runpy.run_path(given.block)
    way = Way(
        client=block["client"],
        model=block["model"],
        extra_body=block["extra_body"],
        streamed=given.shape == "streamed",
        edits=given.edits,
        picture=given.picture,
    )
    prompt = f"{given.prompt}\n{sys.stdin.read()}".rstrip()
    print({"chat": chat, "responses": responses}[given.protocol](way, prompt))


if __name__ == "__main__":
    main()
