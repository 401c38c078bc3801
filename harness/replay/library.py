"""The cassettes that somebody names: files, and folders of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.errors import Problem
from harness.cassettes import file
from harness.cassettes.errors import CassetteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from harness.cassettes.model import Cassette

_ENDINGS: Final = frozenset({".yaml", ".yml"})


def read_all(paths: Iterable[Path]) -> dict[str, Cassette]:
    """Return the cassettes of some files and folders by name, in order.

    A name is as short as it can be: of a file its own, in a folder its path from there.

    Raises:
        CassetteError: one cannot be read, or a folder holds none; the first of them.
    """
    found: dict[str, Cassette] = {}
    for named in paths:
        for path in files_of(named):
            name = path.name if path == named else path.relative_to(named).as_posix()
            found[str(path) if name in found else name] = file.read(path)
    return found


def began_unix_s(cassettes: Mapping[str, Cassette]) -> float | None:
    """Return when the first of the recordings began; None where none says it."""
    known = (cassette.about.began_unix_s for cassette in cassettes.values())
    return min((begun for begun in known if begun is not None), default=None)


def incomplete(cassettes: Mapping[str, Cassette]) -> tuple[str, ...]:
    """Return what the recordings do not hold to the end, a line for each cassette."""
    lines = []
    for name, cassette in cassettes.items():
        cut = [str(one.number) for one in cassette.interactions if not one.response.stream.complete]
        told = [] if cassette.about.complete else ["the recording was not ended properly"]
        if cut:
            told.append(f"answers that are not whole: {', '.join(cut)}")
        if told:
            lines.append(f"{name}: {'; '.join(told)}")
    return tuple(lines)


def files_of(named: Path) -> Iterator[Path]:
    """Return the file, or those of a folder that are cassettes by their names, in order.

    Raises:
        CassetteError: a folder holds none.
    """
    if not named.is_dir():
        yield named
        return
    files = sorted(path for path in named.rglob("*") if path.suffix in _ENDINGS and path.is_file())
    if not files:
        raise CassetteError(named, [Problem("", "no cassette is in this folder")])
    yield from files
