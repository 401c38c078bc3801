"""Says how the cells went: a line for each as it ends, the matrix, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.compat.cell import Result

_GAP: Final = "  "
#: Of a line of the matrix; what does not fit goes into a further block.
_WIDTH: Final = 120


def line(result: Result, *, number: int, total: int) -> str:
    """Return one line about a cell that has just ended."""
    counted = f"[{number:>{len(str(total))}}/{total}]"
    told = f"{counted} {result.variant} {result.scenario}: {_verdict(result)}"
    return told if result.ok else f"{told} ({result.problems[0]})"


def matrix(results: Sequence[Result], missing: Mapping[str, str]) -> str:
    """Return the table of all cells, and the programs that were left out, with the reason."""
    by_place = {(result.variant, result.scenario): result for result in results}
    columns = _distinct(result.scenario for result in results)
    rows = [
        [variant, *(_cell(by_place.get((variant, column))) for column in columns)]
        for variant in _distinct(result.variant for result in results)
    ]
    text = "\n".join(map(aligned, _blocks([["seconds", *columns], *rows]))) if rows else ""
    if any(result.tries > 1 for result in results):
        text += "* the second try\n"
    return text + "".join(f"{name}: left out: {reason}\n" for name, reason in missing.items())


def failures(results: Iterable[Result]) -> str:
    """Return what is wrong with each cell that failed, and the traces it left."""
    return "\n".join(
        "\n".join([f"--- {result.variant} {result.scenario}", *_details(result)]) + "\n"
        for result in results
        if not result.ok
    )


def _details(result: Result) -> Iterable[str]:
    yield from (f"wrong: {problem}" for problem in result.problems)
    yield from result.traces


def _verdict(result: Result) -> str:
    return f"{_cell(result)} s" if result.ok else _cell(result)


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    again = "*" if result.tries > 1 else ""
    return f"ok {result.seconds:.1f}{again}" if result.ok else f"FAIL{again}"


def _distinct(names: Iterable[str]) -> list[str]:
    """Return each name once, in the order of their first appearance."""
    return list(dict.fromkeys(names))


def _blocks(table: Sequence[Sequence[str]]) -> Iterator[list[list[str]]]:
    """Cut a table into tables that are narrow enough, each with the first column in front."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    chosen, used = [0], widths[0]
    for column, width in enumerate(widths[1:], start=1):
        if used + len(_GAP) + width > _WIDTH and len(chosen) > 1:
            yield [[row[place] for place in chosen] for row in table]
            chosen, used = [0], widths[0]
        chosen.append(column)
        used += len(_GAP) + width
    yield [[row[place] for place in chosen] for row in table]


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table as text, a line for each row."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = (
        _GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
    return "\n".join(lines) + "\n"
