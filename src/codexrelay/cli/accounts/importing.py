"""`import`: take over the sign-in of another program."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from codexrelay.accounts.enrol import check_store, enrol, imported
from codexrelay.accounts.files import BrokenFileError, Locks, read_bytes
from codexrelay.accounts.legacy import LEGACY_ID, LegacyStore
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.store import AccountStore
from codexrelay.cli.accounts.adding import check_id
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.screen import tell
from codexrelay.cli.accounts.storing import stored, tell_enrolled

if TYPE_CHECKING:
    from codexrelay.accounts.login.signed_in import SignedIn
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance

_AUTH_FILE: Final = "auth.json"
#: Longest wait for a refresh that is under way, whose new token is the one to take.
_FLIGHT_S: Final = 40.0
_POLL_S: Final = 0.05


@click.command("import", short_help="Take over the sign-in of another program.")
@takes_options
@click.argument(
    "path", metavar="[PATH]", required=False, type=click.Path(dir_okay=False, path_type=Path)
)
@click.option(
    "--account-id",
    metavar="ID",
    callback=check_id,
    help="What to call the account; otherwise it is named after its e-mail.",
)
@click.pass_obj
def import_account(call: Call, path: Path | None, account_id: str | None) -> None:
    """Take over the sign-in in PATH: Codex CLI's auth.json, a file of CLIProxyAPI or codex-lb.

    Without PATH it is the auth.json that the relay would fall back on. A sign-in of its own
    (`add`) is better: here two programs hold one refresh token, and it is good for one refresh.
    """
    instance = call.instance()
    source = path if path is not None else _codex_file(instance)
    was_empty = not instance.store.load().found
    signed_in = stored(lambda: _read(source))
    stored(lambda: check_store(instance.store))
    _check_siblings(call, instance, signed_in)
    enrolled = stored(
        lambda: enrol(
            instance.store, signed_in, account_id=account_id, now_unix_s=call.now_unix_s()
        )
    )
    tell_enrolled(call, instance, enrolled, wanted_id=account_id, was_empty=was_empty)
    if source.resolve() == (instance.store.folder / f"{enrolled.account.id}.json").resolve():
        return
    tell(
        f"codexrelay: warning: the program that wrote {source} still has the same refresh token, "
        "which is good for one refresh: the first of the two to refresh signs the other out. Stop "
        "using that program, but do not log out with it, which would end this sign-in too; or give "
        f"the relay a sign-in of its own: `codexrelay accounts update {enrolled.account.id}`"
    )


def _read(source: Path) -> SignedIn:
    """Read the sign-in in a file, when nobody is about to replace it.

    Raises:
        NotImportableError: there is none that the relay can use.
        FailureError: the file is being refreshed, or its token may be spent.
    """
    _sign_in_in(source)  # without a usable file there is nothing to lock
    locks = _locks_of(source)
    with contextlib.suppress(OSError):  # who may not write here refreshes nothing here
        _acquire(locks, source)
    try:
        signed_in = _sign_in_in(source)
        token = signed_in.credentials.refresh_token
        if locks.paths and token is not None and SentMark.beside(locks).is_of(token):
            raise FailureError(
                f"the refresh token in {source} was sent to the sign-in service, and no answer is "
                "known: it may be spent. Nothing was imported; sign in with `codexrelay accounts "
                "add`, or try again when the program that sent it has new tokens"
            )
        return signed_in
    finally:
        locks.release()


def _acquire(locks: Locks, source: Path) -> None:
    until_s = time.monotonic() + _FLIGHT_S
    while not locks.try_acquire():
        if time.monotonic() >= until_s:
            raise FailureError(
                f"another program has been refreshing {source} for too long; nothing was imported. "
                "Try again later"
            )
        time.sleep(_POLL_S)


def _sign_in_in(source: Path) -> SignedIn:
    try:
        data = read_bytes(source)
    except BrokenFileError as error:
        raise FailureError(str(error)) from None
    if data is None:
        raise FailureError(f"there is no file {source}")
    return imported(data)


def _check_siblings(call: Call, instance: Instance, signed_in: SignedIn) -> None:
    """Let no two backend blocks hold one refresh token, which each would send.

    Raises:
        FailureError: they would.
    """
    token = signed_in.credentials.refresh_token
    for other in call.siblings(instance):
        for account in other.store.load().accounts:
            if token is not None and account.credentials.refresh_token == token:
                raise FailureError(
                    f"account {account.id} of {other.name} holds this very refresh token, which is "
                    "good for one refresh. Nothing was imported; for a sign-in of its own: "
                    f"`codexrelay accounts add --instance {instance.name}`"
                )


def _locks_of(source: Path) -> Locks:
    """Return what its owner holds while it refreshes the file; nothing where that is not known."""
    if source.name == _AUTH_FILE:
        return LegacyStore((source.parent,)).flight_lock(LEGACY_ID)
    ours = AccountStore(source.parent).flight_lock(source.stem)
    # Of another program's file this would only leave a lock behind that means nothing to it.
    return ours if all(os.path.exists(path) for path in ours.paths) else Locks(())


def _codex_file(instance: Instance) -> Path:
    found = instance.legacy_file()
    if found is not None:
        return found
    folders = " or ".join(map(str, instance.legacy_folders)) or "any known folder"
    raise FailureError(
        f"there is no auth.json in {folders}: name the file to import, or sign in with "
        "`codexrelay accounts add`"
    )
