"""`transformers serve`: a real inference engine, with a model of a few kilobytes made on the spot.

Measured with 5.24.0. Its chat streams end without `[DONE]`, its Responses events have no `event:`
lines, its refusals are `{"detail": …}`, and it wants no key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.servers.kinds.kind import PROGRAMS, Kind, version_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.openai_api import Wire

#: The folder of the model, which is its name too.
_MODEL: Final = "tiny"


class TransformersServe:
    """Both wires, with tool calls."""

    name: Final = "transformers"
    pins: Final = Path(__file__).with_name("transformers_serve.txt")
    version: Final = version_in(pins, "transformers")
    wires: Final[tuple[Wire, ...]] = ("chat", "responses")
    model: Final = _MODEL
    key: Final = None
    #: Its stream of a tool call gives two items one `output_index`, which the SDK (3.57) refuses.
    cannot: Final[frozenset[tuple[Wire, str]]] = frozenset({("responses", "responses")})
    answer: Final = "The command was run."

    def files(self) -> Mapping[str, str]:
        """Return nothing: its preparation makes what it needs."""
        return {}

    def preparation(self, python: Path) -> tuple[str, ...]:
        """Return the command that writes the model."""
        return (str(python), str(PROGRAMS / "tiny_model.py"), _MODEL)

    def command(self, python: Path, port: int) -> tuple[str, ...]:
        """Return the command that serves the model."""
        program = str(python.with_name("transformers"))
        place = ("--host", "127.0.0.1", "--port", str(port))
        return (str(python), program, "serve", _MODEL, *place, "--device", "cpu")

    def environment(self) -> Mapping[str, str]:
        """Return what keeps it off the network."""
        offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
        return dict.fromkeys((*offline, "DO_NOT_TRACK"), "1")


KIND: Final[Kind] = TransformersServe()
