"""The page: labelled lines, as readable in a pipe as in a terminal. No cursor is ever moved."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

#: Wider lines are hard to read, narrower ones hold no log line. In columns.
WIDEST: Final = 100
NARROWEST: Final = 60
#: Where the text begins, behind its label.
_INDENT: Final = 12


class Page:
    """Writes to a console. Styles are the console's to drop, in a pipe or where NO_COLOR is set."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = max(NARROWEST, min(console.width, WIDEST))
        #: Column at which spoken words go on; 0 while nobody speaks.
        self._column = 0

    def title(self, text: str) -> None:
        """Begin a section."""
        self._out("")
        self._out(text, "bold")

    def line(self, label: str, text: str, *, style: str = "") -> None:
        """Write a text behind a label, over several lines if need be."""
        self._write(label, textwrap.wrap(text, self._width - _INDENT) or [""], style)

    def clipped(self, label: str, text: str) -> None:
        """Write a text behind a label, on one line; what has no room is left out."""
        room = self._width - _INDENT
        self._write(label, [text if len(text) <= room else f"{text[: room - 3]}..."], "")

    def log(self, label: str, lines: Iterable[str]) -> None:
        """Write what a program logged, in the background."""
        for line in lines:
            rows = textwrap.wrap(
                line,
                self._width - _INDENT,
                subsequent_indent="    ",
                break_on_hyphens=False,
            )
            self._write(label, rows, "dim")
            label = ""

    def hear(self, words: str) -> None:
        """Write words of an answer the moment they arrive; broken at the edge of the page."""
        if not self._column:
            self._console.out(_labelled("answer"), end="", highlight=False)
            self._column = _INDENT
        if self._column > _INDENT and self._column + len(words.rstrip()) > self._width:
            self._console.out(f"\n{' ' * _INDENT}", end="", highlight=False)
            self._column = _INDENT
            words = words.lstrip()
        self._console.out(words, end="", highlight=False)
        self._column += len(words)

    def _write(self, label: str, rows: list[str], style: str) -> None:
        for row in rows:
            self._out(_labelled(label) + row, style)
            label = ""

    def _out(self, text: str, style: str = "") -> None:
        if self._column:  # somebody was speaking
            self._console.out("")
            self._column = 0
        self._console.out(text.rstrip(), style=style, highlight=False)


def _labelled(label: str) -> str:
    return f"   {label}".ljust(_INDENT)
