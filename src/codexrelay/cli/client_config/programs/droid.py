"""Factory Droid: a custom model in its settings, no login needed (measured with 0.225.2).

Over chat it puts an error text of its own into the prompt ("appears to be an OpenAI model") when
the model has a name like OpenAI's; see `models.py` for what is done about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.cli.client_config.programs.program import (
    KEY_VARIABLE,
    NAME,
    Block,
    Program,
    Target,
    as_json,
)

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_PROVIDERS: Final = {"chat": "generic-chat-completion-api", "responses": "openai"}
_OUTPUT_TOKENS: Final = 32_000


class Droid:
    """`droid`."""

    name: Final = "droid"
    title: Final = "Factory Droid"
    protocols: Final = ("responses", "chat")

    def block(self, target: Target) -> Block:
        """Return settings with the relay as a custom model."""
        model: JsonObject = {
            "model": target.model,
            "id": f"custom:{NAME}",
            "index": 0,
            "displayName": NAME,
            "baseUrl": target.api_url,
            "apiKey": f"${{{KEY_VARIABLE}}}" if target.key is None else target.key,
            "provider": _PROVIDERS[target.protocol],
            "maxOutputTokens": _OUTPUT_TOKENS,
            "extraArgs": {"codex_capabilities": {**target.capabilities}},
        }
        return Block(
            path="~/.factory/settings.json",
            language="json",
            text=as_json({"customModels": [model]}),
            use=f"droid exec -m custom:{NAME} PROMPT, or /model in droid",
            optional="extraArgs",
        )


PROGRAM: Final[Program] = Droid()
