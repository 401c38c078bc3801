"""Factory Droid. Everything here was measured with 0.225.2; custom models need no Factory login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import NAME, Driver, NpmProgram, Order, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a run wants besides.
_OF_A_RUN: Final = {
    "cloudSessionSync": False,
    "enableDroidShield": False,
    "autoUpdateEnabled": False,
}


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
        # Over chat Droid takes every model of the catalogue for OpenAI's and puts an error text of
        # its own in front of the prompt ("appears to be an OpenAI model"), hence an alias.
        Variant(name="droid-chat", protocol="chat", model="relay-model"),
        Variant(name="droid-responses", protocol="responses", model="gpt-5.5"),
    )
    interrupted_status: Final = 0
    #: On stderr an API error is only "Exec failed".
    logs: Final = (".factory/logs/*.log",)

    def files(self, order: Order) -> Mapping[str, str]:
        """Return the printed settings as the user's own, and a layer over them."""
        return {
            ".factory/settings.json": order.block_for(self.name).text,
            ".factory/settings.local.json": json.dumps(_OF_A_RUN),
        }

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        return ("exec", "-m", f"custom:{NAME}", order.prompt)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Return what keeps it from its vendor's services and the system's key store."""
        return {
            **order.key_variable,
            "FACTORY_AIRGAP_ENABLED": "1",
            "FACTORY_DISABLE_KEYRING": "1",
            "FACTORY_DROID_AUTO_UPDATE_ENABLED": "false",
        }


DRIVER: Final[Driver] = Droid()
