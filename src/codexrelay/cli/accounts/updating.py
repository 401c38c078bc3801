"""`update`: sign an account in again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from codexrelay.accounts.enrol import check_store, renew
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.screen import tell
from codexrelay.cli.accounts.signing_in import how_to_sign_in, sign_in, takes_sign_in_options
from codexrelay.cli.accounts.storing import stored, tell_renewed
from codexrelay.cli.accounts.words import named

if TYPE_CHECKING:
    from codexrelay.cli.accounts.call import Call


@click.command(short_help="Sign an account in again.")
@takes_options
@takes_sign_in_options
@click.argument("name", metavar="ID")
@click.option("--force", is_flag=True, help="Let another identity take the account's place.")
@click.pass_obj
def update(
    call: Call,
    *,
    name: str,
    force: bool,
    no_browser: bool,
    device: bool,
    timeout: float | None,
    port: int,
) -> None:
    """Sign account ID in again, for example when it is in state needs_reauth.

    Refused when somebody else signs in than the account belongs to.
    """
    instance, account = call.find_managed(name)
    how = how_to_sign_in(call, no_browser=no_browser, device=device, timeout=timeout, port=port)
    stored(lambda: check_store(instance.store))
    if not call.as_json:
        tell(f"Sign in as {named(account)}.")
    signed_in = sign_in(call, instance, how, login_hint=account.email)
    renewed = stored(
        lambda: renew(
            instance.store, account.id, signed_in, force=force, now_unix_s=call.now_unix_s()
        )
    )
    tell_renewed(call, instance, renewed)
