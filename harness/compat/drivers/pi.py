"""pi. Everything here was measured with 0.73.1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import Driver, NpmProgram, Order, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

_APIS: Final = {"chat": "openai-completions", "responses": "openai-responses"}


class Pi:
    """`pi -p`: the answer on stdout."""

    name: Final = "pi"
    program: Final = NpmProgram(
        package="@mariozechner/pi-coding-agent",
        version="0.73.1",
        paths=("@mariozechner/pi-coding-agent/dist/cli.js",),
        runtime=("node",),
    )
    variants: Final = (
        Variant(name="pi-chat", protocol="chat", model="gpt-5.5"),
        Variant(name="pi-responses", protocol="responses", model="gpt-5.5"),
    )
    interrupted_status: Final = 130
    logs: Final[tuple[str, ...]] = ()

    def files(self, order: Order) -> Mapping[str, str]:
        """Return a model list with the relay as its one provider."""
        model = {
            "id": order.variant.model,
            "name": order.variant.model,
            "reasoning": True,
            "input": ["text", "image"],
            "contextWindow": 272_000,
            "maxTokens": 64_000,
        }
        provider = {
            "baseUrl": order.api_url,
            "api": _APIS[order.variant.protocol],
            "apiKey": order.client_key,
            "models": [model],
        }
        return {"agent/models.json": json.dumps({"providers": {"relay": provider}}, indent=1)}

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        chosen = ("--provider", "relay", "--model", order.variant.model)
        return ("--offline", "-p", *chosen, order.prompt)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Keep its folder inside the home and itself off the network."""
        return {
            "PI_CODING_AGENT_DIR": str(order.home / "agent"),
            "PI_OFFLINE": "1",
            "PI_TELEMETRY": "0",
            "PI_SKIP_VERSION_CHECK": "1",
        }


DRIVER: Final[Driver] = Pi()
