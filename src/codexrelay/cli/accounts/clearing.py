"""`clear` and `clear-reauth`: take marks off accounts that their owner knows better about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from codexrelay.accounts.files import BrokenFileError
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.screen import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.accounts.account import Account
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance

_ALL = "all"


@click.command(short_help="End a cool-down.")
@takes_options
@click.argument("name", metavar="ID|all")
@click.pass_obj
def clear(call: Call, name: str) -> None:
    """End the cool-down of account ID, or of all; everything else stays.

    The relay tries the account at its next turn, and is told again if its quota is really spent.
    """
    instance, now_unix_s = call.instance(), call.now_unix_s()
    _clear(
        call,
        _targets(instance, name),
        lambda account: instance.store.clear_limit(account.id, now_unix_s=now_unix_s),
        done="its cool-down is over",
        idle="there was no cool-down to end",
    )


@click.command("clear-reauth", short_help="Take the mark needs_reauth away.")
@takes_options
@click.argument("name", metavar="ID|all")
@click.pass_obj
def clear_reauth(call: Call, name: str) -> None:
    """Let account ID, or all, be tried again as they are: no needs_reauth, nothing to look at.

    A refresh token that is really dead is found out at the next refresh; `update` brings a new one.
    """
    instance, now_unix_s = call.instance(), call.now_unix_s()
    _clear(
        call,
        _targets(instance, name),
        lambda account: instance.store.clear_reauth(account.id, now_unix_s=now_unix_s),
        done="it is tried again as it is",
        idle="nothing spoke against it",
    )


def _targets(instance: Instance, name: str) -> tuple[Account, ...]:
    if name != _ALL:
        return (instance.find_managed(name),)
    return instance.store.load().accounts


def _clear(
    call: Call,
    accounts: tuple[Account, ...],
    clear_one: Callable[[Account], bool],
    *,
    done: str,
    idle: str,
) -> None:
    cleared: list[str] = []
    unchanged: list[str] = []
    for account in accounts:
        try:
            told = cleared if clear_one(account) else unchanged
        except (OSError, BrokenFileError) as error:
            raise FailureError(f"account {account.id} was not changed: {error}") from None
        told.append(account.id)
        if not call.as_json:
            click.echo(f"{account.id}: {done if told is cleared else idle}")
    if call.as_json:
        print_json({"cleared": [*cleared], "unchanged": [*unchanged]})
    elif not accounts:
        click.echo("There is no account.")
