"""How far a request got on its way out: told by the transport, read by whoever has to repeat it.

It rides in the request itself, so that the account code, which knows no transport, can read it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.faults import Reached

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import httpx

#: Where a request's extensions hold its `Progress`.
PROGRESS: Final = "codexrelay_progress"


@attrs.define(eq=False)
class Progress:
    """How far one request got; right at any moment, also after a cancellation.

    Two transports keep it: the direct one lets its exchange tell, which costs nothing until
    somebody asks; httpx's stock one calls `trace`. One that does neither must be asked with
    `otherwise`, and what it was cancelled in the middle of counts as not sent.
    """

    _tell: Callable[[], Reached] | None = None
    _at_least: Reached = Reached.NOT_SENT
    #: The transport tells.
    _told: bool = False

    @classmethod
    def of(cls, request: httpx.Request) -> Progress:
        """Return the progress that `request` carries; one that nobody reads, if it carries none."""
        carried = request.extensions.get(PROGRESS)
        return carried if isinstance(carried, cls) else cls()

    @staticmethod
    def tells(request: httpx.Request) -> Reached | None:
        """Return how far `request` got; None if it carries no progress, hence nobody knows."""
        carried = request.extensions.get(PROGRESS)
        return carried.reached if isinstance(carried, Progress) else None

    @property
    def extensions(self) -> dict[str, object]:
        """What a request carries for both transports."""
        trace: Callable[[str, Mapping[str, object]], Coroutine[object, object, None]] = self.trace
        return {PROGRESS: self, "trace": trace}

    @property
    def reached(self) -> Reached:
        """`NOT_SENT`: no byte has left; `SENT`: all were handed to the system; else `UNKNOWN`."""
        told = self._tell() if self._tell is not None else Reached.NOT_SENT
        return self._at_least if told is Reached.NOT_SENT else told

    @property
    def is_unsent(self) -> bool:
        """Whether the transport itself says that no byte has left; False if it tells nothing."""
        return self._told and self.reached is Reached.NOT_SENT

    def begin(self) -> None:
        """Take note that whoever calls this tells from now on; nothing has left so far."""
        self._told = True

    def follow(self, tell: Callable[[], Reached]) -> None:
        """Ask `tell` from now on: the request goes out, perhaps once more on a fresh connection.

        What left on an earlier connection may have arrived, so it is never `NOT_SENT` again.
        """
        if self.reached is not Reached.NOT_SENT:
            self._at_least = Reached.UNKNOWN
        self._tell = tell

    def otherwise(self, reached: Reached) -> None:
        """Take note of what the outcome shows, if the transport told nothing."""
        if self.reached is Reached.NOT_SENT:
            self._at_least = reached

    async def trace(self, name: str, info: Mapping[str, object]) -> None:
        """Follow httpx's stock transport: the `trace` extension of httpcore 1.0.

        After a failed write httpcore still looks for an answer, so the error that it raises in the
        end does not tell how far the request got; these events do.
        """
        self._told = True
        match name.partition(".")[2]:
            case "send_request_headers.started" if not is_connect(info):
                self._at_least = Reached.UNKNOWN
            case "send_request_headers.failed" if _is_local(info):
                self._at_least = Reached.NOT_SENT
            case "send_request_body.complete" if self._at_least is Reached.UNKNOWN:
                self._at_least = Reached.SENT
            case _:
                pass


def is_connect(info: Mapping[str, object]) -> bool:
    """Tell whether what is sent is the request for a tunnel, which is the proxy's."""
    return getattr(info.get("request"), "method", b"") == b"CONNECT"


def _is_local(info: Mapping[str, object]) -> bool:
    """Tell whether the head could not even be written; httpcore's own class, by its name."""
    return type(info.get("exception")).__name__ == "LocalProtocolError"
