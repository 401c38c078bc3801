"""What is known of a backend of another kind: whether it rests, and whether it is unwell.

It *rests* when it asked for that, and is not asked meanwhile. It is *unwell* for a while after it
could not be reached or failed: a route prefers another backend then, but a turn that has no other
tries it all the same. Values in, values out: nothing here waits or reads a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.standing import DEFAULT_PAUSE_S, LONGEST_PAUSE_S, MIN_PAUSE_S
from codexrelay.protocol.faults import DEFAULT_COOL_DOWN_S, Fault, FaultKind, Reached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: A quota may be raised by its owner at any time, and nobody tells.
LONGEST_LIMIT_S: Final = 900.0
#: How long it is unwell, the first time and at most; doubled from one time to the next.
FIRST_UNWELL_S: Final = 5.0
LONGEST_UNWELL_S: Final = 60.0

_CONNECT: Final = "upstream_timeout_connect"
#: Which faults say that another turn would fare no better just now.
_MAKES_UNWELL: Final[Mapping[FaultKind, Callable[[Fault], bool]]] = {
    FaultKind.UNAUTHORIZED: lambda _: True,
    FaultKind.OVERLOADED: lambda _: True,
    FaultKind.BROKEN: lambda fault: fault.reached is Reached.NOT_SENT,
    # A model that thinks for long is not ill.
    FaultKind.SLOW: lambda fault: fault.code == _CONNECT,
}


@attrs.frozen(kw_only=True)
class Rest:
    """A time in which the backend is not asked."""

    #: What it said.
    fault: Fault
    since_unix_s: float
    until_unix_s: float

    @property
    def is_limit(self) -> bool:
        """Whether its quota is spent, rather than that it was asked too fast."""
        return self.fault.kind is FaultKind.LIMITED


@attrs.define(eq=False)
class Standing:
    """One backend's standing. All instants are Unix seconds."""

    _rest: Rest | None = None
    _unwell_until_unix_s: float = 0.0
    #: The last such time; 0: it is well since it served a turn.
    _unwell_s: float = 0.0

    def rest(self, *, now_unix_s: float) -> Rest | None:
        """Return the rest that it has, None if it may be asked."""
        rest = self._rest
        return rest if rest is not None and now_unix_s < rest.until_unix_s else None

    def is_unwell(self, *, now_unix_s: float) -> bool:
        """Tell whether another backend is to be preferred."""
        return now_unix_s < self._unwell_until_unix_s

    def accept(self, *, leased_at_unix_s: float) -> None:
        """A turn that was leased at that instant is served."""
        self._unwell_until_unix_s = self._unwell_s = 0.0
        if self._rest is not None and self._rest.since_unix_s < leased_at_unix_s:
            self._rest = None

    def suffer(self, fault: Fault, *, now_unix_s: float) -> None:
        """Draw the consequences of a fault."""
        if fault.kind in (FaultKind.THROTTLED, FaultKind.LIMITED):
            self._lay_down(fault, now_unix_s=now_unix_s)
        makes_unwell = _MAKES_UNWELL.get(fault.kind)
        if makes_unwell is not None and makes_unwell(fault):
            self._sicken(fault, now_unix_s=now_unix_s)

    def _lay_down(self, fault: Fault, *, now_unix_s: float) -> None:
        is_limit = fault.kind is FaultKind.LIMITED
        otherwise_s = DEFAULT_COOL_DOWN_S if is_limit else DEFAULT_PAUSE_S
        longest_s = LONGEST_LIMIT_S if is_limit else LONGEST_PAUSE_S
        stated_s = otherwise_s if fault.retry_after_s is None else fault.retry_after_s
        until = now_unix_s + min(longest_s, max(MIN_PAUSE_S, stated_s))
        known = self.rest(now_unix_s=now_unix_s)
        # Of two turns that were told so, one may have been told less: the later end counts.
        if known is None or until > known.until_unix_s:
            self._rest = Rest(fault=fault, since_unix_s=now_unix_s, until_unix_s=until)

    def _sicken(self, fault: Fault, *, now_unix_s: float) -> None:
        if self.is_unwell(now_unix_s=now_unix_s):
            return  # of the turns that run side by side, one is enough
        self._unwell_s = min(LONGEST_UNWELL_S, self._unwell_s * 2 or FIRST_UNWELL_S)
        asked_s = min(LONGEST_UNWELL_S, fault.retry_after_s or 0.0)
        self._unwell_until_unix_s = now_unix_s + max(self._unwell_s, asked_s)
