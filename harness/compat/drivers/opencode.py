"""OpenCode. Everything here was measured with 1.18.33.

Its two provider packages are bundled, so nothing is fetched while it runs. Each new session sends
two requests at once: one for a title (without tools) and the task.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import Driver, NpmProgram, Order, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROVIDER_PACKAGES: Final = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai"}


class OpenCode:
    """`opencode run`: the answer on stdout, everything else on stderr."""

    name: Final = "opencode"
    program: Final = NpmProgram(
        package="opencode-ai",
        version="1.18.33",
        # What `bin` points to is a stub that only complains when package scripts were not run.
        # The plain build needs AVX2, the baseline build does not.
        paths=(
            "opencode-{platform}/bin/opencode",
            "opencode-{platform}-baseline/bin/opencode",
        ),
    )
    variants: Final = (
        Variant(name="opencode-chat", protocol="chat", model="gpt-5.5"),
        Variant(name="opencode-responses", protocol="responses", model="gpt-5.5"),
    )
    interrupted_status: Final = 130
    logs: Final = ("data/opencode/log/*.log",)

    def files(self, order: Order) -> Mapping[str, str]:
        """Return a configuration with the relay as the only provider."""
        model = order.variant.model
        provider = {
            "npm": _PROVIDER_PACKAGES[order.variant.protocol],
            "name": "Relay",
            "options": {"baseURL": order.api_url, "apiKey": order.client_key},
            "models": {
                model: {
                    "name": model,
                    "reasoning": True,
                    "tool_call": True,
                    "limit": {"context": 272_000, "output": 64_000},
                }
            },
        }
        config = {
            "autoupdate": False,
            "share": "disabled",
            "model": f"relay/{model}",
            "small_model": f"relay/{model}",
            "enabled_providers": ["relay"],
            "permission": {"*": "allow"},
            "provider": {"relay": provider},
        }
        return {"config/opencode/opencode.json": json.dumps(config, indent=1)}

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        return ("run", "-m", f"relay/{order.variant.model}", order.prompt)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Keep its folders inside the home and its downloads switched off."""
        folders = {
            f"XDG_{kind.upper()}_HOME": str(order.home / kind)
            for kind in ("config", "data", "cache", "state")
        }
        switched_off = ("MODELS_FETCH", "AUTOUPDATE", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "SHARE")
        return folders | {f"OPENCODE_DISABLE_{what}": "1" for what in switched_off}


DRIVER: Final[Driver] = OpenCode()
