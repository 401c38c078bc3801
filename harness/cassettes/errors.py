"""What can be wrong with a cassette, told in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class CassetteError(Exception):
    """A file is no cassette, or not one that can be read.

    `problems` are all that were found, each with its place in the document
    (`interactions[3].response.stream.ends[5]`) and without any of the content.
    """

    def __init__(self, path: Path | None, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(path, self.problems)

    def __str__(self) -> str:
        name = "the cassette" if self.path is None else str(self.path)
        return "\n".join(f"{name}: {line}" for line in self.lines())

    def lines(self) -> tuple[str, ...]:
        """Return the problems, one line each, without the file's name."""
        return tuple(f"{one.where}: {one.what}" if one.where else one.what for one in self.problems)


def problem(where: str, what: str) -> Problem:
    """Return one problem; `where` may be empty: the whole file."""
    return Problem(where=where, what=what)
