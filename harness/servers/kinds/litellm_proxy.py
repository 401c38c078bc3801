"""LiteLLM's proxy, with a scripted model behind it. Measured with 1.108.7.

It translates Responses to chat by itself. Without a database it answers 400 to a wrong key. Of its
many packages only those are pinned that it needs to start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.servers.kinds.kind import PROGRAMS, Kind, version_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.openai_api import Wire

_SCRIPT: Final = "scripted_model"
_PROVIDER: Final = "harness"


class LiteLLMProxy:
    """Both wires, with tool calls and a key."""

    name: Final = "litellm"
    pins: Final = Path(__file__).with_name("litellm_proxy.txt")
    version: Final = version_in(pins, "litellm")
    wires: Final[tuple[Wire, ...]] = ("chat", "responses")
    model: Final = "scripted"
    key: Final = "sk-servers-4711"
    cannot: Final[frozenset[tuple[Wire, str]]] = frozenset()
    answer: Final = "The command was run."

    def files(self) -> Mapping[str, str]:
        """Return its configuration and the script, which it looks for beside it."""
        config = {
            "model_list": [
                {
                    "model_name": self.model,
                    "litellm_params": {"model": f"{_PROVIDER}/{self.model}"},
                }
            ],
            "litellm_settings": {
                "custom_provider_map": [
                    {"provider": _PROVIDER, "custom_handler": f"{_SCRIPT}.HANDLER"}
                ],
                "drop_params": True,
                "telemetry": False,
            },
            "general_settings": {"master_key": self.key},
        }
        script = (PROGRAMS / f"{_SCRIPT}.py").read_text("utf-8")
        return {"config.yaml": json.dumps(config, indent=1), f"{_SCRIPT}.py": script}

    def preparation(self, python: Path) -> None:
        """Return nothing: there is no model to make."""

    def command(self, python: Path, port: int) -> tuple[str, ...]:
        """Return the command that serves."""
        program = str(python.with_name("litellm"))
        place = ("--host", "127.0.0.1", "--port", str(port))
        return (str(python), program, "--config", "config.yaml", *place, "--telemetry", "False")

    def environment(self) -> Mapping[str, str]:
        """Return what keeps it off the network."""
        return {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "DO_NOT_TRACK": "1",
        }


KIND: Final[Kind] = LiteLLMProxy()
