"""Prints what several relays made of the same cells, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from harness.compat.report import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.compat.cell import Result
    from harness.compat.target import Score, Scorecard


def side_by_side(cards: Sequence[Scorecard]) -> str:
    """Return a line for each cell with a column for each relay, and the totals.

    The relays were given the same cells in the same order.
    """
    if not cards:
        return ""
    table = [["row", "column", *(card.target for card in cards)]]
    for scores in zip(*(card.scores for card in cards), strict=True):
        first = scores[0]
        table.append([first.variant, first.scenario, *map(verdict, scores)])
    table.append(["all", "", *map(total, cards)])
    again = any(score.result and score.result.tries > 1 for card in cards for score in card.scores)
    return aligned(table) + ("* the second try\n" if again else "")


def reasons(cards: Iterable[Scorecard]) -> str:
    """Return a line for each cell that failed, and one for each reason why others were no cells."""
    lines: list[str] = []
    for card in cards:
        lines += [
            f"{card.target}: {score.variant} {score.scenario}: {reason(score)}"
            for score in card.scores
            if score.result is not None and not score.result.ok
        ]
        left_out: dict[str, list[str]] = {}
        for score in card.scores:
            if score.result is None:
                left_out.setdefault(score.why_not, []).append(score.scenario)
        lines += [
            f"{card.target}: - {why_not}: {_counted(names)}" for why_not, names in left_out.items()
        ]
    return "".join(f"{line}\n" for line in lines)


def results_of(cards: Iterable[Scorecard]) -> tuple[Result, ...]:
    """Return the results for the reports that know one relay: a row for each relay and variant."""
    return tuple(
        attrs.evolve(score.result, variant=f"{card.target}/{score.variant}")
        for card in cards
        for score in card.scores
        if score.result is not None
    )


def total(card: Scorecard) -> str:
    """Return how many of a relay's cells went well, and of how many."""
    results = [score.result for score in card.scores if score.result is not None]
    return f"{sum(result.ok for result in results)} of {len(results)}"


def verdict(score: Score) -> str:
    """Return what stands in the table for one cell."""
    if score.result is None:
        return "-"
    again = "*" if score.result.tries > 1 else ""
    return f"ok {score.result.seconds:.1f}{again}" if score.result.ok else f"FAIL{again}"


def reason(score: Score) -> str:
    """Return in a line why a cell failed; "" if it did not."""
    if score.result is None or score.result.ok:
        return ""
    first, *others = score.result.problems
    line = " ".join(first.split())
    return f"{line} (and {len(others)} more)" if others else line


def _counted(names: Sequence[str]) -> str:
    """Return each name once, in order of appearance, with its number if there are several."""
    numbers = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(f"{name} x{n}" if n > 1 else name for name, n in numbers.items())
