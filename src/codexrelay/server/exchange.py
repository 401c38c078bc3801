"""One request and its response, handed over below ASGI.

ASGI's messages, and the tasks that quart-trio starts for each request, cost more than a whole small
turn. A server that has the extension `codexrelay.exchange` (ours; see `http1`) puts an `Exchange`
into the scope of each HTTP request, and the routes that carry turns are served through it. Below
another server, and for all other routes, a request takes the ordinary way through quart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Headers
    from codexrelay.relay.line import Prompt

#: The ASGI extension: `scope["extensions"][EXCHANGE]` is an `Exchange`.
EXCHANGE: Final = "codexrelay.exchange"


class Exchange(Protocol):
    """What is left of a request, and its response. A `relay.line.Client`."""

    #: The head is on its way: no other response can be given any more.
    started: bool

    def take(self) -> None:
        """Serve the request through this object alone, and no longer by ASGI's messages.

        From now on the client's leaving cancels the task that serves it, until `end` has returned.
        """

    async def body(self, *, max_bytes: int) -> bytes | None:
        """Return the whole request body as it was sent; None if it is larger than `max_bytes`.

        A body that announces more is not read at all.
        """

    async def start(self, status: int, headers: Headers | Sequence[tuple[bytes, bytes]]) -> None:
        """Give the head. `headers` need no `date`; without a length the body is chunked.

        Their names are lower-case. The head goes out with what follows it, which should be soon:
        the first piece of the body or `end`; an empty piece sends it alone.
        """

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client does not read."""

    async def end(self) -> None:
        """Complete the response."""

    async def finish(self, data: bytes) -> None:
        """Send the last piece of the body and complete the response, in one write."""

    @property
    def prompt(self) -> Prompt | None:
        """See `relay.line.Client`."""
