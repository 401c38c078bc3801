"""The official Python SDK (measured: 3.54), in a child process of this interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import Driver, Order, PythonProgram, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

WHOLE: Final = "-whole"
#: The file that the block is put into, below the home.
_BLOCK: Final = "hello.py"


class OpenAISdk:
    """A conversation with one tool, streamed, or answered with one JSON body."""

    name: Final = "sdk"
    program: Final = PythonProgram(
        distribution="openai", script=Path(__file__).parents[1] / "sdk_client.py"
    )
    variants: Final = (
        Variant(name="sdk-chat", protocol="chat", model="gpt-5.5", shows_thoughts=True),
        Variant(name="sdk-responses", protocol="responses", model="gpt-5.5", shows_thoughts=True),
        Variant(name=f"sdk-chat{WHOLE}", protocol="chat", model="gpt-5.5", shows_thoughts=True),
        Variant(
            name=f"sdk-responses{WHOLE}", protocol="responses", model="gpt-5.5", shows_thoughts=True
        ),
    )
    interrupted_status: Final = 130
    logs: Final[tuple[str, ...]] = ()

    def files(self, order: Order) -> Mapping[str, str]:
        """Return the printed start of a program, with which the conversation goes on."""
        return {_BLOCK: order.block_for("openai").text}

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return what `sdk_client.py` wants to know."""
        variant = order.variant
        shape = "whole" if variant.name.endswith(WHOLE) else "streamed"
        options = [f"--picture={order.wishes.picture}"] if order.wishes.picture else []
        options += ["--edits"] if order.wishes.edits else []
        return (*options, str(order.home / _BLOCK), variant.protocol, shape, order.prompt)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Return the key where the block may look for it."""
        return order.key_variable


DRIVER: Final[Driver] = OpenAISdk()
