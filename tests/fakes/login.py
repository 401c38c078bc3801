"""A person, and an issuer in memory, for sign-ins."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

from codexrelay.accounts.login.browser import browser_login
from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.signed_in import SignedIn
from codexrelay.protocol.raw import Json
from tests.fakes.tokens import jwt
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.protocol.raw import JsonObject

ISSUER = "http://issuer.invalid"
AUTH = "https://api.openai.com/auth"


def counting_bytes(count: int) -> bytes:
    """Return bytes that are not random at all."""
    return bytes(range(count))


def tokens(
    *,
    workspace_id: str | None = "workspace-1",
    user_id: str | None = "user-1",
    email: str | None = "jane.doe@example.com",
    plan: str | None = "plus",
    expires_at_unix_s: float = NOW_UNIX_S + 3600,
    serial: int = 1,
) -> JsonObject:
    """Return the issuer's answer to a code."""
    auth: JsonObject = {
        "chatgpt_account_id": workspace_id,
        "chatgpt_user_id": user_id,
        "chatgpt_plan_type": plan,
    }
    return {
        "access_token": jwt({AUTH: auth, "exp": expires_at_unix_s, "jti": serial}),
        "refresh_token": f"rt_{serial}",
        "id_token": jwt({AUTH: auth, "email": email, "jti": serial}),
        "scope": "openid",
    }


@attrs.define(eq=False)
class ScriptedIssuer(httpx.AsyncBaseTransport):
    """Answers each path with what is scripted for it, one after the other; the last one stays."""

    #: Path -> answers: status and body, or what happens instead.
    script: Mapping[str, list[tuple[int, Json] | Exception | float]]
    #: Path and body of each call, and when it came on trio's clock.
    calls: list[tuple[str, bytes, float]] = attrs.field(factory=list)
    #: Calls wait for this before they are answered.
    gate: trio.Event | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.calls.append((path, await request.aread(), trio.current_time()))
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        answers = self.script[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await trio.sleep(answer)
            return httpx.Response(200, json={})
        status, body = answer
        return httpx.Response(status, json=body)

    def form(self, number: int = -1) -> dict[str, str]:
        """Return the fields of a call."""
        return dict(urllib.parse.parse_qsl(self.calls[number][1].decode()))

    def paths(self) -> list[str]:
        """Return what was called, in order."""
        return [path for path, _, _ in self.calls]


@attrs.define(eq=False)
class Person:
    """Sits before the terminal: sees what is told, and pastes."""

    urls: list[str] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)
    #: What the sign-in brought, once it has ended well.
    signed_in: SignedIn | None = None
    #: Why it brought nothing, in the words of the error.
    failed: str | None = None
    _shown: trio.Event = attrs.field(factory=trio.Event)
    _typed: tuple[trio.MemorySendChannel[str], trio.MemoryReceiveChannel[str]] = attrs.field(
        factory=lambda: trio.open_memory_channel[str](10)
    )

    def see_url(self, url: str) -> None:
        self.urls.append(url)
        self._shown.set()

    async def url(self) -> str:
        """Return the address to open."""
        await self._shown.wait()
        return self.urls[0]

    async def query(self) -> dict[str, str]:
        """Return the parameters of the address to open."""
        return dict(urllib.parse.parse_qsl((await self.url()).partition("?")[2]))

    async def paste(self, text: str) -> None:
        await self._typed[0].send(text)

    def end_input(self) -> None:
        self._typed[0].close()

    async def read_pasted(self) -> str | None:
        try:
            return await self._typed[1].receive()
        except trio.EndOfChannel:
            return None


@contextlib.asynccontextmanager
async def signing_in(
    transport: httpx.AsyncBaseTransport,
    *,
    issuer_url: str = ISSUER,
    port: int = 0,
    pasting: bool = False,
    open_browser: Callable[[str], bool] | None = None,
    login_hint: str | None = None,
) -> AsyncIterator[Person]:
    """Run a browser sign-in beside the block; at its end wait for the sign-in's, 20 s at most."""
    person = Person()

    async def run() -> None:
        try:
            person.signed_in = await browser_login(
                issuer_url=issuer_url,
                transport=transport,
                wall_clock=lambda: NOW_UNIX_S,
                random_bytes=counting_bytes,
                show_url=person.see_url,
                tell=person.told.append,
                open_browser=open_browser,
                read_pasted=person.read_pasted if pasting else None,
                port=port,
                login_hint=login_hint,
            )
        except LoginError as error:
            person.failed = str(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield person
