"""An attempt whose answer is translated while it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.backends.openai.translated import TranslatedAttempt
from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults
from codexrelay.protocol.delivery import STILL_THERE
from codexrelay.protocol.faults import Fault, FaultKind
from tests.backends.test_openai_backend import attempting
from tests.fakes.scripted_server import answering, serving
from tests.fakes.upstream import ScriptedAttempt, Wait, account, head, wall_clock
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from tests.fakes.upstream import Script

REQUEST: Final = UpstreamRequest(path="/chat/completions", body=b"{}")


@attrs.define(eq=False)
class Lines:
    """Gives whole lines in capitals, and says goodbye; `!` is too much for it."""

    _rest: bytes = b""
    _is_over: bool = False

    def feed(self, block: bytes) -> bytes:
        assert not self._is_over
        if b"!" in block:
            raise EventTooLargeError(limit_bytes=5)
        whole, end, self._rest = (self._rest + block).rpartition(b"\n")
        return (whole + end).upper()

    def end(self) -> bytes:
        self._is_over = True
        return b"BYE\n"


@attrs.define(eq=False)
class Nothing:
    """Makes nothing of anything."""

    def feed(self, block: bytes) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""


async def received(script: Script, transducer: Lines | Nothing) -> list[bytes | Fault]:
    """Return what an attempt gives, up to its end or a fault."""
    inside = ScriptedAttempt([head(), *script], REQUEST, account("local"))
    attempt = TranslatedAttempt(inside, transducer, wall_clock)
    assert isinstance(await attempt.send(), Head)
    got: list[bytes | Fault] = []
    while True:
        got.append(one := await attempt.receive())
        if not isinstance(one, bytes) or not one:
            assert await attempt.receive() == b""
            return got


@in_virtual_time
async def test_blocks_that_make_nothing_yet_are_no_end() -> None:
    got = await received([b"a", b"b\nc", b"d", b"\ne\n"], Lines())
    assert got == [b"AB\n", b"CD\nE\n", b"BYE\n", b""]


@in_virtual_time
async def test_a_target_that_goes_on_sending_what_makes_nothing_is_not_silent() -> None:
    got = await received([b"a", Wait(0.5), b"b", Wait(0.5), b"c", Wait(0.9), b"d\n"], Lines())
    assert got == [STILL_THERE, b"ABCD\n", b"BYE\n", b""]


@in_virtual_time
async def test_a_fault_comes_through_and_nothing_is_made_up_behind_it() -> None:
    fault = faults.broken("it broke")
    assert await received([b"a\nb", fault], Lines()) == [b"A\n", fault]


@in_virtual_time
async def test_an_event_that_is_too_large_is_a_fault() -> None:
    *_, last = await received([b"a\n", b"!"], Lines())
    assert isinstance(last, Fault)
    assert (last.kind, last.message) == (
        FaultKind.BROKEN,
        "an upstream event is larger than 5 bytes",
    )


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"<title>Welcome</title>", FaultKind.BROKEN, "web page: Welcome"),
        (b"", FaultKind.BROKEN, "without a body"),
        (b": hello\n\ndata: x", FaultKind.BROKEN, "ended before its terminal event"),
        (
            b'{"error": {"message": "no", "code": "context_length_exceeded"}}',
            FaultKind.REFUSED,
            "no",
        ),
    ],
    ids=["page", "nothing", "half a stream", "error"],
)
@in_virtual_time
async def test_an_answer_of_which_nothing_is_made_says_what_it_was(
    body: bytes, kind: FaultKind, words: str
) -> None:
    [fault] = await received([body] if body else [], Nothing())
    assert isinstance(fault, Fault)
    assert fault.kind is kind
    assert words in fault.message
    assert fault.reached is not None


async def test_a_request_that_names_its_translator_has_a_fresh_one_for_each_attempt() -> None:
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhey\n"
    request = attrs.evolve(REQUEST, delivers="responses", translated_by=Lines)
    with trio.fail_after(10):
        async with serving(answering(body)) as server:
            for _ in range(2):
                async with attempting(f"{server.url}/v1", request=request) as attempt:
                    assert isinstance(await attempt.send(), Head)
                    assert await attempt.receive() == b"HEY\n"
                    assert await attempt.receive() == b"BYE\n"
                    assert await attempt.receive() == b""
