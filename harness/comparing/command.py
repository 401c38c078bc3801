"""`python -m harness diff`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from harness.cassettes import file
from harness.cassettes.errors import CassetteError
from harness.comparing.cassettes import Options, differing
from harness.comparing.values import NOTHING, Difference

if TYPE_CHECKING:
    from harness.comparing.cassettes import Found

_EXISTING: Final = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("old", type=_EXISTING)
@click.argument("new", type=_EXISTING)
@click.option("--exact", is_flag=True, help="Ids, dates and what else varies must be equal too.")
@click.option("--times", is_flag=True, help="So must the times of heads, chunks and frames.")
def diff(old: Path, new: Path, exact: bool, times: bool) -> None:  # noqa: FBT001  (click's flags)
    """Show what differs between two cassettes, or between those of two folders.

    Requests are compared field by field, answers event by event. Ids may have other names, as long
    as the same one has the same name everywhere. Exit status 0: the same; 1: something differs; 2:
    something is no cassette.
    """
    if old.is_dir() != new.is_dir():
        raise click.UsageError("compare two files or two folders")
    options = Options(exact=exact, times=times)
    if not old.is_dir():
        count = _compare(old, new, "", options)
    else:
        before, after = _below(old), _below(new)
        count = 0
        for name in sorted({*before, *after}):
            if name not in after or name not in before:
                _say("removed" if name in before else "added", name, in_old=name in before)
                count += 1
            else:
                count += _compare(before[name], after[name], name, options)
    click.echo("the same" if count == 0 else f"{count} difference{'' if count == 1 else 's'}")
    sys.exit(1 if count else 0)


def _below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in file.cassettes_in([folder])}


def _compare(old: Path, new: Path, name: str, options: Options) -> int:
    """Print what differs between two files, and return how much."""
    try:
        found = differing(file.read(old), file.read(new), options)
    except CassetteError as error:
        click.echo(error, err=True)
        sys.exit(2)
    except RecursionError:
        click.echo(f"{new}: nests too deeply to be compared", err=True)
        sys.exit(2)
    if found and name:
        click.secho(name, bold=True)
    for one in found:
        _print(one)
    return sum(len(one.differences) for one in found)


def _print(found: Found) -> None:
    click.secho(_on_a_line(found.title) or "about the cassette", bold=True)
    for one in found.differences:
        line = Difference(_on_a_line(one.where), _on_a_line(one.old), _on_a_line(one.new))
        click.echo(f"  {_coloured(line)}")


def _on_a_line(text: str) -> str:
    """Return a text whose line feeds and other control characters can be seen, and do nothing."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _coloured(difference: Difference) -> str:
    """Return a difference as a line; click takes the colours out where nobody sees them."""
    if NOTHING in (difference.old, difference.new):
        return click.style(str(difference), fg="green" if difference.old == NOTHING else "red")
    old, new = click.style(difference.old, fg="red"), click.style(difference.new, fg="green")
    return f"{difference.where}: {old} -> {new}"


def _say(what: str, name: str, *, in_old: bool) -> None:
    click.secho(f"{what}: {name}", fg="red" if in_old else "green")
