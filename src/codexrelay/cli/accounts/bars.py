"""A quota as lines of text: one for each window, with a bar and when it starts anew."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Final

import attrs
from rich.text import Text

from codexrelay.cli.accounts.words import from_now, length_of, local, visible
from codexrelay.errors import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.limits import Limits, Window

#: From how much use on a bar is a warning.
_BUSY_PERCENT: Final = 75.0
_FULL_PERCENT: Final = 100.0
_JUST_NOW_S: Final = 60.0


@attrs.frozen(kw_only=True)
class Ruler:
    """How lines are drawn."""

    now_unix_s: float
    zone: tzinfo | None
    #: The terminal has no block characters.
    ascii_only: bool = False
    #: Characters of a bar.
    bar_width: int = 10
    #: Beside the words also the instant of a reset.
    instants: bool = False

    def lines(self, limits: Limits) -> Iterator[Text]:
        """Yield a line for each window: the account's own, then those of single models."""
        yield from self._windows("", limits.primary, limits.secondary)
        for family in limits.families:
            name = visible(family.name or family.id)
            yield from self._windows(f"  {name}", family.primary, family.secondary)
        if limits.credits is not None and limits.credits.can_pay:
            balance = "unlimited" if limits.credits.unlimited else limits.credits.balance
            yield Text(f"credits {visible(balance or 'left')}", "green")

    def age(self, limits: Limits) -> str:
        """Return when the backend told this."""
        if 0 <= self.now_unix_s - limits.observed_unix_s < _JUST_NOW_S:
            return "seen just now"
        return f"seen {from_now(limits.observed_unix_s, now_unix_s=self.now_unix_s)}"

    def _windows(
        self, ending: str, primary: Window | None, secondary: Window | None
    ) -> Iterator[Text]:
        for window, name in ((primary, "first"), (secondary, "second")):
            if window is not None:
                yield self._line(window, name).append(ending, "dim")

    def _line(self, window: Window, name: str) -> Text:
        label = f"{length_of(window, otherwise=name):<6}"
        resets_at = window.resets_at_unix_s
        if resets_at is not None and resets_at <= self.now_unix_s:
            # What was used is forgotten: nobody knows what has been used since.
            ago = in_words(self.now_unix_s - resets_at)
            return Text(label).append(self._bar(0.0)).append(f"    ? started anew {ago} ago")
        used = window.used_percent
        line = Text(label).append(self._bar(used)).append(f" {used:>4.0f} %")
        if resets_at is None:
            return line
        line.append(f"  resets in {in_words(resets_at - self.now_unix_s)}")
        return line.append(f"  {local(resets_at, zone=self.zone)}" if self.instants else "", "dim")

    def _bar(self, used_percent: float) -> Text:
        full, empty = ("#", ".") if self.ascii_only else ("█", "░")
        share = min(max(used_percent, 0.0), _FULL_PERCENT) / _FULL_PERCENT
        most = self.bar_width if share == 1 else self.bar_width - 1
        filled = min(round(share * self.bar_width), most)
        bar = Text(full * filled, _colour(used_percent))
        return bar.append(empty * (self.bar_width - filled), "dim")


def _colour(used_percent: float) -> str:
    if used_percent >= _FULL_PERCENT:
        return "red"
    return "yellow" if used_percent >= _BUSY_PERCENT else "green"
