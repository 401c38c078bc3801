"""A running simulator with a client that is signed in, and the requests that agents send it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

from codexrelay.protocol import sse
from codexrelay.protocol.raw import dump, parse_object
from harness.simulator import Simulator
from tests.fakes.no_tls import NO_TLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.protocol.raw import Json, JsonObject


@attrs.frozen
class SignedIn:
    """A client with the first tokens of an account, talking straight to the simulator."""

    simulator: Simulator
    http: httpx.AsyncClient
    account: str

    @property
    def headers(self) -> dict[str, str]:
        return signed_in_headers(self.simulator, self.account)

    def as_account(self, account: str) -> SignedIn:
        """Return the same client signed in to another account."""
        return attrs.evolve(self, account=account)

    async def post(self, body: JsonObject, *, path: str = "/responses") -> httpx.Response:
        """Send a model request and read its whole answer."""
        url = self.simulator.api_base_url + path
        return await self.http.post(url, json=body, headers=self.headers)

    async def events(self, body: JsonObject) -> list[JsonObject]:
        """Send a model request that must be streamed, and return its events."""
        answer = await self.post(body)
        assert answer.status_code == 200, answer.text
        return events_of(answer.content)


@asynccontextmanager
async def simulated(simulator: Simulator) -> AsyncIterator[SignedIn]:
    """Serve `simulator`, and give a client signed in to its first account."""
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        with trio.fail_after(60):
            async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
                yield SignedIn(simulator, http, simulator.accounts[0].name)
        nursery.cancel_scope.cancel()


def signed_in_headers(simulator: Simulator, account: str) -> dict[str, str]:
    """Return what the backend wants to see of a client that holds the account's first tokens."""
    return {
        "authorization": f"Bearer {simulator.tokens(account).access_token}",
        "chatgpt-account-id": simulator.account(account).account_id,
    }


def request(*items: JsonObject, tools: list[Json] | None = None, **more: Json) -> JsonObject:
    """Return a request as the backend wants it, with this input."""
    body: JsonObject = {"model": "gpt-5.5", "store": False, "stream": True, "input": list(items)}
    return body | ({"tools": tools} if tools is not None else {}) | more


def user(text: str) -> JsonObject:
    """Return a user message."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def events_of(body: bytes) -> list[JsonObject]:
    """Return the parsed events of a whole stream."""
    events = [event for raw in sse.split(body) if (event := sse.read(raw)) is not None]
    return [parse_object(event.data) for event in events]


def raw_request(simulator: Simulator, body: JsonObject) -> bytes:
    """Return a model request of the first account as bytes of HTTP/1.1."""
    content = dump(body)
    headers = {
        "host": "backend",
        "content-length": str(len(content)),
        **signed_in_headers(simulator, simulator.accounts[0].name),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /responses HTTP/1.1\r\n{head}\r\n".encode() + content
