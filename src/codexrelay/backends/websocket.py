"""The seam between a backend's WebSockets and whatever carries them: dial, then frames.

Implementations of `Dial`: `transports.websocket` (trio-websocket over the relay's own connections),
and in the harness the recorder, the replayer and the fault injector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

import attrs
import httpx

#: The ordinary end.
NORMAL: Final = 1000
#: The peer's close frame had no code.
NO_CODE: Final = 1005
#: The connection ended without a close frame.
BROKEN: Final = 1006

#: A text message, or a binary one, which the backend never sends.
Message: TypeAlias = str | bytes


class Closed(Exception):  # noqa: N818  (it is an answer, not an error)
    """The WebSocket is closed."""

    def __init__(self, code: int, reason: str = "") -> None:
        """Tell the code of the close frame, `NO_CODE` or `BROKEN`; and its reason."""
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class FrameStream(Protocol):
    """An open WebSocket. One task may send while another receives."""

    async def send(self, data: Message) -> None:
        """Send a message.

        Raises:
            Closed: it is closed.
        """

    async def receive(self) -> Message:
        """Return the next message; cancelling it loses none.

        Raises:
            Closed: it is closed, and every message before that has been returned.
        """

    def ready(self) -> Sequence[Message]:
        """Return the messages that have come and were not received yet; never waits."""

    async def ping(self) -> None:
        """Send a ping and wait for its pong.

        Raises:
            Closed: it is closed.
        """

    @property
    def closed(self) -> Closed | None:
        """How it was closed; None while it is open, as far as is known here."""

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it with a close frame; does nothing to a closed one."""

    async def aclose(self) -> None:
        """Drop the connection without a word, at once, if it is not closed yet."""


@attrs.frozen(kw_only=True)
class Handshake:
    """The request for a WebSocket."""

    #: With the scheme `http` or `https`, as the backend's base URL has it.
    url: httpx.URL
    #: Without those of the handshake itself (`host`, `upgrade`, `sec-websocket-*`).
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    #: For the connection and the peer's answer together, in seconds.
    within_s: float


@attrs.frozen(kw_only=True, eq=False)
class Opened:
    """The peer has agreed."""

    frames: FrameStream
    #: Of the peer's answer, lower-case.
    headers: dict[str, str]


@attrs.frozen(kw_only=True)
class Refused:
    """The peer has answered with another status than 101."""

    status: int
    #: Lower-case names.
    headers: dict[str, str]
    #: As far as it came.
    body: bytes = b""


@attrs.frozen
class Unreachable:
    """There was no answer that is one."""

    why: str


#: Opens a WebSocket; leaving the context ends it at once, also when it is cancelled, and no task of
#: it is left. Whether a connection is wanted any more is the caller's to say.
Dial: TypeAlias = Callable[
    [Handshake], AbstractAsyncContextManager["Opened | Refused | Unreachable"]
]
