"""The command line, one file per command."""

import click


@click.group()
def main() -> None:
    """A local relay between coding agents and the OpenAI Codex backend."""
