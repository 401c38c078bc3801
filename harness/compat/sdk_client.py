"""A conversation with one tool, held by the openai SDK.

`sdk_client.py URL PROTOCOL SHAPE MODEL PROMPT`; PROTOCOL is `chat` or `responses`, SHAPE `streamed`
or `whole`. Prints the final text. A script of its own, because something that may hang, be
interrupted or end with a traceback wants a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final, cast

import openai

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
    from openai.types.chat import ChatCompletionFunctionToolParam as ChatTool
    from openai.types.responses import FunctionToolParam, Response, ResponseInputItemParam

TURNS: Final = 4
INSTRUCTIONS: Final = "You are terse."
PARAMETERS: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
}
CHAT_TOOL: Final[ChatTool] = {
    "type": "function",
    "function": {"name": "bash", "description": "Run a command.", "parameters": PARAMETERS},
}
RESPONSES_TOOL: Final[FunctionToolParam] = {
    "type": "function",
    "name": "bash",
    "description": "Run a command.",
    "parameters": PARAMETERS,
    "strict": False,
}


def run_tool(arguments: str) -> str:
    """Run the command that the model asked for; return what it printed."""
    command = json.loads(arguments)["command"]
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    return done.stdout


def ask_chat(
    client: openai.OpenAI, *, model: str, messages: list[ChatCompletionMessageParam], streamed: bool
) -> ChatCompletion:
    """Make one chat request."""
    if not streamed:
        return client.chat.completions.create(model=model, messages=messages, tools=[CHAT_TOOL])
    with client.chat.completions.stream(
        model=model,
        messages=messages,
        tools=[CHAT_TOOL],
        stream_options={"include_usage": True},
    ) as stream:
        return stream.get_final_completion()


def chat(client: openai.OpenAI, *, model: str, prompt: str, streamed: bool) -> str:
    """Hold the conversation over /v1/chat/completions; return the final text."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": prompt},
    ]
    for _ in range(TURNS):
        message = (
            ask_chat(client, model=model, messages=messages, streamed=streamed).choices[0].message
        )
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
                "content": run_tool(call.function.arguments),
            }
            for call in calls
        ]
    return ""


def ask_responses(
    client: openai.OpenAI, *, model: str, items: list[ResponseInputItemParam], streamed: bool
) -> Response:
    """Make one responses request, without state on the server."""
    if not streamed:
        return client.responses.create(
            model=model,
            instructions=INSTRUCTIONS,
            input=items,
            tools=[RESPONSES_TOOL],
            store=False,
            include=["reasoning.encrypted_content"],
        )
    with client.responses.stream(
        model=model,
        instructions=INSTRUCTIONS,
        input=items,
        tools=[RESPONSES_TOOL],
        store=False,
        include=["reasoning.encrypted_content"],
    ) as stream:
        return stream.get_final_response()


def responses(client: openai.OpenAI, *, model: str, prompt: str, streamed: bool) -> str:
    """Hold the conversation over /v1/responses; return the final text."""
    items: list[ResponseInputItemParam] = [{"role": "user", "content": prompt}]
    for _ in range(TURNS):
        answer = ask_responses(client, model=model, items=items, streamed=streamed)
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
                "output": run_tool(call.arguments),
            }
            for call in calls
        ]
    return ""


def main() -> None:
    """Read the arguments, hold the conversation, print its last text."""
    url, protocol, shape, model, prompt = sys.argv[1:]
    converse = {"chat": chat, "responses": responses}[protocol]
    client = openai.OpenAI(base_url=url)
    print(converse(client, model=model, prompt=prompt, streamed=shape == "streamed"))


if __name__ == "__main__":
    main()
