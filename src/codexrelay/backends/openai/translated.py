"""An attempt whose answer becomes one of the other protocol while it is received."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.backends.backend import Attempt, Head, Transducer
from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults
from codexrelay.protocol.delivery import STILL_THERE

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault, Reached

#: How long a target may send what makes no event, until the relay is told that it is not silent.
UNEVENTFUL_S: Final = 1.0
#: So much of a body without any event is kept, to say what it was.
MAX_PAGE_BYTES: Final = 64 * 1024
_STREAM: Final = re.compile(rb"\s*(?:event|data|id|retry)?:")


@attrs.define(eq=False)
class TranslatedAttempt:
    """See `Attempt`. What it does not say itself, the attempt inside does."""

    _inside: Attempt
    _transducer: Transducer
    _wall_clock: Callable[[], float]
    #: What came before anything was made of it: it may be a page, or an error as JSON.
    _page: bytes = attrs.field(default=b"", init=False)
    _has_delivered: bool = attrs.field(default=False, init=False)
    _has_ended: bool = attrs.field(default=False, init=False)

    @property
    def reached(self) -> Reached:
        """See `Attempt.reached`."""
        return self._inside.reached

    async def send(self) -> Head | Fault:
        """See `Attempt.send`."""
        return await self._inside.send()

    @property
    def is_whole(self) -> bool:
        """See `Attempt.is_whole`."""
        return self._has_ended or self._inside.is_whole

    @property
    def source(self) -> None:
        """See `Attempt.source`."""

    async def receive(self) -> bytes | Fault:
        """See `Attempt.receive`: never `b""` but at the end, also of blocks that make no event."""
        if self._has_ended:
            return b""
        began_at_s = trio.current_time()
        while True:
            received = await self._inside.receive()
            if not isinstance(received, bytes):
                self._has_ended = True
                return received
            try:
                made = self._transducer.feed(received) if received else self._transducer.end()
            except EventTooLargeError as error:
                return self._fault(faults.broken(str(error)))
            if made:
                self._has_delivered, self._page = True, b""
                self._has_ended = not received
                return made
            if not received:
                return self._end()
            if not self._has_delivered and len(self._page) < MAX_PAGE_BYTES:
                self._page += received
            if trio.current_time() - began_at_s >= UNEVENTFUL_S:
                return STILL_THERE

    def _end(self) -> bytes | Fault:
        if self._has_delivered:
            self._has_ended = True
            return b""
        if _STREAM.match(self._page):
            return self._fault(faults.ended_early())
        return self._fault(faults.no_stream(self._page, now_unix_s=self._wall_clock()))

    def _fault(self, fault: Fault) -> Fault:
        self._has_ended = True
        return attrs.evolve(fault, reached=self.reached)
