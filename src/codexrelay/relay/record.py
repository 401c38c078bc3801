"""What a turn's way through the accounts was, so that it can be explained afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from codexrelay.accounts.pool import By
from codexrelay.accounts.standing import PassedOver
from codexrelay.backends.backend import Via
from codexrelay.protocol.faults import Fault, Reached

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from codexrelay.accounts.pool import Choice
    from codexrelay.protocol.raw import Headers
    from codexrelay.relay.lending import Lease, Target


@attrs.define(eq=False, kw_only=True)
class Tried:
    """One attempt of a turn."""

    #: Qualified ids, here and below.
    account: str
    #: As the backend calls it; None where it did not matter.
    model: str | None = None
    by: By
    #: The accounts among which it was chosen, and those that could not be, and why.
    candidates: tuple[str, ...]
    passed_over: tuple[tuple[str, PassedOver], ...]
    #: The account that the session is bound to, if it is to one.
    bound: str | None
    #: The token was refreshed first.
    refreshed: bool
    #: Seconds in line for the account; from the turn's beginning until the attempt; of the attempt
    #: until its fault, its first output or its end.
    waited_s: float
    began_s: float
    took_s: float | None = None
    #: Encrypted reasoning that was left out because this account did not make it.
    reasoning_stripped: int = 0
    #: What went wrong, also after the first output; None: nothing did.
    fault: Fault | None = None
    reached: Reached = Reached.NOT_SENT
    #: Its first output reached the client.
    served: bool = False
    #: What carried it, where it might have been one or the other.
    via: Via | None = None


@attrs.frozen(kw_only=True)
class Refused:
    """An instance that could lend no account."""

    instance: str
    message: str
    passed_over: tuple[tuple[str, PassedOver], ...]
    #: Seconds from the turn's beginning.
    at_s: float


@attrs.define(eq=False)
class Record:
    """The way of one turn. Its own task writes it."""

    #: Told when the turn begins to wait in line for an account.
    waits: Callable[[Record], None] = lambda _: None
    began_at_s: float = attrs.field(factory=trio.current_time)
    tried: list[Tried] = attrs.field(factory=list)
    refused: list[Refused] = attrs.field(factory=list)
    #: Accounts that the turn waits for at this moment; since when, in seconds from its beginning.
    waiting_for: tuple[tuple[str, PassedOver], ...] = ()
    waiting_since_s: float = 0.0
    #: Legs that could not take the turn when they were due, so that another one was asked first.
    put_off: list[str] = attrs.field(factory=list)
    _nobody: tuple[tuple[str, PassedOver], ...] = ()

    def puts_off(self, legs: Iterable[str]) -> None:
        """Note that legs are passed over for now."""
        self.put_off.extend(leg for leg in legs if leg not in self.put_off)

    def begins_to_wait(self, instance: Target, choice: Choice) -> None:
        """Note that no account could be chosen, and the turn waits in line."""
        self.waiting_for = instance.with_ids(choice.passed_over)
        self.waiting_since_s = self.age_s
        self.waits(self)

    def finds_nobody(self, instance: Target, choice: Choice) -> None:
        """Note why no account could be chosen, and none is worth waiting for."""
        self._nobody = instance.with_ids(choice.passed_over)

    def begins_attempt(self, instance: Target, lease: Lease, model: str | None) -> Tried:
        """Note that an attempt on the leased account begins."""
        self.waiting_for = ()
        tried = Tried(
            model=model,
            account=instance.qualified(lease.account.id),
            by=lease.by,
            candidates=instance.qualified_ids(lease.candidates),
            passed_over=instance.with_ids(lease.passed_over),
            bound=None if lease.bound is None else instance.qualified(lease.bound),
            refreshed=lease.refreshed,
            waited_s=lease.waited_s,
            began_s=self.age_s,
        )
        self.tried.append(tried)
        return tried

    def refuses(self, instance: Target, error: Exception) -> None:
        """Note that an instance has no account for the turn."""
        self.waiting_for = ()
        self.refused.append(
            Refused(
                instance=instance.name,
                message=str(error),
                passed_over=self._nobody,
                at_s=self.age_s,
            )
        )

    def took_s(self, tried: Tried, now_s: float) -> float:
        """Return the seconds since the attempt began; `now_s` is trio's clock."""
        return now_s - self.began_at_s - tried.began_s

    @property
    def age_s(self) -> float:
        """Seconds since the turn began."""
        return trio.current_time() - self.began_at_s


def own_headers(request_id: str, record: Record, adjusted: Sequence[str] = ()) -> Headers:
    """Return the headers of ours: what the request is called, and who served it or was asked last.

    `adjusted` is what was asked for and is done in another way, as `what=asked->done`. Account ids
    are letters, digits and a few signs, so they may stand in a header.
    """
    headers = [(b"x-codexrelay-request-id", request_id.encode("ascii"))]
    if record.tried:
        last = record.tried[-1]
        headers.append((b"x-codexrelay-attempts", b"%d" % len(record.tried)))
        headers.append((b"x-codexrelay-account", last.account.encode("ascii")))
        if last.reasoning_stripped:
            headers.append((b"x-codexrelay-reasoning-stripped", b"%d" % last.reasoning_stripped))
    if adjusted:
        told = ", ".join(adjusted)
        # A part of it is the client's own: nothing but visible ASCII may stand in a header.
        safe = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in told)
        headers.append((b"x-codexrelay-adjusted", safe.encode("ascii")))
    return headers
