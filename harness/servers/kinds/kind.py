"""The seam between the runs and one server program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.openai_api import Wire

#: What runs in the interpreters of the servers.
PROGRAMS: Final = Path(__file__).parents[1] / "programs"
#: A prompt that holds this word is answered without end.
FOREVER: Final = "forever"


class Pinned(Protocol):
    """What is installed from the package index, with all its packages."""

    @property
    def name(self) -> str:
        """Return its name, as a command line calls it."""

    @property
    def version(self) -> str:
        """Return the version of the program."""

    @property
    def pins(self) -> Path:
        """Return the list of its packages: `name==version`, one a line."""


class Program(Pinned, Protocol):
    """What serves on loopback, not yet started."""

    @property
    def key(self) -> str | None:
        """Return the key that it wants; None: none."""

    def files(self) -> Mapping[str, str]:
        """Return what it wants to find in its folder: name -> content."""

    def preparation(self, python: Path) -> tuple[str, ...] | None:
        """Return the command to be run in its folder before the start; None: there is none."""

    def command(self, python: Path, port: int) -> tuple[str, ...]:
        """Return the command that serves on this port of 127.0.0.1, to be run in its folder."""

    def environment(self) -> Mapping[str, str]:
        """Return what keeps it off the network."""


class Kind(Program, Protocol):
    """One server program with a model of its own."""

    @property
    def wires(self) -> tuple[Wire, ...]:
        """Return what it speaks."""

    @property
    def model(self) -> str:
        """Return the name of its model."""

    @property
    def cannot(self) -> frozenset[tuple[Wire, str]]:
        """Return what the SDK cannot do with the bare server either: its wires and columns."""

    @property
    def answer(self) -> str:
        """Return what its model says once its tool call was answered."""


def version_in(pins: Path, package: str) -> str:
    """Return the version of `package` in a list of pins."""
    lines = pins.read_text("utf-8").splitlines()
    found = dict(line.split("==", 1) for line in lines if "==" in line)
    return found[package]
