"""A backend of another kind over HTTP: any server that speaks the OpenAI API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.http_attempt import HttpBackend
from codexrelay.backends.openai import words
from codexrelay.backends.openai.headers import request_headers
from codexrelay.backends.openai.key import Key
from codexrelay.backends.openai.place import Place, shown
from codexrelay.backends.openai.secrecy import DiscreetAttempt, Secrets
from codexrelay.backends.openai.translated import TranslatedAttempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.accounts.account import Account
    from codexrelay.backends.backend import Attempt, UpstreamRequest
    from codexrelay.protocol.faults import Fault


@attrs.frozen(kw_only=True)
class OpenAIBackend(HttpBackend):
    """A server at one base URL, with at most one key.

    Of the account of an attempt nothing is used, and of the request's headers neither: so whatever
    is handed in here, no token and nothing of the client's own goes out.
    """

    place: Place
    key: Key
    #: The configured headers.
    further: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    block: str = attrs.field(init=False)

    @block.default
    def _block(self) -> str:
        return self.place.block

    @asynccontextmanager
    async def attempt(self, request: UpstreamRequest, account: Account) -> AsyncIterator[Attempt]:
        """See `HttpBackend.attempt`; a request that says so has its answer translated."""
        async with super().attempt(request, account) as inside:
            attempt = DiscreetAttempt(inside, self._secrets())
            if request.translated_by is None:
                yield attempt
            else:
                yield TranslatedAttempt(attempt, request.translated_by(), self.wall_clock)

    def headers(self, request: UpstreamRequest, account: Account) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - see above
        """See `HttpBackend.headers`."""
        return request_headers(
            key=self.key.text, further=self.further, streams=request.method == "POST"
        )

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """See `HttpBackend.refusal`."""
        fault = super().refusal(status, headers, self._secrets().hidden_in(body))
        return words.explained(fault, status, self.place, url=shown(self.base_url))

    def _secrets(self) -> Secrets:
        """Return what is sent as a secret; the key may be another one at the next attempt."""
        return Secrets.of((self.key.text or "", *self.further.values()))

    def unreachable(self, why: str) -> str:
        """See `HttpBackend.unreachable`."""
        return words.unreachable(why, self.place, url=shown(self.base_url))
