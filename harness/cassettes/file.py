"""Cassettes on the disk: whole or not at all, and for their owner only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.accounts.files import replace_file
from harness.cassettes import document
from harness.cassettes.beside import Beside
from harness.cassettes.errors import CassetteError, problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.cassettes.model import Cassette

_SUFFIXES: Final = (".yaml", ".yml")


def read(path: Path) -> Cassette:
    """Return the cassette in a file, whatever version of the format it is in.

    Raises:
        CassetteError: there is none, or it cannot be read; all problems are told at once.
    """
    data = read_bytes(path)
    try:
        return document.parse(data, folder=path.parent)
    except CassetteError as error:
        raise CassetteError(path, error.problems) from None


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        CassetteError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        told = f"cannot be read ({error.strerror})"
        raise CassetteError(path, [problem("", told)]) from None


def cassettes_in(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files among `paths`, and the YAML files in all folders below those that are none.

    In the order of `paths`, and by name within a folder.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = (one for one in path.rglob("*") if one.suffix in _SUFFIXES)
            found += sorted(one for one in below if one.is_file())
        else:
            found.append(path)
    return tuple(found)


def write(path: Path, cassette: Cassette) -> None:
    """Write a cassette, large bodies beside it. A crash leaves the old one or the new one.

    Raises:
        OSError: it cannot be written; what was there is unchanged.
        ValueError: see `document.dump`.
    """
    beside = Beside(path)
    ordered = sorted(cassette.interactions, key=lambda one: one.number)
    items = [document.interaction_bytes(one, beside.keep) for one in ordered]
    write_bytes(path, document.assembled(cassette.about, items))
    beside.remove_others()


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content, whole or not at all, with mode 0600 where there are modes.

    Raises:
        OSError: it cannot be written; what was there is unchanged, and nothing is left beside it.
    """
    replace_file(path, data)
