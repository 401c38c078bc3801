"""`add`: sign in, and store the account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from codexrelay.accounts.enrol import check_store, enrol, usable_id
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.signing_in import how_to_sign_in, sign_in, takes_sign_in_options
from codexrelay.cli.accounts.storing import stored, tell_enrolled

if TYPE_CHECKING:
    from codexrelay.cli.accounts.call import Call


def check_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Let no one sign in for an id that nothing can be stored under."""
    if value is not None and not usable_id(value):
        raise click.BadParameter(
            "1 to 64 letters, digits, - and _ are needed, and a letter or digit first"
        )
    return value


@click.command(short_help="Sign in and store the account.")
@takes_options
@takes_sign_in_options
@click.option(
    "--account-id",
    metavar="ID",
    callback=check_id,
    help="What to call the account; otherwise it is named after its e-mail.",
)
@click.pass_obj
def add(
    call: Call,
    *,
    account_id: str | None,
    no_browser: bool,
    device: bool,
    timeout: float | None,
    port: int,
) -> None:
    """Sign in with ChatGPT and store the account.

    An identity that is stored already gets new tokens. Two workspaces of one user are two accounts.
    """
    instance = call.instance()
    how = how_to_sign_in(call, no_browser=no_browser, device=device, timeout=timeout, port=port)
    was_empty = not instance.store.load().found
    stored(lambda: check_store(instance.store))
    signed_in = sign_in(call, instance, how)
    enrolled = stored(
        lambda: enrol(
            instance.store, signed_in, account_id=account_id, now_unix_s=call.now_unix_s()
        )
    )
    tell_enrolled(call, instance, enrolled, wanted_id=account_id, was_empty=was_empty)
