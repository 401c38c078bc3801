"""The attempt ladder: which attempt follows which fault, before the first output.

Decides only; `turn` acts. The clients try again by themselves (Codex CLI up to 30 times on a 500,
measured), so the ladder is short.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.faults import Fault


class Step(enum.Enum):
    """What follows a fault."""

    #: The same account, with a token that has been refreshed.
    REFRESH = "refresh"
    #: The same account, after a short wait.
    RETRY = "retry"
    #: Another account.
    ROTATE = "rotate"
    #: Nothing: the client is told.
    GIVE_UP = "give up"


LADDER: Final[Mapping[FaultKind, tuple[Step, ...]]] = {
    # A cached token may have been revoked: ask once for a new one before blaming the account.
    FaultKind.UNAUTHORIZED: (Step.REFRESH, Step.ROTATE),
    FaultKind.FORBIDDEN: (Step.ROTATE,),
    FaultKind.LIMITED: (Step.ROTATE,),
    FaultKind.UNUSABLE: (Step.ROTATE,),
    FaultKind.THROTTLED: (Step.ROTATE,),
    FaultKind.OVERLOADED: (Step.RETRY, Step.ROTATE),
    FaultKind.BROKEN: (Step.RETRY, Step.ROTATE),
    # The user has waited a whole budget already; a second one in silence would be worse.
    FaultKind.SLOW: (),
    # Encrypted content that another account made, unknown to the relay since a restart: look for
    # the account that can read it, and let `strip` be the last resort.
    FaultKind.UNREADABLE: (Step.ROTATE,),
    # The body is at fault; every account would answer the same.
    FaultKind.REFUSED: (),
}

#: Faults of one account: each account climbs its own steps. The other faults are nobody's, and the
#: turn climbs their steps once, whichever accounts it met them on.
_OF_AN_ACCOUNT: Final = frozenset(
    {
        FaultKind.UNAUTHORIZED,
        FaultKind.FORBIDDEN,
        FaultKind.LIMITED,
        FaultKind.UNUSABLE,
        FaultKind.THROTTLED,
        FaultKind.UNREADABLE,
    }
)
#: Bounds a turn over a large pool whose accounts all fail.
MAX_ATTEMPTS: Final = 16
#: Before the same account is asked again.
RETRY_WAIT_S: Final = 0.25


@attrs.define(eq=False)
class Ladder:
    """How far one turn has climbed."""

    #: Accounts that this turn must not be given again.
    rejected: frozenset[str] = frozenset()
    #: The account the next attempt should be on, if there is a reason for one.
    prefer: str | None = None
    #: The next attempts go without encrypted reasoning.
    stripped: bool = False
    attempts: int = 0
    _unable_to_read: frozenset[str] = frozenset()
    _met: Counter[tuple[FaultKind, str | None]] = attrs.field(factory=Counter)

    def climb(self, fault: Fault, account_id: str) -> Step:
        """Return the step after `fault` on `account_id`, and remember it."""
        self.attempts += 1
        step = self._next(fault.kind, account_id)
        if step is Step.ROTATE:
            self.rejected |= {account_id}
            self.prefer = None
        else:
            self.prefer = account_id
        if fault.kind is FaultKind.UNREADABLE:
            self._unable_to_read |= {account_id}
        return step

    def strip(self) -> bool:
        """Go on without encrypted reasoning, when no account was able to read it.

        Returns False if there is nothing to gain: nobody was refused for it, or it is gone already.
        """
        if self.stripped or not self._unable_to_read:
            return False
        self.rejected -= self._unable_to_read
        self.stripped = True
        return True

    def _next(self, kind: FaultKind, account_id: str) -> Step:
        if self.attempts >= MAX_ATTEMPTS:
            return Step.GIVE_UP
        met = (kind, account_id if kind in _OF_AN_ACCOUNT else None)
        steps, seen_before = LADDER[kind], self._met[met]
        self._met[met] += 1
        return steps[seen_before] if seen_before < len(steps) else Step.GIVE_UP
