"""The attempt ladder: which attempt follows which fault, before the first output.

Decides only; `climb` acts. The clients try again by themselves (Codex CLI up to 30 times on a 500,
measured), so the ladder is short.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol.faults import FaultKind, Reached

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
    #: Another account; this one too, once the time is over that the backend stated.
    REST = "rest"
    #: The same account, without the encrypted reasoning.
    STRIP = "strip"
    #: Nothing: the client is told.
    GIVE_UP = "give up"


#: After these the turn stays on its account.
STAYING: Final = frozenset({Step.REFRESH, Step.RETRY, Step.STRIP})


class Cost(enum.Enum):
    """What a repeat may cost the owner of the accounts, beside time."""

    #: The backend did not begin, or said that it failed.
    NOTHING = "nothing"
    #: The backend may have begun the turn, and charge it twice.
    A_TURN = "a turn"


@attrs.frozen
class Rule:
    """What may follow a fault: the first time, the second time, and so on; then nothing."""

    steps: tuple[Step, ...]
    cost: Cost = Cost.NOTHING
    #: Each account climbs the steps for itself; else the turn climbs them once, whichever accounts
    #: it meets the fault on.
    each_account: bool = False


_ANY: Final = tuple(Reached)
_BEGUN: Final = (Reached.UNKNOWN, Reached.SENT)

_Key: TypeAlias = tuple[FaultKind, Reached]


def _rows(kind: FaultKind, reached: tuple[Reached, ...], rule: Rule) -> dict[_Key, Rule]:
    return {(kind, far): rule for far in reached}


#: What went wrong, and how far the request had got -> what may follow. All the rules.
LADDER: Final[Mapping[_Key, Rule]] = {
    # A cached token may have been revoked: ask once for a new one before blaming the account.
    **_rows(FaultKind.UNAUTHORIZED, _ANY, Rule((Step.REFRESH, Step.ROTATE), each_account=True)),
    **_rows(FaultKind.FORBIDDEN, _ANY, Rule((Step.ROTATE,), each_account=True)),
    # The pool keeps it away until its reset. A turn that may wait for that asks it again, and once
    # more: resets are told in whole seconds, so the first time may be early.
    **_rows(FaultKind.LIMITED, _ANY, Rule((Step.REST, Step.REST, Step.ROTATE), each_account=True)),
    **_rows(FaultKind.UNUSABLE, _ANY, Rule((Step.ROTATE,), each_account=True)),
    **_rows(FaultKind.UNSUPPORTED, _ANY, Rule((Step.ROTATE,), each_account=True)),
    **_rows(
        FaultKind.THROTTLED, _ANY, Rule((Step.REST, Step.REST, Step.ROTATE), each_account=True)
    ),
    **_rows(FaultKind.OVERLOADED, _ANY, Rule((Step.RETRY, Step.ROTATE))),
    # Nobody has seen the request: a repeat is the first time.
    **_rows(FaultKind.BROKEN, (Reached.NOT_SENT,), Rule((Step.RETRY, Step.ROTATE))),
    # The backend may be at work on it, so one repeat is all that is risked; and the account is not
    # at fault, so another one would fare no better.
    **_rows(FaultKind.BROKEN, _BEGUN, Rule((Step.RETRY,), Cost.A_TURN)),
    # The user has waited a whole budget already; a second one in silence would be worse.
    **_rows(FaultKind.SLOW, _ANY, Rule(())),
    # Encrypted content that another account made, unknown to the relay since a restart. One other
    # account may be the one; to look for it among many would send the whole body to each.
    **_rows(FaultKind.UNREADABLE, _ANY, Rule((Step.ROTATE, Step.STRIP))),
    # The body is at fault; every account would answer the same.
    **_rows(FaultKind.REFUSED, _ANY, Rule(())),
}

#: Bounds a turn over a large pool whose accounts all fail.
MAX_ATTEMPTS: Final = 16
#: Not counted: they cost nothing and take the account out of the pool, so they bound themselves. A
#: turn that gave up among spent accounts would tell one's word although another one has quota.
_UNCOUNTED: Final = frozenset({FaultKind.LIMITED, FaultKind.UNUSABLE, FaultKind.UNSUPPORTED})
#: Before the same account is asked again.
RETRY_WAIT_S: Final = 0.25
#: A turn rests for so long at most, over all its attempts, for accounts that were asked too fast.
MAX_REST_S: Final = 30.0


@attrs.define(eq=False)
class Ladder:
    """How far one turn has climbed. Ids are qualified ones."""

    #: Accounts that this turn must not be given again.
    rejected: frozenset[str] = frozenset()
    #: The account the next attempt should be on, because the last one was.
    again: str | None = None
    #: The next attempts go without encrypted reasoning.
    stripped: bool = False
    attempts: int = 0
    #: Seconds the turn has waited until accounts had rested.
    rested_s: float = 0.0
    _unable_to_read: frozenset[str] = frozenset()
    #: How often.
    _met: dict[tuple[FaultKind, Rule, str | None], int] = attrs.field(factory=dict)

    def climb(self, fault: Fault, account_id: str) -> Step:
        """Return the step after `fault` on `account_id`, and remember it."""
        self.attempts += fault.kind not in _UNCOUNTED
        step = self._next(fault, account_id)
        if fault.kind is FaultKind.UNREADABLE:
            self._unable_to_read |= {account_id}
        if step is Step.STRIP and not self.strip():
            step = Step.GIVE_UP  # it was not the reasoning
        self.again = account_id if step in STAYING else None
        if step is Step.ROTATE:
            self.rejected |= {account_id}
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

    def _next(self, fault: Fault, account_id: str) -> Step:
        if self.attempts >= MAX_ATTEMPTS:
            return Step.GIVE_UP
        # A fault of no attempt's tells nothing of the request, so the dearer rule holds.
        rule = LADDER[fault.kind, fault.reached or Reached.SENT]
        met = (fault.kind, rule, account_id if rule.each_account else None)
        seen_before = self._met.get(met, 0)
        self._met[met] = seen_before + 1
        return rule.steps[seen_before] if seen_before < len(rule.steps) else Step.GIVE_UP
