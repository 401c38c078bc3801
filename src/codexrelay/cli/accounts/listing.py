"""`list`: every account, its state and its quota."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.text import Text

from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.facts import account_facts, broken_facts
from codexrelay.cli.accounts.screen import console_of, print_json, print_rows, ruler_of
from codexrelay.cli.accounts.table import accounts_table, least_width
from codexrelay.cli.accounts.words import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance, Stock
    from codexrelay.protocol.raw import Json, JsonObject

_HOW_TO_ADD = (
    "Sign in with `codexrelay accounts add`, or `… add --device` on a machine without a browser."
)


@click.command("list", short_help="Show all accounts: state, quota, last use.")
@takes_options
@click.pass_obj
def list_accounts(call: Call) -> None:
    """Show every account: plan, state, quota as last seen, last use."""
    stocks = [(instance, instance.look()) for instance in call.all_instances()]
    if call.as_json:
        print_json(_facts(stocks, now_unix_s=call.now_unix_s()))
        return
    console = console_of(call)
    if any(stock.entries or stock.broken for _, stock in stocks):
        # Below that the terminal wraps the lines: half an id is none.
        console.width = max(console.width, least_width(stocks))
        print_rows(console, accounts_table(stocks, ruler_of(call, console), width=console.width))
        console.print()
    for instance, stock in stocks:
        whose = f"{instance.name}: " if len(stocks) > 1 else ""
        if stock.entries or stock.broken or stock.origin is not None:
            using = "uses" if stock.origin is not None else "has nothing to use:"
            console.print(Text(f"{whose}the relay {using} {stock.source}", "dim"), soft_wrap=True)
        else:
            console.print(f"{whose}No account yet: {stock.source}. {_HOW_TO_ADD}", soft_wrap=True)
        for problem in (*(told for _, told in stock.broken), *stock.problems):
            console.print(Text(f"{whose}problem: {visible(str(problem))}", "red"), soft_wrap=True)


def _facts(stocks: Sequence[tuple[Instance, Stock]], *, now_unix_s: float) -> JsonObject:
    accounts: list[Json] = []
    instances: list[Json] = []
    problems: list[Json] = []
    for instance, stock in stocks:
        accounts += [
            account_facts(account, instance, now_unix_s=now_unix_s) for account in stock.accounts
        ]
        accounts += [broken_facts(name, problem, instance) for name, problem in stock.broken]
        problems += [
            {"instance": instance.name, "where": problem.where, "what": problem.what}
            for problem in stock.problems
        ]
        instances.append(
            {
                "name": instance.name,
                "source": stock.origin,
                "storage_path": str(instance.store.folder),
                "selection_strategy": instance.managed.selection_strategy,
            }
        )
    return {"accounts": accounts, "instances": instances, "problems": problems}
