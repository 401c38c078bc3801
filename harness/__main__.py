"""`python -m harness`: the commands of the proving ground."""

from __future__ import annotations

import importlib
from typing import Final

import click

#: Command -> its package, what it does. `harness/PACKAGE/command.py` holds it under its own name
#: and is imported only for that command: `demo` and `compat` bring the whole relay along.
COMMANDS: Final = {
    "simulate": ("simulator", "Serve a simulated Codex backend on loopback."),
    "simulate-openai": ("openai_api", "Serve a simulated OpenAI-compatible API on loopback."),
    "demo": ("demo", "See the relay at work against a simulated backend."),
    "compat": ("compat", "Run real agent programs through relay and simulator."),
    "mixed": ("demo.mixed", "Move a conversation between a local model and Codex."),
    "servers": ("servers", "Run the relay before real OpenAI-compatible servers."),
    "stress": ("stress", "Refresh, share and kill: show that no token is burnt."),
    "record": ("recording", "Serve as the relay does, and record both its sides."),
    "replay": ("replay", "Serve what a cassette holds, as a backend or inside a relay."),
    "check": ("cassettes", "Say whether files are cassettes, and what is wrong with them."),
    "diff": ("comparing", "Show what differs between two cassettes."),
    "tape": ("taping", "Record real programs, for the cassettes of this repository."),
    "golden": ("golden", "Let the relay answer cassettes again; say what is otherwise."),
    "scan": ("secrecy", "Look for secrets in files and folders."),
    "prove": ("proof", "Cut, delay and cancel a whole relay everywhere: nothing is lost."),
    "peers": ("peers", "Measure other relays the same way, side by side."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        package, _ = COMMANDS[cmd_name]
        module = importlib.import_module(f"harness.{package}.command")
        command = getattr(module, cmd_name.replace("-", "_"))
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.{cmd_name} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in COMMANDS.items()])


@click.group(cls=_LazyGroup)
def main() -> None:
    """Simulated backends, recordings and real agents, to try the relay without an account."""


if __name__ == "__main__":
    main(prog_name="python -m harness")
