"""Where results go: stdout, as text with colour where a terminal has it, or as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click
import orjson
from rich.console import Console

from codexrelay.cli.accounts.bars import Ruler
from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from rich.table import Table

    from codexrelay.cli.accounts.call import Call
    from codexrelay.protocol.raw import JsonObject

#: Where no terminal says how wide it is, `COLUMNS` may.
_WIDTH: Final = 120
#: Narrower than this, bars are short.
_ROOMY: Final = 100


def console_of(call: Call) -> Console:
    """Return a console on stdout. It puts no colour and no markup into what it did not make."""
    console = Console(
        file=sys.stdout,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        _environ=call.world.environ,
    )
    if not console.is_terminal and "COLUMNS" not in call.world.environ:
        console.width = _WIDTH
    return console


def print_rows(console: Console, rows: Table) -> None:
    """Print a table without the blanks that fill its lines up."""
    with console.capture() as captured:
        console.print(rows)
    lines = (line.rstrip() for line in captured.get().splitlines())
    click.echo("\n".join(lines), color=console.color_system is not None)


def ruler_of(call: Call, console: Console, *, instants: bool = False) -> Ruler:
    """Return how quotas are drawn on the console."""
    return Ruler(
        now_unix_s=call.now_unix_s(),
        zone=call.zone,
        ascii_only=console.options.ascii_only,
        bar_width=10 if console.width >= _ROOMY else 5,
        instants=instants,
    )


def print_json(value: JsonObject) -> None:
    """Print one object, indented."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_json_line(value: JsonObject) -> None:
    """Print one object of several, on one line, and at once."""
    click.echo(dump(value).decode())  # which flushes


def tell(line: str) -> None:
    """Say something to the person, beside the result."""
    click.echo(line, err=True)
