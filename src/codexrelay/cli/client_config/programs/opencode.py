"""OpenCode: a provider in its configuration (measured with 1.18.33).

The two packages that it names are part of the program. Of the Responses one it is known that it
drops fields it does not know, so capabilities ride in a header there.
"""

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

_PACKAGES: Final = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai"}
#: The most that it lets a model write.
_OUTPUT_TOKENS: Final = 64_000


class OpenCode:
    """`opencode`."""

    name: Final = "opencode"
    title: Final = "OpenCode"
    protocols: Final = ("responses", "chat")

    def block(self, target: Target) -> Block:
        """Return a configuration with the relay as a provider, and its model as the chosen one."""
        options: JsonObject = {
            "baseURL": target.api_url,
            "apiKey": f"{{env:{KEY_VARIABLE}}}" if target.key is None else target.key,
        }
        model: JsonObject = {
            "name": target.model,
            "reasoning": True,
            "tool_call": True,
            "attachment": True,
            # Without them it tells the model that it cannot read pictures, and sends none.
            "modalities": {"input": ["text", "image"], "output": ["text"]},
            "limit": {"context": target.context_tokens, "output": _OUTPUT_TOKENS},
        }
        if target.protocol == "chat":
            model["options"] = {"codex_capabilities": {**target.capabilities}}
            optional = f"options.codex_capabilities of the model {target.model}"
        else:
            options["headers"] = {CAPABILITIES_HEADER: target.capabilities_text}
            optional = "options.headers"
        provider: JsonObject = {
            "npm": _PACKAGES[target.protocol],
            "name": NAME,
            "options": options,
            "models": {target.model: model},
        }
        config: JsonObject = {
            # Without it OpenCode writes it into the file itself.
            "$schema": "https://opencode.ai/config.json",
            "model": f"{NAME}/{target.model}",
            # For titles: its own choice would be a model that the relay may not have.
            "small_model": f"{NAME}/{target.model}",
            "provider": {NAME: provider},
        }
        return Block(
            path="~/.config/opencode/opencode.json",
            language="json",
            text=as_json(config),
            use="opencode",
            optional=optional,
        )


PROGRAM: Final[Program] = OpenCode()
