"""The page: labelled lines, as readable in a pipe as in a terminal. No cursor is ever moved."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

#: In columns. Wider lines are hard to read, narrower ones hold no log line.
WIDEST: Final = 100
NARROWEST: Final = 60
#: Where the text begins, behind its label.
_INDENT: Final = 12


class Page:
    """Writes to a console, which drops the styles in a pipe and where NO_COLOR is set."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._room = max(NARROWEST, min(console.width, WIDEST)) - _INDENT
        #: Where the words that are being spoken go on, in columns behind the indent; None while
        #: nobody speaks.
        self._column: int | None = None
        #: The blanks between the last word and the next one, which may have to go on a new line.
        self._blanks = ""

    def title(self, text: str) -> None:
        """Begin a section."""
        self._out("")
        self._out(text, "bold")

    def line(self, label: str, text: str, *, style: str = "", most_rows: int | None = None) -> None:
        """Write a text behind a label; None: in as many rows as it takes."""
        rows = textwrap.wrap(
            text, self._room, max_lines=most_rows, placeholder=" ...", break_on_hyphens=False
        )
        self._rows(label, rows or [""], style)

    def log(self, label: str, lines: Iterable[str]) -> None:
        """Write what a program has written, in the background."""
        for line in lines:
            rows = textwrap.wrap(line, self._room, subsequent_indent="    ", break_on_hyphens=False)
            self._rows(label, rows, "dim")
            label = ""

    def hear(self, words: str) -> None:
        """Write words of an answer the moment they arrive, on a new row where they do not fit."""
        if self._column is None:
            self._console.out(_labelled("answer"), end="", highlight=False)
            self._column, self._blanks = 0, ""
        text = self._blanks + words
        visible = text.rstrip()
        self._blanks = text[len(visible) :]
        if self._column and self._column + len(visible) > self._room:
            self._console.out(f"\n{' ' * _INDENT}", end="", highlight=False)
            self._column = 0
            visible = visible.lstrip()
        self._console.out(visible, end="", highlight=False)
        self._column += len(visible)

    def _rows(self, label: str, rows: Iterable[str], style: str) -> None:
        for row in rows:
            self._out(_labelled(label) + row, style)
            label = ""

    def _out(self, text: str, style: str = "") -> None:
        if self._column is not None:  # somebody was speaking
            self._console.out("")
            self._column = None
        self._console.out(text.rstrip(), style=style, highlight=False)


def _labelled(label: str) -> str:
    return f"   {label}".ljust(_INDENT)
