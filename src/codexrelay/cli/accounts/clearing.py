"""`clear` and `clear-reauth`: take marks off accounts that their owner knows better about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from codexrelay.accounts.account import Account
from codexrelay.accounts.files import BrokenFileError
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.screen import print_json, tell
from codexrelay.cli.accounts.words import visible
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance
    from codexrelay.protocol.raw import Json

_ALL = "all"


@click.command(short_help="End a cool-down.")
@takes_options
@click.argument("name", metavar="ID|all")
@click.pass_obj
def clear(call: Call, name: str) -> None:
    """End the cool-down of account ID, or of all; everything else stays.

    The relay tries the account at its next turn, and is told again if its quota is really spent.
    """
    instance, targets = _targets(call, name)
    now_unix_s = call.now_unix_s()
    _clear(
        call,
        targets,
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
    instance, targets = _targets(call, name)
    now_unix_s = call.now_unix_s()
    _clear(
        call,
        targets,
        lambda account: instance.store.clear_reauth(account.id, now_unix_s=now_unix_s),
        done="it is tried again as it is",
        idle="nothing spoke against it",
    )


@attrs.frozen
class _Targets:
    accounts: tuple[Account, ...]
    #: Of files that cannot be used, hence not be written to either.
    skipped: tuple[tuple[str, Problem], ...] = ()
    #: What else keeps accounts from being seen.
    problems: tuple[Problem, ...] = ()


def _targets(call: Call, name: str) -> tuple[Instance, _Targets]:
    instance, local = call.located(name)
    if local != _ALL:
        instance, account = call.find_managed(name)
        return instance, _Targets((account,))
    loaded = instance.store.load()
    known = {problem for _, problem in loaded.broken}
    unseen = tuple(p for p in loaded.problems if p not in known)
    return instance, _Targets(loaded.accounts, loaded.broken, unseen)


def _clear(
    call: Call,
    targets: _Targets,
    clear_one: Callable[[Account], bool],
    *,
    done: str,
    idle: str,
) -> None:
    cleared: list[str] = []
    unchanged: list[str] = []
    for account in targets.accounts:
        try:
            told = cleared if clear_one(account) else unchanged
        except (OSError, BrokenFileError) as error:
            raise FailureError(f"account {account.id} was not changed: {error}") from None
        told.append(account.id)
        if not call.as_json:
            click.echo(f"{account.id}: {done if told is cleared else idle}")
    for account_id, problem in targets.skipped:
        tell(f"{visible(account_id)}: skipped, its file cannot be used: {visible(str(problem))}")
    for problem in targets.problems:
        tell(f"problem: {visible(str(problem))}")
    if call.as_json:
        skipped: list[Json] = [
            {"id": account_id, "reason": str(problem)} for account_id, problem in targets.skipped
        ]
        print_json({"cleared": [*cleared], "unchanged": [*unchanged], "skipped": skipped})
