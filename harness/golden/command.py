"""`python -m harness golden`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import attrs
import click

from codexrelay.errors import ConfigError
from harness.cassettes import file
from harness.cassettes.errors import CassetteError
from harness.golden.again import answer_again
from harness.golden.judging import differences
from harness.proof.wires import UNSUPPORTED
from harness.replay.library import files_of

_DIFFERS: Final = 1
_UNUSABLE: Final = 2


@click.command()
@click.argument(
    "paths", metavar="CASSETTE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--config",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings of the relay, as the cassettes were recorded with. Without it: those of the "
    "scenario that a cassette names.",
)
@click.option(
    "--write",
    is_flag=True,
    help="Let the cassettes say what the relay answers today. Review it: `python -m harness diff`.",
)
def golden(paths: tuple[Path, ...], settings_file: Path | None, *, write: bool) -> None:
    """Let the relay of today answer the requests of cassettes, and say what it answers otherwise.

    The cassette's own upstream track is the relay's backend; nobody else is asked, and the recorded
    pauses take no time. Exit status 0: every answer is as it was; 1: some are not; 2: a cassette
    cannot be read, or this system cannot do it.
    """
    if UNSUPPORTED is not None:
        raise click.UsageError(UNSUPPORTED)
    differ = count = 0
    try:
        for path in (one for named in paths for one in files_of(named)):
            cassette = file.read(path)
            found = differences(cassette, settings_file=settings_file)
            count += 1
            differ += bool(found)
            for line in found:
                click.echo(f"{path}: {line}")
            if found and write:
                again = answer_again(cassette, settings_file=settings_file)
                now = tuple(again.answers.get(one.number, one) for one in cassette.interactions)
                file.write(path, attrs.evolve(cassette, interactions=now))
    except (CassetteError, ConfigError) as error:
        click.echo(str(error), err=True)
        sys.exit(_UNUSABLE)
    cassettes = "1 cassette" if count == 1 else f"{count} cassettes"
    click.echo(f"{cassettes}, {differ} answered otherwise", err=True)
    sys.exit(_DIFFERS if differ else 0)
