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
#: Narrower than this, or with fewer characters beside the longest id, it has no room for e-mails
#: either, and two columns only.
_ROOMY: Final = 80
_BESIDE_IDS: Final = 66
_BETWEEN: Final = 2
COLOURS: Final = {
    Status.VALID: "green",
    Status.EXPIRED: "cyan",
    Status.RATE_LIMITED: "yellow",
    Status.NEEDS_REAUTH: "red",
}

#: Characters of the longest state.
_STATE: Final = max(len(status.value) for status in Status)


def accounts_table(stocks: Sequence[tuple[Instance, Stock]], ruler: Ruler, *, width: int) -> Table:
    """Return a row for each account, then one for each file that cannot be used."""
    several = len(stocks) > 1
    roomy = width >= max(_ROOMY, _longest_id(stocks, qualified=False) + _BESIDE_IDS)
    wide = roomy and width >= _WIDE
    columns = ["INSTANCE"] if several and roomy else []
    columns += ["ACCOUNT", "PLAN", "STATE", "LIMITS"] if roomy else ["ACCOUNT", "STATE"]
    columns += ["LAST USED"] if wide else []
    table = Table(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), header_style="dim")
    # Half an id is none, nor is a bar that is wrapped, nor half the name of a state; all else may
    # be folded.
    longest = max(_longest_id(stocks, qualified=several and not roomy), len("ACCOUNT"))
    least = {"ACCOUNT": longest, "STATE": _STATE}
    for column in columns:
        table.add_column(
            column,
            no_wrap=column == "LIMITS",
            overflow="fold",
            min_width=least.get(column),
            width=least[column] if column == "ACCOUNT" and not roomy else None,
        )
    for instance, stock in stocks:
        first = [Text(instance.name)] if several and roomy else []
        before = f"{instance.name}/" if several and not roomy else ""
        for entry in stock.entries:
            row = _row(entry, ruler, wide=wide) if roomy else _narrow_row(entry, ruler, before)
            table.add_row(*first, *row)
        for account_id, _ in stock.broken:
            row = _broken_row(f"{before}{account_id}", wide=wide)
            table.add_row(*first, *(row if roomy else (row[0], row[2])))
    return table


def least_width(stocks: Sequence[tuple[Instance, Stock]]) -> int:
    """Return how many characters a table needs that shows every id whole."""
    return _longest_id(stocks, qualified=len(stocks) > 1) + _BETWEEN + _STATE


def _longest_id(stocks: Sequence[tuple[Instance, Stock]], *, qualified: bool) -> int:
    lengths = [
        len(visible(name)) + (len(instance.name) + 1 if qualified else 0)
        for instance, stock in stocks
        for name in (*(account.id for account in stock.accounts), *(n for n, _ in stock.broken))
    ]
    return max(lengths, default=0)


def _narrow_row(entry: Entry, ruler: Ruler, before: str) -> tuple[Text, Text]:
    """Return the id alone, and all else below its state."""
    state = _state(entry, ruler, wide=False)
    if entry.account.plan_type is not None:
        state.append(f"\n{visible(entry.account.plan_type)}", "dim")
    return (
        Text(f"{before}{entry.account.id}", "bold"),
        Text("\n").join((state, _limits(entry.account, ruler))),
    )


def _row(entry: Entry, ruler: Ruler, *, wide: bool) -> list[Text]:
    account = entry.account
    who = Text(account.id, "bold")
    if account.email is not None:
        who.append(f"\n{visible(account.email)}", "dim not bold")
    used = account.last_used_unix_s
    last_used = "never" if used is None else from_now(used, now_unix_s=ruler.now_unix_s)
    state = _state(entry, ruler, wide=wide)
    row = [who, Text(visible(account.plan_type or "-")), state, _limits(account, ruler)]
    return [*row, Text(last_used, "dim")] if wide else row


def _state(entry: Entry, ruler: Ruler, *, wide: bool) -> Text:
    state, used = state_of(entry.account, ruler), entry.account.last_used_unix_s
    if entry.unused is not None:
        state.append(f"\nnot used: {entry.unused}", "dim")
    if not wide and used is not None:
        state.append(f"\nused {from_now(used, now_unix_s=ruler.now_unix_s)}", "dim")
    return state


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
