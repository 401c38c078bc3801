"""The events of a Responses stream: which is a handshake, which is output, which ends it.

Source: wire notes 3 (Codex CLI 0.169, recorded streams). Events that nobody here knows are passed
on.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, TypeAlias

COMPLETED: Final = "response.completed"
INCOMPLETE: Final = "response.incomplete"
FAILED: Final = "response.failed"
ERROR: Final = "error"
#: An older name of `response.completed`.
DONE: Final = "response.done"

ITEM_ADDED: Final = "response.output_item.added"
ITEM_DONE: Final = "response.output_item.done"
RATE_LIMITS: Final = "codex.rate_limits"
METADATA: Final = "response.metadata"

TERMINAL: Final = frozenset({COMPLETED, INCOMPLETE, FAILED, ERROR, DONE})
#: Terminal events that say that the turn did not work.
FAILURES: Final = frozenset({FAILED, ERROR})
#: Events that carry the `response` object before there is any output.
ANNOUNCEMENTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_HANDSHAKES: Final = ANNOUNCEMENTS | {METADATA}

TerminalName: TypeAlias = Literal["completed", "incomplete", "failed"]


class Phase(enum.Enum):
    """What an event means for the hold."""

    #: Says nothing yet: a turn that failed behind it may be tried again unseen.
    HANDSHAKE = enum.auto()
    #: The model has begun to answer (or has answered with nothing): the turn is committed.
    OUTPUT = enum.auto()
    #: The turn failed.
    FAILURE = enum.auto()


def phase_of(name: str) -> Phase:
    """Return what an event named `name` means before the first output.

    Outside `response.*` everything but `error` is a side note (`codex.rate_limits`, `keepalive`,
    `ping`); inside, whatever is unknown counts as output, so that it is never dropped.
    """
    if name in FAILURES:
        return Phase.FAILURE
    if name in _HANDSHAKES or not name.startswith("response."):
        return Phase.HANDSHAKE
    return Phase.OUTPUT
