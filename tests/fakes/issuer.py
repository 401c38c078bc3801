"""A sign-in service behind httpx's transport seam.

Refresh tokens are single use and rotate; using one twice revokes its whole family, access tokens
included, as the real one does in the worst case.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs
import httpx
import orjson
import trio

from codexrelay.accounts.account import Credentials
from tests.fakes.tokens import access_token


class Trouble(enum.Enum):
    """What one call suffers."""

    #: No connection comes about.
    UNREACHABLE = enum.auto()
    #: The token is renewed, and the connection breaks before the answer.
    ANSWER_LOST = enum.auto()
    #: 503; the token is not looked at.
    BUSY = enum.auto()
    #: The token is renewed, and a gateway answers 504.
    GATEWAY_TIMEOUT = enum.auto()
    #: Never answers.
    HANGS = enum.auto()
    #: Refuses with a code that nobody knows; the token is not spent.
    ODD_CODE = enum.auto()


@attrs.define(eq=False)
class _Family:
    """The tokens that follow from one sign-in."""

    workspace_id: str
    current: str = ""
    revoked: bool = False


@attrs.define(eq=False)
class FakeIssuer(httpx.AsyncBaseTransport):
    """The token endpoint; also tells which access tokens a backend would take."""

    wall_clock: Callable[[], float]
    lifetime_s: float = 3600.0
    #: Bodies of the calls that arrived.
    calls: list[dict[str, str]] = attrs.field(factory=list)
    #: What the next calls suffer, first one first.
    troubles: list[Trouble] = attrs.field(factory=list)
    #: Calls wait for this before they are looked at.
    gate: trio.Event | None = None
    #: Calls that are waiting for it.
    waiting: int = 0
    _families: dict[str, _Family] = attrs.field(factory=dict)
    _bearers: dict[str, _Family] = attrs.field(factory=dict)
    _serial: int = 0
    _arrival: trio.Event = attrs.field(factory=trio.Event)

    def sign_in(self, workspace_id: str, *, lifetime_s: float | None = None) -> Credentials:
        """Return the tokens of a new sign-in."""
        return self._issue(_Family(workspace_id), lifetime_s or self.lifetime_s)

    def takes(self, bearer: str) -> bool:
        """Tell whether a backend would take the access token, its expiry left aside."""
        return bearer in self._bearers and not self._bearers[bearer].revoked

    async def wait_for_calls(self, count: int) -> None:
        """Return once `count` calls have arrived in all."""
        while len(self.calls) < count:
            await self._arrival.wait()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is Trouble.UNREACHABLE:
            raise httpx.ConnectError("no route")
        assert (request.method, request.url.path) == ("POST", "/oauth/token")
        body = orjson.loads(await request.aread())
        self.calls.append(body)
        self._arrival.set()
        self._arrival = trio.Event()
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()
            self.waiting -= 1
        await trio.lowlevel.checkpoint()
        match trouble:
            case Trouble.BUSY:
                return httpx.Response(503, json={"error": {"code": "invalid_grant"}})
            case Trouble.ODD_CODE:
                return httpx.Response(400, json={"error": "moon_in_the_wrong_phase"})
            case Trouble.HANGS:
                await trio.sleep_forever()
        answer = self._answer(body["refresh_token"])
        match trouble:
            case Trouble.ANSWER_LOST:
                raise httpx.ReadError("connection reset")
            case Trouble.GATEWAY_TIMEOUT:
                return httpx.Response(504, html="<title>Gateway timeout</title>")
        return answer

    def _answer(self, token: str) -> httpx.Response:
        family = self._families.get(token)
        if family is None:
            return httpx.Response(400, json={"error": "invalid_grant"})
        if family.revoked:
            return _refusal("refresh_token_invalidated")
        if token != family.current:
            family.revoked = True
            return _refusal("refresh_token_reused")
        issued = self._issue(family, self.lifetime_s)
        return httpx.Response(
            200,
            json={
                "access_token": issued.access_token,
                "refresh_token": issued.refresh_token,
                "expires_in": self.lifetime_s,
            },
        )

    def _issue(self, family: _Family, lifetime_s: float) -> Credentials:
        self._serial += 1
        expires = self.wall_clock() + lifetime_s
        issued = Credentials(
            access_token=access_token(
                family.workspace_id, expires_at_unix_s=expires, serial=self._serial
            ),
            refresh_token=f"rt_{self._serial}",
            expires_at_unix_s=expires,
        )
        assert issued.refresh_token is not None
        family.current = issued.refresh_token
        self._families[family.current] = family
        self._bearers[issued.access_token] = family
        return issued


def _refusal(code: str) -> httpx.Response:
    return httpx.Response(401, json={"error": {"message": "Sign in again.", "code": code}})
