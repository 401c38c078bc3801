"""The legs of a turn: the backends that it may go to, in order, and when it goes on to the next.

A turn has one leg, or several where a route of the configuration lists several models. The first is
planned before the turn begins; the others are opened only when the turn gets to them, because what
a leg needs (a request in another protocol, a word with the session) may cost something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import Headers
from codexrelay.relay.climb import Wish
from codexrelay.relay.ladder import Ladder
from codexrelay.relay.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codexrelay.errors import RequestError

#: Whether a leg that ended so, before any output, is followed by the next one.
LEADS_ON: Final[Mapping[FaultKind, bool]] = {
    FaultKind.UNAUTHORIZED: True,
    FaultKind.FORBIDDEN: True,
    FaultKind.LIMITED: True,
    FaultKind.UNUSABLE: True,
    FaultKind.THROTTLED: True,
    FaultKind.OVERLOADED: True,
    FaultKind.BROKEN: True,
    # Another backend has a budget of its own; the turn's bounds both.
    FaultKind.SLOW: True,
    FaultKind.UNSUPPORTED: True,
    # The request is at fault: who sent it must hear that, and would be told nothing better.
    FaultKind.UNREADABLE: False,
    FaultKind.REFUSED: False,
}

#: Where no leg has served, the fault is told that holds out the most: first those that time mends.
_HOPE: Final = (
    FaultKind.THROTTLED,
    FaultKind.OVERLOADED,
    FaultKind.LIMITED,
    FaultKind.SLOW,
    FaultKind.BROKEN,
    FaultKind.UNAUTHORIZED,
    FaultKind.FORBIDDEN,
    FaultKind.UNUSABLE,
    FaultKind.UNSUPPORTED,
    FaultKind.UNREADABLE,
    FaultKind.REFUSED,
)


class RequestFor(Protocol):
    """Makes the upstream request for an account: what only its maker can read goes to no other."""

    def __call__(self, account_id: str, *, stripped: bool) -> UpstreamRequest:
        """Return the request, `stripped` of all encrypted reasoning if told so."""


async def _nobody_asks(_account_id: str, _turn_state: str | None) -> None:
    """Do nothing with a turn that was served."""


def _it_holds() -> None:
    """A leg is planned once."""


def _nothing_is_kept() -> None:
    """Do nothing with a request that will not be sent again."""


@attrs.frozen(kw_only=True)
class Leg:
    """One way a turn may go, ready to be sent."""

    wish: Wish
    request_for: RequestFor
    reply: Reply
    #: Which of upstream's headers the client gets.
    passed_on: Callable[[Head], Headers]
    #: What was asked for and is done in another way: the client is told it in a header.
    adjusted: tuple[str, ...] = ()
    #: Told once its request will not be sent again: a long history is not kept meanwhile.
    committed: Callable[[], None] = _nothing_is_kept
    #: Told the account that served it, and upstream's turn state, before the client is told that
    #: the turn is over: its next request may follow at once, or it may leave.
    served: Callable[[str, str | None], Awaitable[None]] = _nobody_asks
    #: Asked before the turn comes back to it: how to plan it once more, if what it was planned on
    #: does not hold any more; None: it does.
    anew: Callable[[], Callable[[], Awaitable[Leg]] | None] = _it_holds


@attrs.frozen(kw_only=True)
class Later:
    """A leg that is not opened yet."""

    #: Of its backend and model, as a client would write them.
    name: str
    #: Tells whether it would take the turn at this moment; no checkpoint.
    is_ready: Callable[[], bool]
    #: Plans it. Raises RequestError: the request cannot be made for it.
    open: Callable[[], Awaitable[Leg]]


@attrs.define(eq=False, kw_only=True)
class Way:
    """How far a running turn has come on one of its legs."""

    #: None for the first leg.
    later: Later | None = None
    #: None until it is opened.
    leg: Leg | None = None
    ladder: Ladder = attrs.field(factory=Ladder)
    #: What it ended with.
    fault: Fault | None = None
    #: It was left, while it could have been waited for, because another leg was free.
    was_left: bool = False

    @property
    def name(self) -> str:
        """Its backend, with the model where that is known."""
        if self.later is not None:
            return self.later.name
        assert self.leg is not None
        wish = self.leg.wish
        return ":".join(filter(None, (wish.route[0].name, wish.model)))

    @property
    def is_ready(self) -> bool:
        """Whether it would take the turn at this moment. No checkpoint here."""
        if self.leg is None:
            assert self.later is not None
            return self.later.is_ready()
        return self.leg.wish.can_be_taken(self.ladder)

    async def open(self) -> Leg:
        """Return the leg, planned if it was not yet.

        Raises:
            RequestError: the request cannot be made for it.
        """
        if self.leg is None:
            assert self.later is not None
            self.leg = await self.later.open()
        elif (plan := self.leg.anew()) is not None:
            self.leg = await plan()
        return self.leg


def unsuited(error: RequestError) -> Fault:
    """Return the fault of a leg that the request cannot be made for."""
    return Fault(
        kind=FaultKind.REFUSED,
        status=error.status,
        error=error_object(error.message, type=error.type, code=error.code, param=error.param),
    )


def hopelessness(fault: Fault) -> int:
    """Return how little a fault holds out to who tries again; the least is told."""
    return _HOPE.index(fault.kind)


def most_hopeful(ways: Sequence[Way]) -> Fault:
    """Return what the client is told when none of `ways`, which all have ended, has served it.

    Of several faults that hold out the same, the last one; the words of the others follow it.
    """
    met = [(way, way.fault) for way in ways if way.fault is not None]
    told, fault = min(reversed(met), key=lambda one: hopelessness(one[1]))
    others = "; ".join(
        f"{way.name}: {other.message.rstrip('.')}" for way, other in met if way is not told
    )
    if not others:
        return fault
    message = f"{fault.message.rstrip('.')} ({told.name}). Also asked: {others}"
    return attrs.evolve(fault, error=fault.error | {"message": message})
