"""The seam between a turn and a backend: one attempt, from send to the last byte.

Faults are values here, because the ladder decides about them; exceptions are bugs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import attrs

from codexrelay.protocol.delivery import Delivery
from codexrelay.protocol.delivery import Wire as Wire
from codexrelay.protocol.raw import JsonObject

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from codexrelay.accounts.account import Account
    from codexrelay.protocol.faults import Fault, Reached

#: What carries an attempt: a WebSocket, HTTP, or nothing, where the relay answers itself.
Via: TypeAlias = Literal["websocket", "http", "relay"]

#: Turns an answer of one protocol into one of the other while it comes.
Transducer: TypeAlias = Delivery


@attrs.define(eq=False, kw_only=True)
class SocketTurn:
    """What a turn brings for a backend that may be spoken to over a WebSocket.

    One for each turn; its legs and their attempts share it, and the backend keeps count in it.
    """

    #: The relay's session: what one connection serves at a time.
    session: str
    #: Its client speaks WebSocket.
    from_socket: bool
    #: Where the turn only warms the backend up (`generate` false): the id of the relay's own
    #: answer, for when no WebSocket can be had. Nothing of such a turn goes over HTTP.
    warm_up_id: str | None = None
    #: How often a handshake was tried for the turn.
    handshakes: int = 0
    #: A WebSocket has failed it: HTTP from now on.
    gives_up: bool = False
    #: What the latest attempt has gone over; None: there was none, or it had nowhere to go.
    via: Via | None = None


@attrs.frozen(kw_only=True)
class UpstreamRequest:
    """What a turn asks of a backend, but for what belongs to the account."""

    #: Below the backend's base URL: `/responses`.
    path: str
    #: Empty for a GET.
    body: bytes = b""
    method: str = "POST"
    #: Headers of this request, lower-case, without those that name an account.
    headers: tuple[tuple[str, str], ...] = ()
    #: Encrypted items that were left out because the account at hand cannot read them.
    reasoning_stripped: int = 0
    #: What `Attempt.receive` must give, whatever the target speaks; the path says what that is.
    delivers: Wire = "responses"
    #: Makes what turns one answer of the target into what is to be delivered; None: it is that.
    translated_by: Callable[[], Transducer] | None = attrs.field(default=None, repr=False)
    #: `body` as the object that it says; empty where nobody needs it.
    content: JsonObject = attrs.field(factory=dict, repr=False)
    #: What a backend with WebSockets must know of the turn; None: it goes over HTTP.
    socket: SocketTurn | None = None


@attrs.frozen(kw_only=True)
class Head:
    """Status line and headers of an answer that is 2xx."""

    status: int
    #: Lower-case names; of repeated headers the last one.
    headers: dict[str, str]


class Source(Protocol):
    """Reads an answer without waiting, in no task's context: for `relay.pump`."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when something has come."""

    def receive_now(self) -> bytes | None:
        """Return what has come, `b""` if it says nothing yet; one receive, never waits.

        None: nothing can be read this way any more, because the answer has ended or broken off.
        `Attempt.receive` tells which, and gives whatever was read and not handed out.
        """

    @property
    def is_over(self) -> bool:
        """Whether `receive_now` has nothing more to give, which the descriptor need not tell.

        An answer says itself where it ends, and its connection may stay open.
        """


class Attempt(Protocol):
    """One upstream request for a turn. Opens nothing before `send`, closes everything on exit."""

    @property
    def reached(self) -> Reached:
        """How far the request got by now; stays right when `send` is cancelled.

        `NOT_SENT` until its first byte has left this process, `SENT` once the system has taken all
        of it, `UNKNOWN` in between, also for good if the connection broke there. Every fault that
        `send` and `receive` return carries it.
        """

    async def send(self) -> Head | Fault:
        """Send the request and wait for the head; an answer that is not 2xx is a fault."""

    async def receive(self) -> bytes | Fault:
        """Return what arrived next, `b""` at the clean end of the answer.

        Cancelling it ends the attempt: what it had read may be lost.
        """

    @property
    def is_whole(self) -> bool:
        """Whether `receive` gives the rest of the answer and its end without waiting.

        False also where that is not known.
        """

    @property
    def source(self) -> Source | None:
        """What reads the answer without waiting, once `send` has returned a head.

        None where that is not possible: through httpx, compressed, translated, over a WebSocket;
        and once the answer has come whole. Until then the same one whenever it is asked for;
        between two calls of it `receive` may be used.

        Its descriptor belongs to the attempt until `receive` is called again or the attempt is
        left: whoever has registered it somewhere takes it out before.
        """


class Backend(Protocol):
    """A configured target."""

    def attempt(
        self, request: UpstreamRequest, account: Account
    ) -> AbstractAsyncContextManager[Attempt]:
        """Return the attempt of `request` on `account`."""

    def takes_sockets(self, *, from_socket: bool) -> bool:
        """Tell whether a turn would go over a WebSocket now; `from_socket`: its client speaks one.

        Where it says no, warm-ups are answered by the relay itself.
        """

    def warm_account(self, session: str, *, from_socket: bool) -> str | None:
        """Return the account with which a session has a WebSocket that waits for its next turn.

        What the turn goes on from is known there and nowhere else. None: there is none, or the turn
        would not go over it.
        """
