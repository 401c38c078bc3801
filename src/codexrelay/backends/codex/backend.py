"""The Codex backend over HTTP: one POST per attempt, its events or its error body back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from codexrelay.backends.codex.headers import account_headers
from codexrelay.backends.codex.identity import Identity, named
from codexrelay.backends.http_attempt import ERROR_BODY_S as ERROR_BODY_S
from codexrelay.backends.http_attempt import HttpAttempt, HttpBackend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.accounts.account import Account
    from codexrelay.backends.backend import UpstreamRequest

CodexAttempt: TypeAlias = HttpAttempt


@attrs.frozen(kw_only=True)
class CodexBackend(HttpBackend):
    """A Codex backend at one base URL."""

    block: str = "backends.openai_codex"
    #: Who requests say they come from.
    identity: Identity = "codex"

    def headers(self, request: UpstreamRequest, account: Account) -> Sequence[tuple[str, str]]:
        """See `HttpBackend.headers`."""
        return named(request.headers, account_headers(account), self.identity)
