"""Lines that a person pastes, read without holding up the rest of the command."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio


@attrs.define(eq=False)
class PastedLines:
    """The lines of the input, one by one."""

    #: Waits for more of the input; empty at its end.
    read_input: Callable[[], bytes]
    _rest: bytes = attrs.field(default=b"", init=False, repr=False)
    _ended: bool = attrs.field(default=False, init=False)

    async def next(self) -> str | None:
        """Return the next line that is not empty, None when the input has ended.

        Cancelled, it leaves a thread behind that waits for input and that nobody waits for: what is
        typed next is lost, which nobody will type.
        """
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline or self._ended:
                self._rest = rest
                if text := line.decode("utf-8", "replace").strip():
                    return text
                if not newline:
                    return None
                continue
            more = await trio.to_thread.run_sync(self.read_input, abandon_on_cancel=True)
            self._ended = not more
            self._rest += more
