"""`python -m harness check`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from harness.cassettes import document, versions
from harness.cassettes.errors import CassetteError
from harness.cassettes.file import cassettes_in, read_bytes

if TYPE_CHECKING:
    from harness.cassettes.model import Cassette

_MOST_NUMBERS: Final = 5


@click.command()
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
def check(paths: tuple[Path, ...]) -> None:
    """Say whether files are cassettes, and everything that is wrong with them.

    Of a folder all `.yaml` and `.yml` files below it are looked at. One line for each problem, and
    one for each cassette that is fine but not whole; the last line sums up. Exit status 1 means
    that there are problems, 2 that there is no such path.
    """
    files = cassettes_in(paths)
    told: Counter[str] = Counter()
    incomplete = problems = 0
    for path in files:
        try:
            version, cassette = _read(path)
        except CassetteError as error:
            problems += len(error.problems)
            for line in error.lines():
                click.echo(f"{path}: {line}")
            continue
        told[f"format {version}"] += 1
        told[f"origin {cassette.about.origin}"] += 1
        told["interactions"] += len(cassette.interactions)
        if why := _why_incomplete(cassette):
            incomplete += 1
            click.echo(f"{path}: incomplete, which is no problem: {why}")
    facts = [f"{count} {name}" for name, count in sorted(told.items())]
    counts = [_many(len(files), "file"), _many(problems, "problem"), f"{incomplete} incomplete"]
    click.echo(", ".join([*counts, *facts]))
    sys.exit(1 if problems else 0)


def _read(path: Path) -> tuple[int, Cassette]:
    """Return the version a file is in and what it holds.

    Raises:
        CassetteError: it is no cassette.
    """
    values = document.load(read_bytes(path))
    return versions.version_of(values), document.cassette_of(values, folder=path.parent)


def _why_incomplete(cassette: Cassette) -> str:
    if not cassette.about.complete:
        return "the recorder was ended before its time"
    cut = [one.number for one in cassette.interactions if not one.response.stream.complete]
    if not cut:
        return ""
    verb = "is" if len(cut) == 1 else "are"
    numbers = ", ".join(map(str, cut[:_MOST_NUMBERS])) + (", ..." if cut[_MOST_NUMBERS:] else "")
    return f"{_many(len(cut), 'answer')} {verb} not whole (number {numbers})"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
