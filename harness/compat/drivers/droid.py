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


#: The file with a long prompt, below the home.
_PROMPT: Final = "prompt.txt"


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
        attached = order.wishes.attached
        return {
            ".factory/settings.json": order.block_for(self.name).text,
            ".factory/settings.local.json": json.dumps(_OF_A_RUN),
            **({_PROMPT: f"{order.prompt}\n{attached}"} if attached else {}),
        }

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        # The default mode is read-only.
        edits = ("--auto", "low") if order.wishes.edits else ()
        # Beside a prompt it does not read its standard input.
        asked = ("-f", str(order.home / _PROMPT)) if order.wishes.attached else (order.prompt,)
        return ("exec", *edits, "-m", f"custom:{NAME}", *asked)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Return what keeps it from its vendor's services and the system's key store."""
        return {
            **order.key_variable,
            "FACTORY_AIRGAP_ENABLED": "1",
            "FACTORY_DISABLE_KEYRING": "1",
            "FACTORY_DROID_AUTO_UPDATE_ENABLED": "false",
        }


DRIVER: Final[Driver] = Droid()
