"""What each program is asked to do, what goes wrong meanwhile, and how it should end.

Every scenario is the same conversation: a prompt, a shell tool call, the tool's output, a final
text. What differs is the fault that hits the first model request that carries tools. The
expectations are the table below; how they are checked stands in `verdict`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

#: What the tool is to print, and so what the final text must quote. No program says it by itself.
MARK: Final = "relay-compat-4711"
PROMPT: Final = f"Run the shell command 'echo {MARK}' and tell me what it printed."


class Ending(enum.Enum):
    """How a run should end."""

    #: Exit status 0, the final text printed, the tool's output seen by the backend.
    ANSWERED = "answered"
    #: Exit status not 0, and no answer that could be taken for one.
    REPORTED = "reported"
    #: The status of an interrupted program; the backend saw it leave at once.
    INTERRUPTED = "interrupted"


class Repair(enum.Enum):
    """What the relay does about a fault before the client could see it."""

    #: Another account.
    ROTATE = "rotate"
    #: The same account with a new token.
    REFRESH = "refresh"
    #: The same account, a moment later.
    RETRY = "retry"


@attrs.frozen(kw_only=True)
class Scenario:
    """A column of the matrix."""

    name: str
    #: Faults of the simulator, consumed by the first requests that carry tools.
    faults: tuple[str, ...] = ()
    #: What the relay does so that no client sees the fault; None if it cannot.
    repair: Repair | None = None
    ending: Ending = Ending.ANSWERED
    #: Variants of which another ending is expected.
    but: Mapping[str, Ending] = attrs.field(factory=dict)
    #: Pause of the simulator between two deltas.
    pace_s: float = 0.0
    #: `server.keep_alive_s` of the relay; None means its default.
    keep_alive_s: float | None = None

    def ending_of(self, variant: str) -> Ending:
        """Return how a run of the variant should end."""
        return self.but.get(variant, self.ending)


#: The SDK does not repeat a request whose stream has begun: it raises, and who uses it decides. Nor
#: does pi when a chat stream reports an error; it prints the message and exits with 1.
_TELL_THEIR_USERS: Final = {
    "pi-chat": Ending.REPORTED,
    "sdk-chat": Ending.REPORTED,
    "sdk-responses": Ending.REPORTED,
}

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(name="tool"),
    # Bare, Codex gives up on it, the others wait for two seconds and more.
    Scenario(name="429", faults=("429",), repair=Repair.ROTATE),
    # Bare, it ends every program but Codex.
    Scenario(name="401", faults=("401",), repair=Repair.REFRESH),
    # Bare, everybody tries again by itself, Droid after 5 s.
    Scenario(name="500", faults=("500",), repair=Repair.RETRY),
    # From here on output has reached the client, and nothing can be repaired behind its back: it
    # is told, and the agents try the turn again by themselves.
    Scenario(name="failed", faults=("failed",), but=_TELL_THEIR_USERS),
    Scenario(name="drop", faults=("drop",), but=_TELL_THEIR_USERS),
    # Bare, pi and the SDK take a clean end for success and exit with 0 and no text at all.
    Scenario(name="eof", faults=("eof",), but=_TELL_THEIR_USERS),
    Scenario(name="keep-alive", pace_s=0.5, keep_alive_s=0.3),
    Scenario(name="interrupt", faults=("hang",), ending=Ending.INTERRUPTED),
)
