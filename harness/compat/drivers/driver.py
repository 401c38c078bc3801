"""The seam between the matrix and one agent program.

A driver only says things: which files the program wants to find, how it is called, what it does
when interrupted. Everything that acts (installing, writing, starting, killing) stands elsewhere,
once for all programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

WireProtocol: TypeAlias = Literal["chat", "responses"]


@attrs.frozen(kw_only=True)
class NpmProgram:
    """A program that npm installs."""

    package: str
    version: str
    #: Where it lies below `node_modules`, as glob patterns, best first. `{platform}` stands for
    #: npm's usual name of this machine (`linux-x64`). The first that starts is used.
    paths: tuple[str, ...]
    #: What runs it, if it is no executable itself.
    runtime: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PythonProgram:
    """A script of ours, run by this interpreter, around a library in the same environment."""

    distribution: str
    script: Path


@attrs.frozen(kw_only=True)
class Variant:
    """One way to run a program: a row of the matrix."""

    name: str
    protocol: WireProtocol
    model: str


@attrs.frozen(kw_only=True)
class Order:
    """What one run is given."""

    variant: Variant
    #: The relay's address, without `/v1`.
    relay_url: str
    #: The run's own home, existing and empty but for the folder `project`, where it starts.
    home: Path
    #: What the program presents as its API key. It must never reach the backend.
    client_key: str
    prompt: str

    @property
    def api_url(self) -> str:
        """Return the base URL as OpenAI-compatible programs want it."""
        return f"{self.relay_url}/v1"


class Driver(Protocol):
    """One agent program. Each module of this package exposes one as `DRIVER`."""

    @property
    def name(self) -> str:
        """Return the program's name, which `--only` takes too."""

    @property
    def program(self) -> NpmProgram | PythonProgram:
        """Return where the program comes from."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return the ways it is run; their names start with the driver's."""

    @property
    def interrupted_status(self) -> int:
        """Return its exit status after SIGINT, as a shell shows it."""

    @property
    def logs(self) -> tuple[str, ...]:
        """Return the files, as glob patterns below the home, that explain what stderr does not."""

    def files(self, order: Order) -> Mapping[str, str]:
        """Return its configuration: path below the home -> content."""

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return the arguments after the program itself."""

    def environment(self, order: Order) -> Mapping[str, str]:
        """Return the variables it gets beside those that every program gets."""
