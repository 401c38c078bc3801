"""The command line, one file per command; `accounts` is a group of commands, hence a package."""

from __future__ import annotations

import contextlib
import importlib
from typing import Final

import click

from codexrelay import __version__
from codexrelay.cli.quick_import import hidden, without_full_collections

#: Command -> what it does. Its module here has its name, with `_` for `-`, and is imported only for
#: it: who starts the relay need not wait for what signs accounts in.
_COMMANDS: Final = {
    "serve": "Relay requests of coding agents to the Codex backend until interrupted.",
    "accounts": "Sign in, list, renew and remove the accounts that the relay uses.",
    "models": "List the models, with their efforts, context and plans.",
    "config": "Show, check and explain the configuration.",
    "client-config": "Print what an agent program must be told to use the relay.",
    "doctor": "Look for what is wrong, and say which command mends it.",
    "explain": "Tell how a turn went through the accounts.",
}


class _LazyGroup(click.Group):
    """Knows its commands' names and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        with contextlib.ExitStack() as quick:
            quick.enter_context(without_full_collections())
            if cmd_name == "serve":  # all others show tables
                quick.enter_context(hidden("rich", "pygments"))
            command = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


# Wide, so that the full paths of keys stay in one piece where the terminal has room.
@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="codexrelay")
def main() -> None:
    """A local relay between coding agents and the OpenAI Codex backend."""
