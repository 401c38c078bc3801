"""`codexrelay accounts`: the owner's accounts, from sign-in to removal.

One file for each command, named for what it does; the others are the nouns that they share.
"""

from __future__ import annotations

import click

from codexrelay.cli.accounts.adding import add
from codexrelay.cli.accounts.call import Call, takes_options
from codexrelay.cli.accounts.clearing import clear, clear_reauth
from codexrelay.cli.accounts.failure import AnsweredFailureError
from codexrelay.cli.accounts.importing import import_account
from codexrelay.cli.accounts.limiting import limits
from codexrelay.cli.accounts.listing import list_accounts
from codexrelay.cli.accounts.removing import remove
from codexrelay.cli.accounts.renewing import refresh
from codexrelay.cli.accounts.screen import print_json_line
from codexrelay.cli.accounts.showing import show
from codexrelay.cli.accounts.updating import update


class _Accounts(click.Group):
    """Tells programs that asked for JSON also what went wrong in JSON."""

    def invoke(self, ctx: click.Context) -> object:
        # Of a command that is called wrongly no option is read.
        asked = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.Abort:
            _tell_program(ctx, "aborted", exit_status=1, asked=asked)
            raise
        except click.ClickException as error:
            if not isinstance(error, AnsweredFailureError):
                _tell_program(ctx, error.format_message(), exit_status=error.exit_code, asked=asked)
            raise


def _tell_program(ctx: click.Context, message: str, *, exit_status: int, asked: bool) -> None:
    if asked or ctx.ensure_object(Call).as_json:
        print_json_line({"error": {"message": message, "exit_status": exit_status}})


@click.group(cls=_Accounts, context_settings={"help_option_names": ["-h", "--help"]})
@takes_options
def accounts() -> None:
    """Add, list, re-authorize and remove the accounts that the relay uses.

    Store, issuer and backend are those of the relay: from --config or CODEXRELAY_CONFIG, and from
    the variables OPENAI_CODEX_MANAGED_OAUTH_… and OPENAI_API_BASE_URL. Safe beside a running relay,
    which sees every change within a second.

    Where ID is asked for, `openai-codex.2/ID` names an account of a further backend.

    Exit status: 0 done, 1 unknown account or failed, 2 wrong usage or configuration. With --json a
    failure is the last line on stdout too: {"error": {"message": …, "exit_status": …}}.
    """


for command in (
    list_accounts,
    add,
    show,
    update,
    remove,
    import_account,
    limits,
    clear,
    clear_reauth,
    refresh,
):
    accounts.add_command(command)
accounts.add_command(clear, "reset")
