"""`codexrelay config`: what is in force and where it comes from, what is wrong, what there is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click
import orjson

from codexrelay.cli.accounts.words import visible
from codexrelay.cli.flags import KeyedCommand, given, key_flags
from codexrelay.config.example import example as example_text
from codexrelay.config.loading import load
from codexrelay.config.shown import shown
from codexrelay.config.yaml_file import in_one_line
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.config.keys import Origin
    from codexrelay.errors import Problem

#: Exit status for a configuration that cannot be used, as `serve` has it.
_UNUSABLE: Final = 2

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def config() -> None:
    """Show, check and explain the configuration."""


@config.command(cls=KeyedCommand)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file (YAML); the variable CODEXRELAY_CONFIG may name it too.",
)
@_json
@key_flags
def show(config_path: Path | None, *, as_json: bool, **flags: str | None) -> None:
    """Show every key with its value and where that comes from: default, file, variable or flag.

    Takes the flags of `codexrelay serve`, and shows what that would start with. Secrets are not
    shown.
    """
    try:
        loaded = load(
            config_path=config_path,
            environ=os.environ,  # noqa: TID251 - the real one, as serve takes it
            flags=given(flags),
            starts=True,
        )
    except ConfigError as error:
        _refuse(error.problems, as_json=as_json)
    if as_json:
        _print_json(
            keys=[
                {
                    "key": one.name,
                    "value": one.value,
                    "source": one.origin.kind,
                    "place": one.origin.place,
                    "as_first_block": one.origin.taken_over,
                    "restart": not one.live,
                }
                for one in shown(loaded)
            ],
            warnings=_as_json(loaded.warnings),
        )
        return
    for one in shown(loaded):
        click.echo(visible(f"{one.name}: {in_one_line(one.value)}  # {_in_words(one.origin)}"))
    for warning in loaded.warnings:
        click.echo(f"codexrelay: warning: {warning}", err=True)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@_json
def check(file: Path, *, as_json: bool) -> None:
    """Say whether FILE can be used, with the environment as it is; if not, all that is wrong.

    The exit status is 0 or 2. Nothing is started, and no account file is read.
    """
    try:
        loaded = load(
            config_path=file,
            environ=os.environ,  # noqa: TID251 - the real one, as serve takes it
            flags={},
            named_by="FILE",
            starts=True,
        )
    except ConfigError as error:
        _refuse(error.problems, as_json=as_json)
    if as_json:
        _print_json(fine=True, problems=[], warnings=_as_json(loaded.warnings))
        return
    click.echo(f"{file}: fine")
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}")


@config.command()
def example() -> None:
    """Print an example file that has every key, its default and its meaning."""
    click.echo(example_text(), nl=False)


def _refuse(problems: Sequence[Problem], *, as_json: bool) -> NoReturn:
    if as_json:
        _print_json(fine=False, problems=_as_json(problems), warnings=[])
    else:
        for problem in problems:
            click.echo(f"codexrelay: {problem}", err=True)
    sys.exit(_UNUSABLE)


def _in_words(origin: Origin) -> str:
    told = origin.kind if origin.place is None else origin.place
    return f"as the first block: {told}" if origin.taken_over else told


def _as_json(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [{"where": problem.where, "what": problem.what} for problem in problems]


def _print_json(**values: object) -> None:
    click.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2))
