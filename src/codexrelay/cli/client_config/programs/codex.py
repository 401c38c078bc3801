"""Codex CLI: a provider in its configuration (measured with 0.169.0). It speaks Responses only."""

from __future__ import annotations

from typing import Final

from codexrelay.cli.client_config.programs.program import (
    CAPABILITIES_HEADER,
    KEY_VARIABLE,
    NAME,
    Block,
    Program,
    Target,
    quoted,
)

_TEXT: Final = """\
model = {model}
model_provider = {name}

[model_providers.{key}]
name = {name}
base_url = {url}
wire_api = "responses"
supports_websockets = true
"""


class Codex:
    """`codex`."""

    name: Final = "codex"
    title: Final = "Codex CLI"
    protocols: Final = ("responses",)

    def block(self, target: Target) -> Block:
        """Return a configuration with the relay as the chosen provider, over a WebSocket.

        Where the relay is reached through something that carries none, Codex CLI turns to HTTP.

        A key is a variable's always: Codex CLI has no other place for one. Without it, it sends
        none, which is as good where the relay wants none.
        """
        text = _TEXT.format(
            model=quoted(target.model), name=quoted(NAME), key=NAME, url=quoted(target.api_url)
        )
        if target.key is None:
            text += f"env_key = {quoted(KEY_VARIABLE)}\n"
        header = f"{quoted(CAPABILITIES_HEADER)} = {quoted(target.capabilities_text)}"
        return Block(
            path="~/.codex/config.toml",
            language="toml",
            text=f"{text}http_headers = {{ {header} }}\n",
            use="codex (the first two lines must stand above every [table] of the file)",
            optional="http_headers",
        )


PROGRAM: Final[Program] = Codex()
