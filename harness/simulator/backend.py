"""What the simulated backend knows: accounts, tokens, quotas, and the faults that wait."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from harness.simulator import catalogue
from harness.simulator.accounts import SimulatedAccount, some_accounts, write_account_file
from harness.simulator.arrival import RefusedError
from harness.simulator.chance import Chance
from harness.simulator.conditions import Condition
from harness.simulator.faults import (
    AT_HANDSHAKES,
    AT_MESSAGES,
    AT_REQUESTS,
    BEFORE,
    DEFAULT_WAIT_S,
    FAULTS,
    OF_CONNECTIONS,
)
from harness.simulator.ids import Ids
from harness.simulator.issuer import Issuer, TokenPair
from harness.simulator.quota import DEFAULT_RESET_S, Quota
from harness.simulator.seen import Seen, SeenSocket

if TYPE_CHECKING:
    from pathlib import Path

    from harness.simulator.arrival import Arrival


@attrs.define(eq=False, repr=False, kw_only=True)
class SimulatedBackend:
    """The state behind the endpoints, and the switches that tests, demos and `/_sim` turn."""

    accounts: Sequence[SimulatedAccount] = attrs.field(factory=lambda: some_accounts(1))
    #: Seconds between two deltas; 0 sends an answer in one burst.
    pace_s: float = 0.0
    wall_clock: Callable[[], float] = time.time
    #: Model -> the plans that have it, where that is to differ from the catalogue's own.
    plans: catalogue.Plans = attrs.field(factory=dict, converter=catalogue.plans_with)
    #: Decides about main requests for which no fault waits; None spoils none.
    chance: Chance | None = None
    #: Serves WebSockets; if not, asking for one is answered 426.
    websockets: bool = True
    #: Age at which a WebSocket takes no more messages, in seconds (wire notes 7).
    socket_life_s: float = 3600.0
    #: Seconds between two pings on a WebSocket; None sends none.
    ping_every_s: float | None = None
    #: How many of its latest responses a WebSocket knows for `previous_response_id`; a failed turn
    #: also costs it the one that it went on from (OpenAI's guide to WebSocket mode).
    remembered: int = 1
    #: Source of ids and tokens: two simulators with different seeds share none.
    seed: int = 0
    #: What was asked, in the order of arrival.
    seen: list[Seen] = attrs.field(factory=list, init=False)
    #: The WebSockets that were opened, in order.
    sockets: list[SeenSocket] = attrs.field(factory=list, init=False)
    #: Number of each WebSocket that is open -> closes it with a code, or resets it.
    closers: dict[int, Callable[[int | None], object]] = attrs.field(factory=dict, init=False)
    ids: Ids = attrs.field(init=False)
    issuer: Issuer = attrs.field(init=False)
    #: The tag of the catalogue; answers to model requests carry it in `x-models-etag`.
    models_etag: str = attrs.field(init=False)
    _socket_numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _signed_in: dict[str, TokenPair] = attrs.field(factory=dict, init=False)
    _quotas: dict[str, Quota] = attrs.field(factory=dict, init=False)
    _conditions: dict[str, Condition] = attrs.field(factory=dict, init=False)
    #: Whose main request they wait for -> faults in order; None: anybody's.
    _faults: dict[str | None, deque[str]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.ids = Ids(random.Random(self.seed))
        self.issuer = Issuer(self.ids)
        self.models_etag = catalogue.etag(catalogue.catalogue(None, self.plans))
        now_unix_s = self.wall_clock()
        for account in self.accounts:
            self._signed_in[account.name] = self.issuer.sign_in(account, now_unix_s=now_unix_s)
            self._quotas[account.name] = Quota.starting(
                plan=account.plan, limit_after=account.limit_after, now_unix_s=now_unix_s
            )

    def account(self, name: str) -> SimulatedAccount:
        """Return the account of this name or ChatGPT account id.

        Raises:
            ValueError: there is none.
        """
        for account in self.accounts:
            if name in (account.name, account.account_id):
                return account
        raise ValueError(
            f"no account is called {name!r}; known: {', '.join(a.name for a in self.accounts)}"
        )

    def account_hinted(self, hint: str | None) -> SimulatedAccount:
        """Return the account that a sign-in is for: by name, ChatGPT account id or e-mail.

        Without a hint it is the first one, whose browser it is.

        Raises:
            RefusedError: there is no such account.
        """
        for account in self.accounts:
            if hint in (None, account.name, account.account_id, account.email):
                return account
        raise RefusedError(400, {"error": "login_required"})

    def tokens(self, name: str) -> TokenPair:
        """Return the tokens with which the account was signed in, whatever became of them."""
        return self._signed_in[self.account(name).name]

    def quota(self, account: SimulatedAccount) -> Quota:
        """Return the account's quota."""
        return self._quotas[account.name]

    def write_store(self, folder: Path) -> None:
        """Write the accounts, as signed in, as managed account files (mode 0600) into `folder`."""
        for account in self.accounts:
            pair = self.tokens(account.name)
            write_account_file(
                folder,
                account,
                access_token=pair.access_token,
                refresh_token=pair.refresh_token,
                expires_unix_s=pair.expires_unix_s,
                now_unix_s=self.wall_clock(),
            )

    def queue_faults(self, *names: str, account: str | None = None) -> None:
        """Spoil the answers to the next main model requests, one each, in this order.

        With an `account`, of its requests alone; those faults come before the others. Warm-ups are
        no main requests. Faults of handshakes wait for those, and what only a WebSocket can do
        waits for its messages, while faults behind them go on.

        Raises:
            ValueError: a name is not in `FAULTS`, or there is no such account; none is queued.
        """
        owner = None if account is None else self.account(account).name
        for name in names:
            if name not in FAULTS:
                raise ValueError(f"no fault is called {name!r}; known: {', '.join(sorted(FAULTS))}")
        self._faults.setdefault(owner, deque()).extend(names)

    def next_fault(
        self, account: SimulatedAccount, possible: Container[str] = AT_REQUESTS
    ) -> str | None:
        """Take the fault that waits for a main request of `account`, else leave it to chance.

        `possible` are those that it can meet.
        """
        if (taken := self._take(account, possible)) is not None or self.chance is None:
            return taken
        rolled = self.chance(account)
        return rolled if rolled in possible else None

    def connection_fault(self, account: SimulatedAccount) -> str | None:
        """Take the next fault of a message if it is one of its connection."""
        possible = AT_MESSAGES | OF_CONNECTIONS
        if self._first(account, possible) not in OF_CONNECTIONS:
            return None
        return self._take(account, OF_CONNECTIONS)

    def refuses_handshake(self, account: SimulatedAccount) -> bool:
        """Whether a fault waits for the account's next handshake."""
        return self._first(account, AT_HANDSHAKES) is not None

    def handshake_fault(self, account: SimulatedAccount) -> str | None:
        """Take the fault that waits for a handshake of `account`."""
        return self._take(account, AT_HANDSHAKES)

    @property
    def cuts_off(self) -> bool:
        """Whether the next fault of any account does not wait for the request's body."""
        return any(self._waiting(owner, AT_REQUESTS) in BEFORE for owner in self._faults)

    def fault_while_arriving(self, account: SimulatedAccount) -> str | None:
        """Take the next fault if it is one that does not wait for the request's body."""
        if self._first(account, AT_REQUESTS) not in BEFORE:
            return None
        return self._take(account, AT_REQUESTS)

    def set_condition(
        self, name: str, condition: str | None, *, wait_s: float = DEFAULT_WAIT_S
    ) -> None:
        """Put the account into a condition (see `conditions`); None lifts the one it is in.

        Raises:
            ValueError: there is no such account or condition.
        """
        account = self.account(name)
        if condition is None:
            self._conditions.pop(account.name, None)
        else:
            self._conditions[account.name] = Condition(condition, wait_s=wait_s)

    def condition(self, account: SimulatedAccount) -> Condition | None:
        """Return the condition that the account is in."""
        return self._conditions.get(account.name)

    def expire(self, name: str) -> None:
        """Answer 401 to the account's access tokens, whatever their claims say; refresh works."""
        self.issuer.expire(self.account(name))

    def revoke(self, name: str) -> None:
        """Withdraw all tokens of the account: it must sign in again."""
        self.issuer.revoke(self.account(name))

    def limit(
        self,
        name: str,
        *,
        after: int = 0,
        resets_in_s: float = DEFAULT_RESET_S,
        used: int = 0,
    ) -> None:
        """Let the account reach its usage limit in `after` turns, until `resets_in_s` from now.

        So many of them are `used` already; later windows have all of them again.
        """
        quota = self.quota(self.account(name))
        quota.limit(after=after, resets_in_s=resets_in_s, now_unix_s=self.wall_clock())
        quota.turns = used

    def approve(self, name: str, user_code: str | None = None) -> None:
        """Let the device with this code, or the one that came last, sign in to the account.

        Raises:
            ValueError: there is no such account, or no such device waits.
        """
        account = self.account(name)
        self.issuer.sign_ins.approve(account, user_code, now_unix_s=self.wall_clock())

    def unlimit(self, name: str) -> None:
        """Take the account's usage limit away."""
        self.quota(self.account(name)).unlimit()

    def new_socket(self) -> int:
        """Return the number of a WebSocket that is being opened."""
        return next(self._socket_numbers)

    def close_sockets(self, code: int | None = 1000) -> None:
        """Close every WebSocket with this code, or reset it (None), after the answer under way.

        Raises:
            ValueError: no close frame has that code.
        """
        if code is not None and not 1000 <= code < 5000:
            raise ValueError(f"a close frame has no code {code}")
        for close in self.closers.values():
            close(code)

    def reset(self, *, pace_s: float | None = None) -> None:
        """Forget what was seen, what was to go wrong and what was used; change the pace, if told.

        Whoever holds tokens can go on with them: those that were expired on demand are good again.
        Revoked ones are not.
        """
        self.issuer.unexpire()
        self.seen.clear()
        self.sockets[:] = [socket for socket in self.sockets if socket.open]
        self._faults.clear()
        self._conditions.clear()
        for account in self.accounts:
            quota = self.quota(account)
            quota.limit_after, quota.turns = account.limit_after, 0
        if pace_s is not None:
            self.pace_s = pace_s

    def identify(self, arrival: Arrival) -> SimulatedAccount:
        """Return the account that asks, and note it in the request's record.

        Raises:
            RefusedError: the bearer is not accepted, or belongs to another account than the header;
                the account is in a condition in which it is refused everything.
        """
        account = self.issuer.account_of(arrival.bearer, now_unix_s=arrival.now_unix_s)
        arrival.seen.account = account.name
        if condition := self.condition(account):
            arrival.seen.condition = condition.name
            if condition.refusal is not None:
                raise RefusedError(*condition.refusal)
        if arrival.http.header("chatgpt-account-id") != account.account_id:
            raise RefusedError(
                403, {"detail": "chatgpt-account-id does not match the account of the bearer"}
            )
        return account

    def _take(self, account: SimulatedAccount, possible: Container[str]) -> str | None:
        for owner in (account.name, None):
            if (found := self._waiting(owner, possible)) is not None:
                self._faults[owner].remove(found)
                return found
        return None

    def _first(self, account: SimulatedAccount, possible: Container[str]) -> str | None:
        own = self._waiting(account.name, possible)
        return self._waiting(None, possible) if own is None else own

    def _waiting(self, owner: str | None, possible: Container[str]) -> str | None:
        return next((name for name in self._faults.get(owner, ()) if name in possible), None)
