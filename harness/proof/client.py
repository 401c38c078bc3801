"""A client that notes every byte of its answer, and when it came."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.protocol.raw import dump
from harness.proof.truth import is_whole

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_RECEIVE_BYTES: Final = 262144


@attrs.define(eq=False, kw_only=True)
class Heard:
    """What one client has got."""

    data: bytearray = attrs.field(factory=bytearray)
    #: When its bytes came: the time, and how many there were by then.
    at_s: list[tuple[float, int]] = attrs.field(factory=list)
    #: The relay has closed the connection.
    closed: bool = False
    #: It has reset it.
    reset: bool = False
    #: When the client was through with it.
    over_at_s: float | None = None


def request_bytes(path: str, body: JsonObject, **headers: str) -> bytes:
    """Return a POST as bytes; `_` in a header's name stands for `-`."""
    content = dump(body)
    named = {"host": "localhost", "content-length": str(len(content)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


async def ask(
    stream: trio.SocketStream, request: bytes, heard: Heard, *, reads_after_s: float = 0.0
) -> None:
    """Send a request and read until its answer is whole, or nothing can follow; then close.

    It takes nothing for the first `reads_after_s` seconds.
    """
    try:
        await stream.send_all(request)
        if reads_after_s:
            await trio.sleep(reads_after_s)
        while not is_whole(heard.data):
            data = await stream.receive_some(_RECEIVE_BYTES)
            if not data:
                heard.closed = True
                break
            heard.data += data
            heard.at_s.append((trio.current_time(), len(heard.data)))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        heard.closed = heard.reset = True
    finally:
        heard.over_at_s = trio.current_time()
        with contextlib.suppress(trio.BrokenResourceError):
            await trio.aclose_forcefully(stream)
