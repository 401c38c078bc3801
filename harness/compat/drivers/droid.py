"""Factory Droid. Everything here was measured with 0.225.2; custom models need no Factory login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import Driver, NpmProgram, Order, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROVIDERS: Final = {"chat": "generic-chat-completion-api", "responses": "openai"}


class Droid:
    """`droid exec` in its default, read-only mode, which runs `echo` without asking."""

    name: Final = "droid"
    program: Final = NpmProgram(
        # The package `@factory/cli` fetches its binary with a script; the one for the platform
        # brings it along.
        package="@factory/cli-{platform}",
        version="0.225.2",
        paths=("@factory/cli-{platform}/bin/droid",),
    )
    variants: Final = (
        # With a GPT-like name in chat mode Droid puts an error text of its own in front of the
        # prompt ("appears to be an OpenAI model"), hence the one slug that has no such name.
        Variant(name="droid-chat", protocol="chat", model="codex-auto-review"),
        Variant(name="droid-responses", protocol="responses", model="gpt-5.5"),
    )
    interrupted_status: Final = 0
    #: On stderr an API error is only "Exec failed".
    logs: Final = (".factory/logs/*.log",)

    def files(self, order: Order) -> Mapping[str, str]:
        """Return settings with the relay as a custom model."""
        model = {
            "model": order.variant.model,
            "id": "custom:relay",
            "index": 0,
            "displayName": "Relay",
            "baseUrl": order.api_url,
            "apiKey": order.client_key,
            "provider": _PROVIDERS[order.variant.protocol],
            "maxOutputTokens": 32_000,
        }
        settings = {
            "customModels": [model],
            "cloudSessionSync": False,
            "enableDroidShield": False,
            "autoUpdateEnabled": False,
        }
        return {".factory/settings.json": json.dumps(settings, indent=1)}

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        return ("exec", "-m", "custom:relay", order.prompt)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Return what keeps it from its vendor's services and the system's key store."""
        del order  # the settings file says it all
        return {
            "FACTORY_AIRGAP_ENABLED": "1",
            "FACTORY_DISABLE_KEYRING": "1",
            "FACTORY_DROID_AUTO_UPDATE_ENABLED": "false",
        }


DRIVER: Final[Driver] = Droid()
