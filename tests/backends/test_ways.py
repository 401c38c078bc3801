"""An attempt's two ways, the relay's own and the one through httpx: nobody sees a difference."""

from __future__ import annotations

import contextlib
import gzip
import socket
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.transports.connection import Connection, Origin, receive_room
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.exchange import Timeouts
from codexrelay.backends.transports.idle import IdleConnections
from codexrelay.backends.transports.way import Target, way_over
from codexrelay.protocol.faults import Fault
from tests.fakes.no_tls import NO_TLS
from tests.fakes.scripted_server import Caller, answering, serving
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import Callable


class Cover(httpx.AsyncBaseTransport):
    """A transport around the relay's own, as a recorder is one: it shows that one's cover alone."""

    def __init__(self) -> None:
        self._inside = DirectTransport(ssl_context=NO_TLS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inside.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inside.aclose()


TRANSPORTS: Final[dict[str, Callable[[], httpx.AsyncBaseTransport]]] = {
    "direct": lambda: DirectTransport(ssl_context=NO_TLS),
    "covered": Cover,
    "httpx": lambda: httpx.AsyncHTTPTransport(verify=NO_TLS, trust_env=False),
}


async def outcome(
    transport: httpx.AsyncBaseTransport, url: str, request: UpstreamRequest, *, token: str = "t"
) -> tuple[Head | Fault, bytes | Fault]:
    """Send and read to the end: return the head, and all body or what broke it."""
    with trio.fail_after(20):
        async with transport:
            backend = CodexBackend(
                transport=transport,
                base_url=httpx.URL(url),
                connect_s=10.0,
                wall_clock=lambda: NOW_UNIX_S,
            )
            async with backend.attempt(request, an_account(token=token)) as attempt:
                head, body = await attempt.send(), b""
                if isinstance(head, Fault):
                    return head, b""
                while block := await attempt.receive():
                    if isinstance(block, Fault):
                        return head, block
                    body += block
                return head, body


REQUESTS: Final = {
    "a turn": UpstreamRequest(
        path="/responses", body=b'{"a": 1}', headers=(("session-id", "s"), ("x-a", "1"))
    ),
    "a question": UpstreamRequest(path="/models?v=1", method="GET", headers=(("accept", "*/*"),)),
    "a post of nothing": UpstreamRequest(path="/responses"),
    "a value that is not ASCII": UpstreamRequest(
        path="/responses", body=b"{}", headers=(("x-codex-turn-metadata", "a/größe"),)
    ),
    "an empty value": UpstreamRequest(path="/responses", body=b"{}", headers=(("x-a", ""),)),
    "a large body": UpstreamRequest(path="/responses", body=bytes(range(256)) * 12_000),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_the_backend_sees_the_same_bytes_whatever_the_way(request_: UpstreamRequest) -> None:
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as server:
        for make in TRANSPORTS.values():
            await outcome(make(), f"{server.url}/backend-api/codex", request_)
    assert len(asked) == len(TRANSPORTS)
    assert set(asked) == {asked[0]}
    assert asked[0].startswith(f"{request_.method} /backend-api/codex{request_.path} ".encode())


ANSWERS: Final = {
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Twice: 1\r\nx-twice: 2\r\n\r\nhi",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "no header at all": b"HTTP/1.1 200 OK\r\n\r\nhi",
    "an empty value": b"HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Name: gr\xf6\xdfe\r\n\r\nhi",
    "after interim ones": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\nhi"
    ),
    "compressed": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"hi", mtime=0)
    ),
    "not compressed as it says": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nhi",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
    "refused": b'HTTP/1.1 400 X\r\ncontent-length: 19\r\n\r\n{"detail": "wrong"}',
    "refused and compressed": (
        b"HTTP/1.1 400 X\r\nContent-Encoding: gzip\r\n\r\n"
        + gzip.compress(b'{"detail": "wrong"}', mtime=0)
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_told_alike_whatever_the_way(answer: bytes) -> None:
    async with serving(answering(answer)) as server:
        own = await outcome(DirectTransport(), server.url, REQUESTS["a turn"])
        covered = await outcome(Cover(), server.url, REQUESTS["a turn"])
    assert own == covered
    head, body = own
    assert isinstance(body, Fault) or isinstance(head, Fault) or body == b"hi"


@pytest.mark.parametrize("make", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_header_that_breaks_a_line_is_told_without_its_value(
    make: Callable[[], httpx.AsyncBaseTransport],
) -> None:
    async with serving(answering()) as server:
        for token in ("s3cret\n", "s3cret\rx", "s3cret\0", "s3cret\r\nx-evil: 1"):
            fault, _ = await outcome(make(), server.url, REQUESTS["a turn"], token=token)
            assert isinstance(fault, Fault)
            assert "line break" in fault.message
            assert "s3cret" not in repr(fault)


def test_only_a_transport_that_can_be_asked_is_gone_without_httpx() -> None:
    direct = DirectTransport(ssl_context=NO_TLS)
    assert way_over(direct) is direct
    assert way_over(Cover()) != direct


def test_a_target_leads_to_where_its_url_does() -> None:
    target = Target.at("GET", httpx.URL("https://[::1]:8443/a%20b?c=d"))
    assert target.origin == Origin("https", "::1", 8443)
    assert target.head([("x-a", "1")], 0) == (
        b"GET /a%20b?c=d HTTP/1.1\r\nHost: [::1]:8443\r\nx-a: 1\r\n\r\n"
    )


def test_timeouts_are_told_to_httpx_as_they_were_told_by_it() -> None:
    told = {"connect": 1.0, "read": None, "write": 3.0, "pool": None}
    request = httpx.Request("GET", "http://x", extensions={"timeout": told})
    assert Timeouts.of(request).as_httpx() == told


class Counted(Connection):
    """A connection that counts how often somebody looks whether it is stale."""

    looks = 0

    @property
    def is_stale(self) -> bool:
        Counted.looks += 1
        return super().is_stale


async def test_of_many_idle_connections_one_is_looked_at() -> None:
    origin, room = Origin("http", "x", 80), receive_room()
    idle = IdleConnections(max_idle=100, idle_s=60.0)
    with contextlib.ExitStack() as open_ends:
        for _ in range(100):
            ours, theirs = socket.socketpair()
            open_ends.enter_context(theirs)
            ours.settimeout(0)
            idle.put_out()
            idle.keep(Counted(origin, ours, room), now_s=0.0)
        assert (idle.out, len(idle)) == (0, 100)
        taken = idle.take(origin, now_s=1.0)
        assert taken is not None
        assert (idle.out, len(idle), Counted.looks) == (1, 99, 1)
        idle.drop(taken)
        idle.close()
    assert (idle.out, len(idle)) == (0, 0)
