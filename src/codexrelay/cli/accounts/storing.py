"""From a sign-in to a stored account, and what the person is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from codexrelay.cli.accounts.facts import account_facts
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.screen import print_json_line, tell
from codexrelay.cli.accounts.words import named, visible
from codexrelay.errors import CodexRelayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.accounts.account import Account
    from codexrelay.accounts.enrol import Enrolled
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance
    from codexrelay.protocol.raw import JsonObject

_Stored = TypeVar("_Stored")


def stored(store: Callable[[], _Stored]) -> _Stored:
    """Return what `store` returns.

    Raises:
        FailureError: it could not store anything.
    """
    try:
        return store()
    except CodexRelayError as error:
        raise FailureError(str(error)) from None
    except OSError as error:
        raise FailureError(f"the sign-in could not be stored: {error}") from None


def tell_enrolled(
    call: Call, instance: Instance, enrolled: Enrolled, *, wanted_id: str | None, was_empty: bool
) -> None:
    """Print what became of a sign-in, and what the relay makes of it."""
    account = enrolled.account
    if call.as_json:
        print_json_line(
            _facts(call, instance, account, created=enrolled.created, unchanged=enrolled.unchanged)
        )
        return
    if enrolled.created:
        click.echo(f"Stored account {named(account)} in {instance.file_of(account)}.")
        if wanted_id is not None and wanted_id != account.id:
            tell(_why_another_id(instance, wanted_id))
    else:
        has = "holds these very tokens" if enrolled.unchanged else "has new tokens now"
        click.echo(f"Account {named(account)} was stored already: it {has}.")
        if enrolled.unchanged and account.needs_reauth is not None:
            tell(f"It must sign in again all the same: `codexrelay accounts update {account.id}`")
        if wanted_id is not None and wanted_id != account.id:
            tell(f"It keeps its id {account.id}. To rename it: remove it, then add it again.")
    _tell_next(instance, account)
    if was_empty and instance.legacy_file() is not None and instance.managed.enabled:
        tell("From now on the relay uses such accounts only, and no longer Codex CLI's sign-in.")


def _why_another_id(instance: Instance, wanted_id: str) -> str:
    broken = dict(instance.store.load().broken)
    if wanted_id in broken:
        return (
            f"The file of account {wanted_id} cannot be used, and was left alone: "
            f"{visible(str(broken[wanted_id]))}"
        )
    return f"The id {wanted_id} belongs to another identity, which was left alone."


def tell_renewed(call: Call, instance: Instance, account: Account) -> None:
    """Print that an account has new tokens."""
    if call.as_json:
        print_json_line(_facts(call, instance, account))
        return
    click.echo(f"Account {named(account)} is signed in anew.")
    _tell_next(instance, account)


def _facts(
    call: Call,
    instance: Instance,
    account: Account,
    *,
    created: bool = False,
    unchanged: bool = False,
) -> JsonObject:
    return {
        "event": "stored",
        "created": created,
        "unchanged": unchanged,
        "account": account_facts(account, instance, now_unix_s=call.now_unix_s()),
    }


def _tell_next(instance: Instance, account: Account) -> None:
    unused = instance.why_unused(account)
    if unused is not None:
        tell(f"The relay does not use it yet: {unused}.")
        return
    tell(
        "The relay uses it at once, no restart is needed. "
        f"`codexrelay accounts limits {account.id}` shows its quota."
    )
