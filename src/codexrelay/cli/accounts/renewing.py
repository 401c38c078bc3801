"""`refresh`: bring an account new tokens now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from codexrelay.accounts.refresh import Outcome
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.facts import account_facts
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.running import refreshing, run, way_out
from codexrelay.cli.accounts.screen import print_json
from codexrelay.cli.accounts.showing import how_to_sign_in_again
from codexrelay.cli.accounts.words import moment

if TYPE_CHECKING:
    from codexrelay.accounts.refresh import RefreshResult
    from codexrelay.cli.accounts.call import Call

_DONE: Final = {
    Outcome.RENEWED: "has new tokens",
    Outcome.ADOPTED: "has new tokens, which another program has just brought",
}


@click.command(short_help="Refresh an account's tokens now.")
@takes_options
@click.argument("name", metavar="ID")
@click.pass_obj
def refresh(call: Call, name: str) -> None:
    """Refresh the tokens of account ID now. The relay does so by itself when they run out."""
    # Codex CLI's own sign-in may be refreshed too: its file and locks are those of the relay.
    instance, account = call.find_usable(name)

    async def main() -> RefreshResult:
        async with (
            way_out(call, instance) as transport,
            refreshing(call, instance, transport) as refresher,
        ):
            return await refresher.refresh(account, reason="proactive_expiry")

    result = run(call, main)
    if result.outcome not in _DONE:
        raise FailureError(_why_not(result))
    now_unix_s = call.now_unix_s()
    if call.as_json:
        facts = account_facts(result.account, instance, now_unix_s=now_unix_s)
        print_json({"outcome": result.outcome.value, "account": facts})
        return
    ends = result.account.credentials.expires_at_unix_s
    until = "" if ends is None else f"; they expire {_moment(call, ends)}"
    click.echo(f"Account {account.id} {_DONE[result.outcome]}{until}.")


def _moment(call: Call, at_unix_s: float) -> str:
    return moment(at_unix_s, now_unix_s=call.now_unix_s(), zone=call.zone)


def _why_not(result: RefreshResult) -> str:
    account = result.account
    if result.outcome is not Outcome.NEEDS_REAUTH:
        return f"account {account.id} was not refreshed: {result.why}"
    command = how_to_sign_in_again(account)
    return f"account {account.id} must sign in again ({result.why}): `{command}`"
