"""The seam between the matrix and one agent program.

A driver only says things: which files the program wants to find, how it is called, what it does
when interrupted. Everything that acts (installing, writing, starting, killing) stands elsewhere,
once for all programs.

Of the relay a program is told with the very block that `codexrelay client-config` prints for people
(`Order.block_for`). What only a run wants (no questions, no vendors' services, a home of its own)
is said in another place: a second layer of configuration, arguments or variables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import attrs

from codexrelay.cli.client_config.programs import find_programs
from codexrelay.cli.client_config.programs.program import (
    CAPABILITIES,
    KEY_VARIABLE,
    NAME,
    Block,
    Target,
    WireProtocol,
    pairs_of,
)
from codexrelay.protocol.capabilities import Given
from harness.compat.scenarios import Wishes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "NAME",
    "Driver",
    "NpmProgram",
    "Order",
    "PythonProgram",
    "Upstream",
    "Variant",
    "WireProtocol",
]

#: `backends.openai_codex.websocket`.
Upstream: TypeAlias = Literal["auto", "on", "off"]

_PROGRAMS: Final = find_programs()
#: What the models of the simulator can read.
_CONTEXT_TOKENS: Final = 272_000


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
    #: The driver whose installation it is; "": its own.
    shared_with: str = ""


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
    #: It sends no `tools`, but an item of its input that holds them.
    tools_in_input: bool = False
    #: It shows the model's thoughts where it is told to.
    shows_thoughts: bool = False
    #: It speaks WebSocket to the relay.
    websocket: bool = False
    #: Which turns the relay takes to Codex over a WebSocket.
    upstream: Upstream = "auto"

    @property
    def speaks_to_codex(self) -> bool:
        """Whether its turns go to Codex over a WebSocket."""
        return self.upstream == "on" or (self.upstream == "auto" and self.websocket)


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
    #: What its configuration asks of the relay; None: what a block has by itself.
    capabilities: Given | None = None
    #: Further models that its configuration has, for other runs in the same home.
    further_models: tuple[str, ...] = ()
    #: It goes on with the latest conversation of this home.
    goes_on: bool = False
    #: What else the scenario wants of the program.
    wishes: Wishes = attrs.field(factory=Wishes)

    @property
    def api_url(self) -> str:
        """Return the base URL as OpenAI-compatible programs want it."""
        return f"{self.relay_url}/v1"

    def block_for(self, program: str, *, context_tokens: int = _CONTEXT_TOKENS) -> Block:
        """Return what a person pastes for the program.

        Both ways to give the key are used: over chat it stands in the block, as in a relay that
        takes any; else the block names the variable, as where client keys are configured.
        """
        target = Target(
            protocol=self.variant.protocol,
            api_url=self.api_url,
            model=self.variant.model,
            context_tokens=context_tokens,
            key=self.client_key if self.variant.protocol == "chat" else None,
            capabilities=CAPABILITIES if self.capabilities is None else self.capabilities,
        )
        return _PROGRAMS[program].block(target)

    def for_model(self, model: str) -> Order:
        """Return the same order for another model."""
        return attrs.evolve(self, variant=attrs.evolve(self.variant, model=model))

    @property
    def key_variable(self) -> Mapping[str, str]:
        """Return the variable that a block may name, set."""
        return {KEY_VARIABLE: self.client_key}


def with_parameters(model: str, parameters: Given) -> str:
    """Return the name of a model that asks for these too (`gpt-5.5?reasoning_effort=low`)."""
    name, *rest = model.split("?", 1)
    query = "&".join((*rest, *pairs_of(parameters)))
    return f"{name}?{query}" if query else name


class Driver(Protocol):
    """One agent program. Each module of this package exposes one as `DRIVER`."""

    @property
    def name(self) -> str:
        """Return the program's name, which `--clients` takes too."""

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
