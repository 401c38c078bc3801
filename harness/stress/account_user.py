"""A program that uses the relay's account files by means of the relay's own library.

It does what a command that shows live limits does: told `turn` on a line of its standard input, it
asks the backend for the usage of every account at once, refreshes those whose token is rejected,
and asks again. It answers with a line of JSON.

    python account_user.py STORE API_BASE_URL ISSUER_URL
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import httpx
import structlog
import trio

from codexrelay.accounts.issuer import Issuer
from codexrelay.accounts.refresh import Outcome, Refresher
from codexrelay.accounts.store import AccountStore
from codexrelay.backends.transports.direct import DirectTransport

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account

#: See `codex_like`.
TRIES = 3


@attrs.define(eq=False)
class Session:
    """What the program does with one folder of accounts."""

    store: AccountStore
    refresher: Refresher
    transport: httpx.AsyncBaseTransport
    usage_url: str
    statuses: list[int] = attrs.field(factory=list)
    outcomes: list[Outcome] = attrs.field(factory=list)

    async def turn(self) -> None:
        """Ask for the usage of every account."""
        loaded = await trio.to_thread.run_sync(self.store.load)
        async with trio.open_nursery() as nursery:
            for account in loaded.accounts:
                nursery.start_soon(self.use, account)

    async def use(self, account: Account) -> None:
        """Ask for the usage of one account, whatever it takes."""
        status = 0
        for _ in range(TRIES):
            status = await self.ask(account)
            if status != 401:
                break
            result = await self.refresher.refresh(account, reason="unauthorized_recovery")
            self.outcomes.append(result.outcome)
            account = result.account
        self.statuses.append(status)

    async def ask(self, account: Account) -> int:
        """Send the request with the account's tokens."""
        response = await self.transport.handle_async_request(
            httpx.Request(
                "GET",
                self.usage_url,
                headers={
                    "authorization": f"Bearer {account.credentials.access_token}",
                    "chatgpt-account-id": account.workspace_id or "",
                },
            )
        )
        await response.aread()
        await response.aclose()
        return response.status_code

    def told(self) -> dict[str, object]:
        """Return what has happened since it was last asked."""
        told = {
            "statuses": self.statuses,
            "refreshed": self.outcomes.count(Outcome.RENEWED),
            "adopted": self.outcomes.count(Outcome.ADOPTED),
            "refused": [
                outcome.value
                for outcome in self.outcomes
                if outcome not in (Outcome.RENEWED, Outcome.ADOPTED)
            ],
        }
        self.statuses, self.outcomes = [], []
        return told


async def main(store: str, api_base_url: str, issuer_url: str) -> None:
    """Take turns until the input ends."""
    async with DirectTransport() as transport, trio.open_nursery() as nursery:
        files = AccountStore(Path(store))
        refresher = Refresher(
            nursery=nursery,
            issuer=Issuer(url=issuer_url, transport=transport),
            files={"managed": files},
            wall_clock=time.time,
        )
        usage_url = api_base_url.removesuffix("/codex") + "/wham/usage"
        session = Session(files, refresher, transport, usage_url)
        print("ready", flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            await session.turn()
            print(json.dumps(session.told()), flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
