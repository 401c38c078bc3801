"""`remove`: delete an account's files, and its sign-in if asked to."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import click
import trio

from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.issuer import CLIENT_ID
from codexrelay.accounts.login.call import Reply, post_json
from codexrelay.accounts.turnstile import held
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.instance import Entry
from codexrelay.cli.accounts.running import run, way_out
from codexrelay.cli.accounts.screen import print_json, tell
from codexrelay.cli.accounts.words import named, visible

if TYPE_CHECKING:
    from codexrelay.accounts.store import AccountStore
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance

#: Longest wait for a refresh that is under way, whose new token is the one to revoke.
_FLIGHT_S: Final = 40.0


@click.command(short_help="Delete an account, tokens included.")
@takes_options
@click.argument("name", metavar="ID")
@click.option("--force", is_flag=True, help="Do not ask.")
@click.option(
    "--revoke",
    is_flag=True,
    help="Also tell the sign-in service to end the sign-in, so that no copy of it works any more.",
)
@click.pass_obj
def remove(call: Call, *, name: str, force: bool, revoke: bool) -> None:
    """Delete the files of account ID, tokens included.

    The sign-in itself goes on at the sign-in service until it expires, unless revoked.
    """
    instance, found = call.find(name)
    if isinstance(found, Entry):
        account = instance.managed_of(found)
        account_id, told = account.id, named(account)
    else:
        account_id, told = found[0], f"{visible(found[0])} (its file cannot be used)"
    path = instance.store.folder / f"{account_id}.json"
    if not force and not _agrees(f"Remove account {told}, {path}"):
        tell("Aborted: nothing was removed.")
        if call.as_json:
            print_json({"removed": None, "file": str(path), "revoked": None, "revoke_error": None})
        return
    goes_on = _revoke_and_remove(call, instance, account_id) if revoke else ""
    if not revoke:
        _delete(instance.store, account_id)
    if call.as_json:
        print_json(
            {
                "removed": account_id,
                "file": str(path),
                "revoked": not goes_on if revoke else None,
                "revoke_error": goes_on or None,
            }
        )
        return
    click.echo(f"Removed account {told}.")
    if revoke:
        click.echo(f"Its sign-in goes on: {goes_on}." if goes_on else "Its sign-in is revoked.")


def _agrees(question: str) -> bool:
    """Ask the person; anything but yes is no.

    Raises:
        FailureError: there is nobody to ask.
    """
    click.echo(f"{question}? [y/N] ", nl=False, err=True)
    answer = ""
    if sys.stdin is not None:  # closed before Python began
        answer = sys.stdin.readline()
    if not answer:
        tell("")
        raise FailureError("nobody answers here, so nothing was removed: --force does not ask")
    return answer.strip().lower() in ("y", "yes")


def _delete(store: AccountStore, account_id: str) -> None:
    try:
        removed = store.remove(account_id)
    except OSError as error:
        raise FailureError(f"account {account_id} could not be removed: {error}") from None
    if not removed:
        raise FailureError(f"account {account_id} has just been removed by somebody else")


def _revoke_and_remove(call: Call, instance: Instance, account_id: str) -> str:
    """Delete the account and end its sign-in; return why that goes on, empty if it does not.

    Under the flight lock, so that no refresh slips a newer token past it. Deleted first: what is
    revoked must not be lent to a turn.
    """

    async def main() -> str:
        store = instance.store
        with trio.move_on_after(_FLIGHT_S):
            async with held(store.flight_lock(account_id)):
                with trio.CancelScope(shield=True):  # bounded: one call, which has its own deadline
                    token = await trio.to_thread.run_sync(_refresh_token, store, account_id)
                    await trio.to_thread.run_sync(partial(_delete, store, account_id))
                    return await _revoke(call, instance, token)
        raise FailureError(
            f"account {account_id} is being refreshed for too long; nothing was removed"
        )

    return run(call, main)


def _refresh_token(store: AccountStore, account_id: str) -> str | None:
    try:
        account = store.read(account_id)
    except BrokenFileError:
        return None
    return None if account is None else account.credentials.refresh_token


async def _revoke(call: Call, instance: Instance, refresh_token: str | None) -> str:
    """Ask the issuer to end the sign-in (wire notes 1.5); return why it goes on, or nothing."""
    if refresh_token is None:
        return "there was no refresh token that could be revoked"
    url = f"{instance.issuer_url.rstrip('/')}/oauth/revoke"
    async with way_out(call, instance) as transport:
        reply = await post_json(
            transport,
            url,
            {
                "token": refresh_token,
                "token_type_hint": "refresh_token",
                "client_id": CLIENT_ID,
            },
        )
    if not isinstance(reply, Reply):
        return "the sign-in service could not be reached"
    if reply.is_success:
        return ""
    return f"the sign-in service answered {reply.status}" + (f" {reply.code}" if reply.code else "")
