"""The command line, one file per command."""

import click

from codexrelay import __version__
from codexrelay.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="codexrelay")
def main() -> None:
    """A local relay between coding agents and the OpenAI Codex backend."""


main.add_command(serve)
