"""TLS of one client connection as a codec, without I/O."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define(eq=False)
class Tls:
    """Turns what we say into ciphertext and ciphertext into what the peer said.

    Used instead of `trio.SSLStream` for two reasons. That one returns a single TLS record per
    receive, and a server that writes event by event makes one record of each: a burst would be
    handed on in as many blocks as it has events. And it gives up the whole stream when a send is
    cancelled, so that a response which came before the request was sent could not be read.

    Receiving never needs to send: an answer that TLS 1.3 asks for (a key update) waits in the codec
    and leaves in front of the next `encrypt`. Renegotiation (TLS 1.2) is not supported.
    """

    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _object: ssl.SSLObject

    @classmethod
    def to(cls, host: str, context: ssl.SSLContext) -> Tls:
        """Return the TLS of a new connection to `host`, whose certificate must name it."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(incoming, outgoing, context.wrap_bio(incoming, outgoing, server_hostname=host))

    def handshake(self) -> tuple[bytes, bool]:
        """Go on with the handshake: return what to send, and whether it is done.

        Raises:
            ssl.SSLError: the peer's certificate or its TLS is not acceptable.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read(), False
        return self._outgoing.read(), True

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return the ciphertext of `data` (not empty), to be sent after all earlier ones."""
        self._object.write(data)
        return self._outgoing.read()

    def feed(self, block: memoryview) -> None:
        """Take ciphertext; an empty block means that the peer has closed."""
        if block:
            self._incoming.write(block)
        else:
            self._incoming.write_eof()

    def decrypt(self, room: memoryview, sink: Callable[[memoryview], None]) -> bool:
        """Hand all that can be decrypted to `sink`, by way of `room`; return False at the end.

        The end is a proper TLS closure or a bare EOF: HTTP knows by itself whether more was due.

        Raises:
            ssl.SSLError: what came is no TLS, or was tampered with.
        """
        try:
            # With a buffer it returns a count, whatever its annotation says.
            while size := cast("int", self._object.read(len(room), room)):
                sink(room[:size])
        except ssl.SSLWantReadError:
            return True
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass
        return False


@attrs.define(eq=False)
class TlsInTls:
    """The TLS of a target inside that of a proxy: a codec as `Tls` is one, once both are set up."""

    _outer: Tls | TlsInTls
    _inner: Tls

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """See `Tls.encrypt`."""
        return self._outer.encrypt(self._inner.encrypt(data))

    def feed(self, block: memoryview) -> None:
        """See `Tls.feed`."""
        self._outer.feed(block)

    def decrypt(self, room: memoryview, sink: Callable[[memoryview], None]) -> bool:
        """See `Tls.decrypt`."""
        if not self._outer.decrypt(room, self._inner.feed):
            self._inner.feed(memoryview(b""))
        return self._inner.decrypt(room, sink)
