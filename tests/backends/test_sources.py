"""Answers that are read without waiting: what `source` gives is what `receive` would have given."""

from __future__ import annotations

import gzip
import re
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio

from codexrelay.backends.backend import Head, Source, UpstreamRequest
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.openai.secrecy import DiscreetAttempt, Secrets
from codexrelay.backends.transports.connection import Connection, Origin, receive_room
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.tls import Tls
from codexrelay.protocol.faults import Fault
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.backends.backend import Attempt
    from tests.fakes.certificates import Certificate
    from tests.fakes.scripted_server import Script

HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
COUNTED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
END: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture(params=["plain", "TLS"])
def contexts(
    request: pytest.FixtureRequest, certificate: Certificate
) -> tuple[ssl.SSLContext | None, ssl.SSLContext]:
    return (certificate.server if request.param == "TLS" else None), certificate.client


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext]


@asynccontextmanager
async def attempting(
    script: Script, contexts: Contexts
) -> AsyncIterator[tuple[Attempt, DirectTransport]]:
    """Give an attempt that has its head, within 20 s."""
    with trio.fail_after(20):
        async with (
            serving(script, tls=contexts[0]) as server,
            DirectTransport(ssl_context=contexts[1]) as transport,
        ):
            backend = CodexBackend(
                transport=transport,
                base_url=httpx.URL(server.url),
                connect_s=10.0,
                wall_clock=lambda: NOW_UNIX_S,
            )
            request = UpstreamRequest(path="/responses", body=b"{}")
            async with backend.attempt(request, an_account()) as attempt:
                assert attempt.source is None
                assert isinstance(await attempt.send(), Head)
                yield attempt, transport
            assert transport.busy_connections == 0


async def next_of(source: Source) -> bytes | None:
    """Return what comes next of a source, as a pump would get it."""
    while (block := source.receive_now()) == b"":
        await trio.lowlevel.wait_readable(source.fileno())
    return block


class Gates:
    """Lets a server say its pieces one by one."""

    def __init__(self) -> None:
        self.open = [trio.Event() for _ in range(8)]


async def test_events_are_read_as_they_come_and_nothing_waits(contexts: Contexts) -> None:
    go = Gates()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD)
        for number in range(3):
            await go.open[number].wait()
            await caller.send(chunk(b"event %d" % number))
        await go.open[3].wait()
        await caller.send(END)
        await caller.left()

    async with attempting(script, contexts) as (attempt, transport):
        source = attempt.source
        assert source is not None
        for number in range(3):
            assert source.receive_now() == b""
            go.open[number].set()
            assert await next_of(source) == b"event %d" % number
        go.open[3].set()
        assert await next_of(source) is None
        # Whoever has registered the descriptor must take it out before anybody else can have it.
        assert (transport.busy_connections, transport.idle_connections) == (1, 0)
        assert attempt.source is source
        assert await attempt.receive() == b""
        assert (transport.busy_connections, transport.idle_connections) == (0, 1)
        assert attempt.source is None
        assert (source.fileno(), source.receive_now()) == (-1, None)


async def test_an_end_in_the_last_block_is_told_after_it(contexts: Contexts) -> None:
    go = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD)
        await go.wait()
        await caller.send(chunk(b"all") + END)
        await caller.left()

    async with attempting(script, contexts) as (attempt, transport):
        source = attempt.source
        assert source is not None
        go.set()
        assert not source.is_over
        assert await next_of(source) == b"all"
        assert source.is_over
        assert transport.busy_connections == 1
        assert source.receive_now() is None
        assert await attempt.receive() == b""
        assert transport.idle_connections == 1


async def test_receiving_and_reading_take_turns(contexts: Contexts) -> None:
    go = Gates()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD)
        for number in range(4):
            await go.open[number].wait()
            await caller.send(chunk(b"%d" % number))
        await caller.send(END)
        await caller.left()

    got = []
    async with attempting(script, contexts) as (attempt, _):
        source = attempt.source
        assert source is not None
        for number in range(4):
            go.open[number].set()
            got.append(await (attempt.receive() if number % 2 else next_of(source)))
        assert await attempt.receive() == b""
    assert got == [b"0", b"1", b"2", b"3"]


async def test_an_answer_that_came_whole_with_its_head_has_no_source(contexts: Contexts) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD + chunk(b"all") + END)
        await caller.left()

    async with attempting(script, contexts) as (attempt, transport):
        assert attempt.source is None
        assert transport.idle_connections == 1
        assert await attempt.receive() == b"all"
        assert await attempt.receive() == b""


async def test_an_answer_is_whole_once_its_last_byte_is_here(contexts: Contexts) -> None:
    go = Gates()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD + chunk(b"some"))
        await go.open[0].wait()
        await caller.send(chunk(b"more") + END)
        await caller.left()

    async with attempting(script, contexts) as (attempt, _):
        assert not attempt.is_whole
        assert await attempt.receive() == b"some"
        assert not attempt.is_whole
        go.open[0].set()
        assert await attempt.receive() == b"more"
        assert attempt.is_whole
        assert await attempt.receive() == b""


async def test_what_came_with_the_head_is_read_first(contexts: Contexts) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD + chunk(b"early"))
        await caller.left()

    async with attempting(script, contexts) as (attempt, transport):
        source = attempt.source
        assert source is not None
        assert source.receive_now() == b"early"
        assert source.receive_now() == b""
    # Left in the middle: closed, and kept nowhere.
    assert (transport.busy_connections, transport.idle_connections) == (0, 0)


ENDINGS: Final[dict[str, tuple[list[bytes], bool]]] = {
    "whole": ([HEAD, chunk(b"one"), END], False),
    "in the middle of a chunk": ([HEAD, chunk(b"one")[:-3]], False),
    "between two chunks": ([HEAD, chunk(b"one")], False),
    "in the middle of a length": ([COUNTED, b"12345"], False),
    "counted": ([COUNTED, b"12345", b"67890"], False),
    "until closed": ([b"HTTP/1.1 200 OK\r\n\r\n", b"one", b"two"], False),
    "no chunk": ([HEAD, chunk(b"one") + b"zz\r\n"], False),
    "no chunk from the beginning": ([HEAD, b"zz\r\n"], False),
    "bytes behind the end": ([HEAD, chunk(b"one") + END + b"HTTP/1.1 200"], False),
    "reset": ([HEAD, chunk(b"one")], True),
}


@pytest.mark.parametrize(("pieces", "is_reset"), ENDINGS.values(), ids=ENDINGS)
async def test_an_answer_ends_as_it_would_if_it_were_received(
    contexts: Contexts, pieces: list[bytes], *, is_reset: bool
) -> None:
    async def read(*, by_source: bool) -> tuple[bytes, bytes | str, tuple[int, int]]:
        taken = [trio.Event() for _ in pieces]

        async def script(caller: Caller) -> None:
            await caller.request()
            for piece, event in zip(pieces, taken, strict=True):
                await caller.send(piece)
                if piece is not pieces[-1] or is_reset:
                    await event.wait()
            if is_reset:
                caller.reset()

        got: list[bytes] = []
        async with attempting(script, contexts) as (attempt, transport):
            taken[0].set()
            last: bytes | Fault | None = b" "
            if by_source:
                source = attempt.source
                assert source is not None
                while last is not None:
                    last = await next_of(source)
                    got.append(last or b"")
                    taken[min(len(got), len(taken) - 1)].set()
            last = b" "
            while isinstance(last, bytes) and last:
                last = await attempt.receive()
                got.append(last if isinstance(last, bytes) else b"")
                taken[min(len(got), len(taken) - 1)].set()
            left = (transport.busy_connections, transport.idle_connections)
            told = last.message if isinstance(last, Fault) else last
        if isinstance(told, str):
            told = re.sub(r"127\.0\.0\.1:\d+", "the server", told)  # another port each time
        return b"".join(got), told, left

    assert await read(by_source=True) == await read(by_source=False)


async def test_records_that_were_cut_anywhere_are_all_handed_out(certificate: Certificate) -> None:
    """Nothing that can be decrypted is kept back: the system tells of undelivered bytes alone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        tls, server, to_client = shaken_hands(certificate)
        connection = Connection(Origin("https", "localhost", 443), ours, receive_room(), tls)
        plain = [b"event %d" % number for number in range(4)]
        for record in plain:
            server.write(record)
            cipher, got = to_client.read(), bytearray()
            for at in range(len(cipher)):
                assert got == b""
                theirs.send(cipher[at : at + 1])
                assert connection.receive_now(got.extend)
            assert got == record
        for record in plain:
            server.write(record)
        theirs.send(to_client.read())
        blocks: list[bytes] = []
        assert connection.receive_now(lambda block: blocks.append(bytes(block)))
        assert b"".join(blocks) == b"".join(plain)
        connection.close()


def shaken_hands(certificate: Certificate) -> tuple[Tls, ssl.SSLObject, ssl.MemoryBIO]:
    """Return a client's TLS, its server's, and where the latter writes to."""
    tls = Tls.to("localhost", certificate.client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificate.server.wrap_bio(to_server, to_client, server_side=True)
    is_done = [False, False]
    while not all(is_done):
        said, is_done[0] = tls.handshake()
        to_server.write(said)
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            is_done[1] = True
        if to_client.pending:
            tls.feed(memoryview(to_client.read()))
    return tls, server, to_client


async def test_what_came_compressed_has_no_source_and_is_received_as_it_was(
    contexts: Contexts,
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"))
        await caller.send(chunk(gzip.compress(b"an event")) + END)
        await caller.left()

    async with attempting(script, contexts) as (attempt, transport):
        assert attempt.source is None
        got = b""
        while isinstance(block := await attempt.receive(), bytes) and block:
            got += block
        assert (block, got) == (b"", b"an event")
        assert transport.idle_connections == 1


async def test_a_secret_is_kept_out_of_what_is_read_without_waiting(contexts: Contexts) -> None:
    go = Gates()
    secret = b"sk-0123456789"
    harmless, error = b"data: {}\n\n" + secret, b'event: error\ndata: {"k": "%b"}\n\n' % secret

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(HEAD)
        for number, piece in enumerate((harmless + b"\n\n", error)):
            await go.open[number].wait()
            await caller.send(chunk(piece))
        await caller.send(END)
        await caller.left()

    async with attempting(script, contexts) as (inside, _):
        attempt = DiscreetAttempt(inside, Secrets.of([secret.decode()]))
        source = attempt.source
        assert source is not None
        assert attempt.source is source
        assert source.receive_now() == b""
        go.open[0].set()
        assert await next_of(source) == harmless + b"\n\n"
        go.open[1].set()
        assert await next_of(source) == b'event: error\ndata: {"k": "[hidden]"}\n\n'
        assert await next_of(source) is None
        assert await attempt.receive() == b""
        assert attempt.source is None
