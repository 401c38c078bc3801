"""The accounts of some instances as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from codexrelay.accounts.account import Status
from codexrelay.cli.accounts.words import from_now, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.accounts.account import Account
    from codexrelay.cli.accounts.bars import Ruler
    from codexrelay.cli.accounts.instance import Entry, Instance, Stock

#: Narrower than this the table has no column of its own for the last use.
_WIDE: Final = 110
COLOURS: Final = {
    Status.VALID: "green",
    Status.EXPIRED: "cyan",
    Status.RATE_LIMITED: "yellow",
    Status.NEEDS_REAUTH: "red",
}


def accounts_table(stocks: Sequence[tuple[Instance, Stock]], ruler: Ruler, *, width: int) -> Table:
    """Return a row for each account, then one for each file that cannot be used."""
    several, wide = len(stocks) > 1, width >= _WIDE
    columns = ["INSTANCE"] if several else []
    columns += ["ACCOUNT", "PLAN", "STATE", "LIMITS"]
    columns += ["LAST USED"] if wide else []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        # A bar that is wrapped is none, nor is half the name of a state a name; all else may be.
        least = max(len(status.value) for status in Status) if column == "STATE" else None
        table.add_column(column, no_wrap=column == "LIMITS", overflow="fold", min_width=least)
    for instance, stock in stocks:
        first = [Text(instance.name)] if several else []
        for entry in stock.entries:
            table.add_row(*first, *_row(entry, ruler, wide=wide))
        for account_id, _ in stock.broken:
            table.add_row(*first, *_broken_row(account_id, wide=wide))
    return table


def _row(entry: Entry, ruler: Ruler, *, wide: bool) -> list[Text]:
    account = entry.account
    who = Text(account.id, "bold")
    if account.email is not None:
        who.append(f"\n{visible(account.email)}", "dim not bold")
    state = state_of(account, ruler)
    if entry.unused is not None:
        state.append(f"\nnot used: {entry.unused}", "dim")
    used = account.last_used_unix_s
    last_used = "never" if used is None else from_now(used, now_unix_s=ruler.now_unix_s)
    if not wide and used is not None:
        state.append(f"\nused {last_used}", "dim")
    row = [who, Text(visible(account.plan_type or "-")), state, _limits(account, ruler)]
    return [*row, Text(last_used, "dim")] if wide else row


def state_of(account: Account, ruler: Ruler) -> Text:
    """Return the state in its colour, and below it what must be known about it."""
    status = account.status(now_unix_s=ruler.now_unix_s)
    state = Text(status.value, COLOURS[status])
    if status is Status.NEEDS_REAUTH:
        state.append(f"\n{visible(account.needs_reauth or '')}", "dim")
    until = account.rate_limited_until_unix_s
    if until is not None and until > ruler.now_unix_s:
        state.append(f"\nends {from_now(until, now_unix_s=ruler.now_unix_s)}", "dim")
    elif _is_spent(account, ruler):
        state.append("\nquota spent", "yellow")
    if account.attention is not None:
        state.append(f"\n{visible(account.attention.code)}", "red")
    return state


def _is_spent(account: Account, ruler: Ruler) -> bool:
    """Tell whether the next turn would be refused although the relay has not met that yet."""
    limits = account.limits
    if limits is None or not limits.exhausted:
        return False
    resets_at = limits.resets_at_unix_s
    return resets_at is None or resets_at > ruler.now_unix_s


def _limits(account: Account, ruler: Ruler) -> Text:
    if account.limits is None:
        return Text("not seen yet", "dim")
    lines = [*ruler.lines(account.limits), Text(ruler.age(account.limits), "dim")]
    return Text("\n").join(lines)


def _broken_row(account_id: str, *, wide: bool) -> list[Text]:
    # What is wrong would widen the column for everybody: it is told below the table.
    name, state = Text(visible(account_id), "bold"), Text("invalid", "red")
    row = [name, Text("-"), state, Text("see below", "dim")]
    return [*row, Text("")] if wide else row
