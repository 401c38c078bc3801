"""`import`: take over the sign-in of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from codexrelay.accounts.enrol import enrol, imported
from codexrelay.accounts.files import BrokenFileError, read_bytes
from codexrelay.cli.accounts.adding import check_id
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.screen import tell
from codexrelay.cli.accounts.storing import stored, tell_enrolled

if TYPE_CHECKING:
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance


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
    try:
        data = read_bytes(source)
    except BrokenFileError as error:
        raise FailureError(str(error)) from None
    if data is None:
        raise FailureError(f"there is no file {source}")
    was_empty = not instance.store.load().found
    signed_in = stored(lambda: imported(data))
    enrolled = stored(
        lambda: enrol(
            instance.store, signed_in, account_id=account_id, now_unix_s=call.now_unix_s()
        )
    )
    tell_enrolled(call, instance, enrolled, wanted_id=account_id, was_empty=was_empty)
    tell(
        f"codexrelay: warning: the program that wrote {source} still has the same refresh token, "
        "which is good for one refresh: the first of the two to refresh signs the other out. Stop "
        "using that program, but do not log out with it, which would end this sign-in too; or give "
        f"the relay a sign-in of its own: `codexrelay accounts update {enrolled.account.id}`"
    )


def _codex_file(instance: Instance) -> Path:
    found = instance.legacy_file()
    if found is not None:
        return found
    folders = " or ".join(map(str, instance.legacy_folders)) or "any known folder"
    raise FailureError(
        f"there is no auth.json in {folders}: name the file to import, or sign in with "
        "`codexrelay accounts add`"
    )
