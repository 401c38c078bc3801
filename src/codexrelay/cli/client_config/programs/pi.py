"""pi: a provider in its list of models (measured with 0.73.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.cli.client_config.programs.program import (
    CAPABILITIES_HEADER,
    KEY_VARIABLE,
    NAME,
    Block,
    Program,
    Target,
    as_json,
)

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_APIS: Final = {"chat": "openai-completions", "responses": "openai-responses"}
_OUTPUT_TOKENS: Final = 64_000


class Pi:
    """`pi`."""

    name: Final = "pi"
    title: Final = "pi"
    protocols: Final = ("responses", "chat")

    def block(self, target: Target) -> Block:
        """Return a list of models with the relay as a provider."""
        model: JsonObject = {
            "id": target.model,
            "name": target.model,
            "reasoning": True,
            "input": ["text", "image"],
            "contextWindow": target.context_tokens,
            "maxTokens": _OUTPUT_TOKENS,
        }
        provider: JsonObject = {
            "baseUrl": target.api_url,
            "api": _APIS[target.protocol],
            # It takes the name of a variable for the variable's value, anything else as it is.
            "apiKey": KEY_VARIABLE if target.key is None else target.key,
            "headers": {CAPABILITIES_HEADER: target.capabilities_text},
            "models": [model],
        }
        return Block(
            path="~/.pi/agent/models.json",
            language="json",
            text=as_json({"providers": {NAME: provider}}),
            use=f"pi --provider {NAME} --model {target.model}, or /model in pi",
            optional="headers",
        )


PROGRAM: Final[Program] = Pi()
