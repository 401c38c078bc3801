"""Refusals of the backend that a client's user can do something about here: how, is said with them.

The backend's own words stay, and so do its code and status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from codexrelay.protocol.answer import Answer
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import Headers
    from codexrelay.relay.line import Line
    from codexrelay.relay.reply import Reply

#: Words of the backend -> the field that they are about, and what helps (wire notes 2.3).
_HELP: Final = {
    "instructions are not valid": (
        "instructions",
        "the capability `prompt_mode` decides what the backend is sent as `instructions`: "
        "`codex_default` sends codexrelay's own text (or `prompt.template`) and puts the client's "
        "at the head of the input, where any text may stand",
    ),
}


def explained(fault: Fault) -> Fault:
    """Return the fault with what helps, where something does."""
    if fault.status == 400:
        for words, (param, help_) in _HELP.items():
            if words in fault.message.lower():
                message = f"{fault.message.rstrip('.')}: {help_}"
                return attrs.evolve(fault, error=fault.error | {"message": message, "param": param})
    return fault


class ExplainedReply:
    """A reply whose refusals are explained; see `Reply`."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        #: What upstream's bytes are fed to.
        self.answer: Answer = reply.answer
        self.headers: Headers = reply.headers
        self.keep_alive: bytes | None = reply.keep_alive

    async def finish(self, line: Line, fault: Fault | None) -> None:
        """See `Reply.finish`."""
        await self._reply.finish(line, None if fault is None else explained(fault))
