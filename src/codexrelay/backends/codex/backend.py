"""The Codex backend: one POST per attempt, or one message of a WebSocket; its events come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from codexrelay.backends.codex.headers import account_headers
from codexrelay.backends.codex.identity import Identity, named
from codexrelay.backends.codex.sockets.attempt import SocketAttempt
from codexrelay.backends.codex.sockets.pool import Sockets
from codexrelay.backends.http_attempt import ERROR_BODY_S as ERROR_BODY_S
from codexrelay.backends.http_attempt import HttpAttempt, HttpBackend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from codexrelay.accounts.account import Account
    from codexrelay.backends.backend import Attempt, UpstreamRequest

CodexAttempt: TypeAlias = HttpAttempt
#: Which turns go over a WebSocket: all of them, those whose client speaks it itself, none.
SocketMode: TypeAlias = Literal["auto", "on", "off"]

#: What may be asked over a WebSocket; everything else goes over HTTP.
_RESPONSES: Final = "/responses"


@attrs.frozen(kw_only=True)
class CodexBackend(HttpBackend):
    """A Codex backend at one base URL."""

    block: str = "backends.openai_codex"
    #: Who requests say they come from.
    identity: Identity = "codex"
    websocket: SocketMode = "auto"
    #: Its WebSockets; None: there are none.
    sockets: Sockets | None = None

    def attempt(
        self, request: UpstreamRequest, account: Account
    ) -> AbstractAsyncContextManager[Attempt]:
        """See `HttpBackend.attempt`."""
        turn = request.socket
        if turn is None:
            return HttpAttempt(self, request, account)
        asks = (request.method, request.path) == ("POST", _RESPONSES)
        wanted = asks and self._wants_socket(from_socket=turn.from_socket)
        if wanted or turn.warm_up_id is not None:  # nothing of a warm-up goes over HTTP
            sockets = self.sockets if wanted else None
            return SocketAttempt(self, self.identity, sockets, request, account, turn)
        turn.via = "http"
        return HttpAttempt(self, request, account)

    def takes_sockets(self, *, from_socket: bool) -> bool:
        """See `Backend.takes_sockets`."""
        wanted = self._wants_socket(from_socket=from_socket)
        return wanted and self.sockets is not None and not self.sockets.is_refused

    def warm_account(self, session: str, *, from_socket: bool) -> str | None:
        """See `Backend.warm_account`."""
        if self.sockets is None or not self._wants_socket(from_socket=from_socket):
            return None
        return self.sockets.account_of(session)

    def _wants_socket(self, *, from_socket: bool) -> bool:
        return self.websocket == "on" or (self.websocket == "auto" and from_socket)

    def headers(self, request: UpstreamRequest, account: Account) -> Sequence[tuple[str, str]]:
        """See `HttpBackend.headers`."""
        return named(request.headers, account_headers(account), self.identity)
