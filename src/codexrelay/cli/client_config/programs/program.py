"""The seam between the command and one agent program.

What a program is told is one block of text in its own format, good to be pasted as it is. The
harness runs the real programs with these very blocks (`make compat`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import attrs

from codexrelay.protocol.capabilities import HEADER, Given

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

WireProtocol: TypeAlias = Literal["chat", "responses"]

#: Under which name the relay stands in a program's configuration.
NAME: Final = "codexrelay"
#: Holds the client key where one is needed: a block is pasted and shown around.
KEY_VARIABLE: Final = "CODEXRELAY_API_KEY"
#: What a request may ask of the relay, and what it means already: each block shows the place.
CAPABILITIES: Final[Given] = {"include_environment_context": False}
#: The place of a program that has no other for it.
CAPABILITIES_HEADER: Final = HEADER


@attrs.frozen(kw_only=True)
class Target:
    """What a program must know of the relay."""

    protocol: WireProtocol
    #: The relay's address with `/v1`.
    api_url: str
    #: As the program is to call it: a model, or an alias of one.
    model: str
    #: How much the model can read, in tokens.
    context_tokens: int
    #: What the program presents as its key; None: the value of `KEY_VARIABLE`.
    key: str | None
    #: What it asks of the relay for each of its requests.
    capabilities: Given = CAPABILITIES

    @property
    def capabilities_text(self) -> str:
        """Return the capabilities as they stand in a header."""
        return ", ".join(pairs_of(self.capabilities))


@attrs.frozen(kw_only=True)
class Block:
    """What is to be pasted, and where."""

    #: The file, as a person writes its path.
    path: str
    language: Literal["json", "toml", "python"]
    #: Ends with a newline.
    text: str
    #: How the program is used with it.
    use: str
    #: The keys that may be left out, in words.
    optional: str


class Program(Protocol):
    """One agent program."""

    @property
    def name(self) -> str:
        """Return what the command line calls it."""

    @property
    def title(self) -> str:
        """Return what people call it."""

    @property
    def protocols(self) -> tuple[WireProtocol, ...]:
        """Return the protocols it speaks with the relay, the better one first."""

    def block(self, target: Target) -> Block:
        """Return what it must be told."""


def pairs_of(capabilities: Given) -> tuple[str, ...]:
    """Return capabilities as they are written where there is no JSON: `key=value` for each."""
    return tuple(
        f"{key}={value if isinstance(value, str) else str(value).lower()}"
        for key, value in capabilities.items()
    )


def as_json(value: JsonObject) -> str:
    """Return an object as people write it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def quoted(text: str) -> str:
    """Return a text in quotes, as JSON, TOML and Python all read it."""
    return json.dumps(text, ensure_ascii=False)
