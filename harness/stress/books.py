"""What the sign-in service has done, as seen from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.protocol.raw import get_object, get_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import JsonObject

OK: Final = 200


@attrs.define(eq=False, kw_only=True)
class Call:
    """One call of the token endpoint."""

    #: Who made it.
    by: str
    #: Whose token was sent, None if nobody knows it.
    account: str | None
    #: What the issuer said, None while it has not looked at the token.
    status: int | None = None
    code: str | None = None
    #: The answer was handed to the connection whole.
    answered: bool = False
    #: The caller left before the issuer looked at the token, so it never did.
    dropped: bool = False

    @property
    def renewed(self) -> bool:
        """Whether the token was spent and a new pair made."""
        return self.status == OK


@attrs.define(eq=False)
class Books:
    """Which refresh token is whose, and every call in the order of arrival."""

    calls: list[Call] = attrs.field(factory=list, init=False)
    #: The newest refresh token of each account, and whose each token is.
    newest: dict[str, str] = attrs.field(factory=dict, init=False, repr=False)
    _owner: dict[str, str] = attrs.field(factory=dict, init=False, repr=False)
    #: Set, and replaced, whenever a call begins or is decided.
    _change: trio.Event = attrs.field(factory=trio.Event, init=False)

    def sign_in(self, account: str, refresh_token: str) -> None:
        """Note a new family of tokens."""
        self._owner[refresh_token] = account
        self.newest[account] = refresh_token

    def arrive(self, by: str, refresh_token: str) -> Call:
        """Note that a call has begun."""
        call = Call(by=by, account=self._owner.get(refresh_token))
        self.calls.append(call)
        self._notify()
        return call

    def decide(self, call: Call, status: int, answer: JsonObject) -> None:
        """Note what the issuer has decided."""
        call.status = status
        call.code = get_text(get_object(answer, "error"), "code") or get_text(answer, "error")
        refresh_token = get_text(answer, "refresh_token")
        if call.renewed and call.account is not None and refresh_token is not None:
            self.sign_in(call.account, refresh_token)
        self._notify()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition`, which is about calls, is true. The deadline is the caller's."""
        while not condition():
            await self._change.wait()

    def last_renewal(self, account: str) -> Call | None:
        """Return the call that made the newest pair, None if that was a sign-in."""
        renewals = (call for call in reversed(self.calls) if call.account == account)
        return next((call for call in renewals if call.renewed), None)

    def _notify(self) -> None:
        self._change.set()
        self._change = trio.Event()
