"""LiteLLM's proxy with its `chatgpt` provider. Measured with 1.110.2.

That provider is the one it has for a ChatGPT login, and so the fair comparison: with its `openai`
provider it would be in front of another API. Where the backend is can be told with a variable;
where tokens are refreshed cannot. It does not start without a key that it takes for a strong one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from harness.peers.peer import Peer, Upstream, kept_on_loopback, redirected
from harness.servers.kinds.kind import version_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.servers.kinds.kind import Program

_NAME: Final = "litellm"
_PINS: Final = Path(__file__).with_suffix(".txt")
_VERSION: Final = version_in(_PINS, "litellm")
_KEY: Final = "sk-an-example-of-no-worth-4711-9b2f61c0d8"
#: What the programs ask for; it knows both of the provider.
_MODELS: Final = ("gpt-5.5", "gpt-5.6-sol")


class LiteLLMProxy:
    """`litellm --config …`."""

    name: Final = _NAME
    version: Final = _VERSION
    pins: Final = _PINS
    given: Final = (
        "its `chatgpt` provider, which has one account; `drop_params` on, settings else as they "
        "are; the refresh address set in its module, where it is a constant"
    )

    def program_before(self, upstream: Upstream) -> Program:
        """Return it in front of this backend."""
        return _Serving(upstream)


@attrs.frozen
class _Serving:
    """It, configured."""

    _upstream: Upstream
    name: str = _NAME
    version: str = _VERSION
    pins: Path = _PINS
    key: str | None = _KEY

    def files(self) -> Mapping[str, str]:
        """Return its configuration and its login."""
        config = {
            "model_list": [
                {"model_name": model, "litellm_params": {"model": f"chatgpt/{model}"}}
                for model in _MODELS
            ],
            "litellm_settings": {"drop_params": True, "telemetry": False},
            "general_settings": {"master_key": self.key},
        }
        return {
            "config.yaml": json.dumps(config, indent=1),
            "auth.json": json.dumps(dict(self._upstream.login)),
        }

    def preparation(self, python: Path) -> None:
        """Return nothing: it is ready."""

    def command(self, python: Path, port: int) -> tuple[str, ...]:
        """Return the command that serves."""
        place = ("--host", "127.0.0.1", "--port", str(port))
        return redirected(
            python,
            modules=("litellm.llms.chatgpt.authenticator",),
            constants={"CHATGPT_OAUTH_TOKEN_URL": f"{self._upstream.issuer_url}/oauth/token"},
            entry="litellm.proxy.proxy_cli:run_server",
            arguments=("--config", "config.yaml", *place, "--telemetry", "False"),
        )

    def environment(self) -> Mapping[str, str]:
        """Return where its login and the backend are, and what keeps it off the network."""
        return {
            "CHATGPT_TOKEN_DIR": ".",
            "CHATGPT_API_BASE": self._upstream.api_base_url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "DO_NOT_TRACK": "1",
            **kept_on_loopback(),
        }


PEER: Final[Peer] = LiteLLMProxy()
