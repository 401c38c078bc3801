"""The official Python SDK (measured with 3.54): the start of a program of its user's.

As a module it gives `client`, `model` and `extra_body`; run by itself it asks one question.
"""

from __future__ import annotations

from typing import Final

from codexrelay.cli.client_config.programs.program import (
    KEY_VARIABLE,
    Block,
    Program,
    Target,
    quoted,
)

_TEXT: Final = """\
{imports}from openai import OpenAI

client = OpenAI(base_url={url}, api_key={key})
model = {model}
extra_body = {{"codex_capabilities": {capabilities}}}

if __name__ == "__main__":
    {call}
"""
_CALLS: Final = {
    "responses": """\
response = client.responses.create(model=model, input="Say hello.", extra_body=extra_body)
    print(response.output_text)""",
    "chat": """\
completion = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say hello."}],
        extra_body=extra_body,
    )
    print(completion.choices[0].message.content)""",
}


class OpenAISdk:
    """`openai`."""

    name: Final = "openai"
    title: Final = "OpenAI SDK"
    protocols: Final = ("responses", "chat")

    def block(self, target: Target) -> Block:
        """Return the start of a program."""
        by_variable = target.key is None
        capabilities = ", ".join(
            f"{quoted(key)}: {quoted(value) if isinstance(value, str) else value}"
            for key, value in target.capabilities.items()
        )
        return Block(
            path="hello.py",
            language="python",
            text=_TEXT.format(
                imports="import os\n\n" if by_variable else "",
                url=quoted(target.api_url),
                key=f'os.environ["{KEY_VARIABLE}"]' if target.key is None else quoted(target.key),
                model=quoted(target.model),
                capabilities=f"{{{capabilities}}}",
                call=_CALLS[target.protocol],
            ),
            use="python hello.py",
            optional="extra_body",
        )


PROGRAM: Final[Program] = OpenAISdk()
