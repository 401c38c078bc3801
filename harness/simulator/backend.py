"""What the simulated backend knows: accounts, tokens, quotas, and the faults that wait."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from harness.simulator.accounts import SimulatedAccount, some_accounts, write_account_file
from harness.simulator.arrival import RefusedError
from harness.simulator.faults import FAULTS
from harness.simulator.ids import Ids
from harness.simulator.issuer import Issuer, TokenPair
from harness.simulator.quota import DEFAULT_RESET_S, Quota
from harness.simulator.seen import Seen

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
    #: Source of ids and tokens: two simulators with different seeds share none.
    seed: int = 0
    #: What was asked, in the order of arrival.
    seen: list[Seen] = attrs.field(factory=list, init=False)
    ids: Ids = attrs.field(init=False)
    issuer: Issuer = attrs.field(init=False)
    _signed_in: dict[str, TokenPair] = attrs.field(factory=dict, init=False)
    _quotas: dict[str, Quota] = attrs.field(factory=dict, init=False)
    _faults: deque[str] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self.ids = Ids(random.Random(self.seed))
        self.issuer = Issuer(self.ids)
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

    def queue_faults(self, *names: str) -> None:
        """Spoil the answers to the next main model requests, one each, in this order.

        Raises:
            ValueError: a name is not in `FAULTS`; none is queued.
        """
        for name in names:
            if name not in FAULTS:
                raise ValueError(f"no fault is called {name!r}; known: {', '.join(sorted(FAULTS))}")
        self._faults.extend(names)

    def next_fault(self) -> str | None:
        """Take the first waiting fault, if one waits."""
        return self._faults.popleft() if self._faults else None

    def expire(self, name: str) -> None:
        """Answer 401 to the account's access tokens, whatever their claims say; refresh works."""
        self.issuer.expire(self.account(name))

    def revoke(self, name: str) -> None:
        """Withdraw all tokens of the account: it must sign in again."""
        self.issuer.revoke(self.account(name))

    def limit(self, name: str, *, after: int = 0, resets_in_s: float = DEFAULT_RESET_S) -> None:
        """Let the account reach its usage limit in `after` turns, until `resets_in_s` from now."""
        quota = self.quota(self.account(name))
        quota.limit(after=after, resets_in_s=resets_in_s, now_unix_s=self.wall_clock())

    def unlimit(self, name: str) -> None:
        """Take the account's usage limit away."""
        self.quota(self.account(name)).unlimit()

    def identify(self, arrival: Arrival) -> SimulatedAccount:
        """Return the account that asks, and note it in the request's record.

        Raises:
            RefusedError: the bearer is not accepted, or belongs to another account than the header.
        """
        account = self.issuer.account_of(arrival.bearer, now_unix_s=arrival.now_unix_s)
        arrival.seen.account = account.name
        if arrival.http.header("chatgpt-account-id") != account.account_id:
            raise RefusedError(
                403, {"detail": "chatgpt-account-id does not match the account of the bearer"}
            )
        return account
