"""`python -m harness compat --target …`: relays that run already, side by side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click
import trio

from harness.compat import scorecard
from harness.compat.target import Target, TargetError, bench, measure_all
from harness.compat.verdict import CLIENT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.compat.cell import Cell
    from harness.compat.target import Score, Scorecard

#: What a relay is called that was given no name.
UNNAMED: Final = "target"
_NAMED_URL: Final = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]+)=)?(?P<url>https?://\S+)")


class NamedUrl(click.ParamType[tuple[str, str]]):
    """A URL, with `NAME=` before it or not."""

    name = "[NAME=]URL"

    def convert(
        self,
        value: str | tuple[str, str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Return the name, "" if there is none, and the URL."""
        if isinstance(value, tuple):
            return value
        found = _NAMED_URL.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no URL, nor NAME=URL", param, ctx)
        return found["name"] or "", found["url"]


def targets_of(
    urls: Sequence[tuple[str, str]],
    backends: Sequence[tuple[str, str]],
    *,
    key: str | None,
    model: str | None,
) -> tuple[Target, ...]:
    """Return the relays that a command line names; a backend without a name is everybody's.

    Raises:
        click.UsageError: two have one name, or a backend is nobody's.
    """
    by_name = dict(backends)
    targets = tuple(
        Target(
            name=name or UNNAMED,
            url=url,
            key=key or CLIENT_KEY,
            model=model,
            backend_url=by_name.get(name or UNNAMED, by_name.get("")),
        )
        for name, url in urls
    )
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise click.UsageError("each --target wants a name of its own: --target NAME=URL")
    if strangers := by_name.keys() - {*names, ""}:
        raise click.UsageError(f"--backend: no target is called {min(strangers)}")
    return targets


def measure_targets(
    targets: Sequence[Target],
    cells: Sequence[Cell],
    *,
    retry_once: bool,
    tell: Callable[[str, Score], None],
) -> tuple[Scorecard, ...]:
    """Measure one relay after the other.

    Raises:
        click.ClickException: one of them, or its backend, is not there.
    """

    async def main() -> tuple[Scorecard, ...]:
        cards: list[Scorecard] = []
        for target in targets:
            async with bench(target) as ready:
                card = await measure_all(ready, cells, retry_once=retry_once, on_score=tell)
            cards.append(card)
        return tuple(cards)

    try:
        return trio.run(main)
    except TargetError as error:
        raise click.ClickException(str(error)) from None


def tell_progress(name: str, score: Score) -> None:
    """Print a line about a cell that has just ended; those that are for nobody say nothing."""
    if score.result is not None:
        told = f"{name} {score.variant} {score.scenario}: {scorecard.verdict(score)}"
        print(told if score.result.ok else f"{told} ({scorecard.reason(score)})", flush=True)


def all_good(cards: Sequence[Scorecard]) -> bool:
    """Tell whether all cells of all relays went as they should, and there was any at all."""
    results = [score.result for card in cards for score in card.scores if score.result is not None]
    return bool(results) and all(result.ok for result in results)
