"""`codexrelay accounts`: the owner's accounts, from sign-in to removal.

One file for each command, named for what it does; the others are the nouns that they share.
"""

from __future__ import annotations

import click

from codexrelay.cli.accounts.adding import add
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.clearing import clear, clear_reauth
from codexrelay.cli.accounts.importing import import_account
from codexrelay.cli.accounts.limiting import limits
from codexrelay.cli.accounts.listing import list_accounts
from codexrelay.cli.accounts.removing import remove
from codexrelay.cli.accounts.renewing import refresh
from codexrelay.cli.accounts.showing import show
from codexrelay.cli.accounts.updating import update


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@takes_options
def accounts() -> None:
    """Add, list, re-authorize and remove the accounts that the relay uses.

    Store, issuer and backend are those of the relay: from --config or CODEXRELAY_CONFIG, and from
    the variables OPENAI_CODEX_MANAGED_OAUTH_… and OPENAI_API_BASE_URL. Safe beside a running relay,
    which sees every change within a second.

    Exit status: 0 done, 1 unknown account or failed, 2 wrong usage or configuration.
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
