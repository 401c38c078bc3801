"""The command line, one file per command; `accounts` is a group of commands, hence a package."""

import click

from codexrelay import __version__
from codexrelay.cli.accounts import accounts
from codexrelay.cli.explain import explain
from codexrelay.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="codexrelay")
def main() -> None:
    """A local relay between coding agents and the OpenAI Codex backend."""


main.add_command(serve)
main.add_command(accounts)
main.add_command(explain)
