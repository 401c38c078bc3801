"""pi. Everything here was measured with 0.73.1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import NAME, Driver, NpmProgram, Order, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping


#: It compacts its history when less than the reserve would be left of the context, and keeps what
#: is newest of it: by itself more than is said in a scenario.
_SMALL_TOKENS: Final = 20_000
_COMPACTION: Final = {"enabled": True, "reserveTokens": 16_000, "keepRecentTokens": 1_000}


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
        """Return the printed list of models, with all models in one provider."""
        small = {"context_tokens": _SMALL_TOKENS} if order.wishes.small_context else {}
        text = order.block_for(self.name, **small).text
        for model in order.further_models:
            listed = json.loads(text)
            further = json.loads(order.for_model(model).block_for(self.name).text)
            listed["providers"][NAME]["models"] += further["providers"][NAME]["models"]
            text = json.dumps(listed, indent=2)
        settings = {"agent/settings.json": json.dumps({"compaction": _COMPACTION})}
        return {"agent/models.json": text, **(settings if order.wishes.small_context else {})}

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        chosen = ("--provider", NAME, "--model", order.variant.model)
        again = ("-c",) if order.goes_on else ()
        picture = (f"@{order.wishes.picture}",) if order.wishes.picture else ()
        return ("--offline", "-p", *again, *chosen, *picture, order.prompt)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Keep its folder inside the home and itself off the network."""
        return {
            "PI_CODING_AGENT_DIR": str(order.home / "agent"),
            "PI_OFFLINE": "1",
            "PI_TELEMETRY": "0",
            "PI_SKIP_VERSION_CHECK": "1",
            **order.key_variable,
        }


DRIVER: Final[Driver] = Pi()
