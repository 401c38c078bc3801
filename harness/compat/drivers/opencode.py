"""OpenCode. Everything here was measured with 1.18.33.

Its two provider packages are bundled, so nothing is fetched while it runs. Each new session sends
two requests at once: one for a title (without tools) and the task.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import NAME, Driver, NpmProgram, Order, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a run wants besides: no questions, no company, no other provider.
_OF_A_RUN: Final = {
    "autoupdate": False,
    "share": "disabled",
    "enabled_providers": [NAME],
    "permission": {"*": "allow"},
}


#: It compacts its history when less than what a model may write (32,000 here) would be left.
_SMALL_TOKENS: Final = 32_000 + 13_000


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
        Variant(name="opencode-chat", protocol="chat", model="gpt-5.5", shows_thoughts=True),
        Variant(
            name="opencode-responses", protocol="responses", model="gpt-5.5", shows_thoughts=True
        ),
    )
    interrupted_status: Final = 130
    logs: Final = ("data/opencode/log/*.log",)

    def files(self, order: Order) -> Mapping[str, str]:
        """Return the printed configuration as the user's own, with all models in one provider."""
        small = {"context_tokens": _SMALL_TOKENS} if order.wishes.small_context else {}
        text = order.block_for(self.name, **small).text
        for model in order.further_models:
            config = json.loads(text)
            further = json.loads(order.for_model(model).block_for(self.name).text)
            config["provider"][NAME]["models"] |= further["provider"][NAME]["models"]
            text = json.dumps(config, indent=2)
        return {"config/opencode/opencode.json": text}

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        again = ("-c",) if order.goes_on else ()
        thoughts = ("--thinking",) if order.wishes.thoughts else ()
        # The last argument: it takes as many files as there are.
        picture = ("-f", order.wishes.picture) if order.wishes.picture else ()
        chosen = ("-m", f"{NAME}/{order.variant.model}")
        return ("run", *again, *thoughts, *chosen, order.prompt, *picture)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Keep its folders inside the home and its downloads switched off."""
        folders = {
            f"XDG_{kind.upper()}_HOME": str(order.home / kind)
            for kind in ("config", "data", "cache", "state")
        }
        switched_off = ("MODELS_FETCH", "AUTOUPDATE", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "SHARE")
        return {
            **folders,
            **{f"OPENCODE_DISABLE_{what}": "1" for what in switched_off},
            # Laid over the file.
            "OPENCODE_CONFIG_CONTENT": json.dumps(_OF_A_RUN),
            **order.key_variable,
        }


DRIVER: Final[Driver] = OpenCode()
