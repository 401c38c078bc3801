"""`show`: everything about one account, but its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from codexrelay.accounts.account import Status
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.facts import account_facts, broken_facts
from codexrelay.cli.accounts.instance import Entry
from codexrelay.cli.accounts.screen import console_of, print_json, print_rows, ruler_of
from codexrelay.cli.accounts.table import COLOURS
from codexrelay.cli.accounts.words import from_now, moment, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.account import Account
    from codexrelay.cli.accounts.bars import Ruler
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance
    from codexrelay.errors import Problem


@click.command(short_help="Show everything about one account but its tokens.")
@takes_options
@click.argument("name", metavar="ID")
@click.pass_obj
def show(call: Call, name: str) -> None:
    """Show one account: whose it is, its state and what to do about it, its quota, its file.

    ID is the account's id, or the workspace id or e-mail where only one account has it.
    """
    instance, found = call.find(name)
    if not isinstance(found, Entry):
        _show_broken(call, instance, *found)
        return
    account = found.account
    if call.as_json:
        print_json(account_facts(account, instance, now_unix_s=call.now_unix_s()))
        return
    console = console_of(call)
    ruler = ruler_of(call, console, instants=True)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in _rows(found, instance, ruler):
        grid.add_row(label, value)
    print_rows(console, grid)


def _show_broken(call: Call, instance: Instance, account_id: str, problem: Problem) -> None:
    if call.as_json:
        print_json(broken_facts(account_id, problem, instance))
        return
    console = console_of(call)
    console.print(Text.assemble("state  ", ("invalid", "red")))
    console.print(
        f"{visible(str(problem))}. Mend the file, or remove it with `codexrelay accounts remove "
        f"{visible(account_id)}` and sign in anew",
        soft_wrap=True,
    )


def _rows(entry: Entry, instance: Instance, ruler: Ruler) -> Iterator[tuple[str, Text]]:
    account, file = entry.account, entry.account.file
    yield "account", Text(account.id, "bold")
    yield "state", _state(account, ruler)
    if (todo := what_to_do(account, now_unix_s=ruler.now_unix_s)) is not None:
        yield "to do", Text(todo)
    if account.attention is not None:
        about = account.attention
        told = visible(f"{about.code}: {about.message}" if about.message else about.code)
        yield "look at", Text(f"{told}, since {_ago(about.since_unix_s, ruler)}", "red")
    if entry.unused is not None:
        yield "not used", Text(entry.unused)
    yield "e-mail", _text(account.email)
    yield "plan", _text(account.plan_type)
    yield "user", _text(account.user_id)
    yield "workspace", _text(account.workspace_id)
    yield "FedRAMP", Text("yes" if account.fedramp else "no")
    yield "token", _token(account, ruler)
    if account.limits is None:
        yield "limits", Text("not seen yet: `codexrelay accounts limits` asks for them")
    else:
        yield "limits", Text("\n").join(ruler.lines(account.limits))
        yield "", Text(ruler.age(account.limits), "dim")
    used = account.last_used_unix_s
    yield "last used", Text("never" if used is None else _moment(used, ruler))
    if file is not None:
        yield "created", _text(file.created_at)
        yield "updated", _text(file.updated_at)
        yield "scope", _text(file.scope)
    path = instance.file_of(account)
    yield "file", _text(None if path is None else str(path))


def what_to_do(account: Account, *, now_unix_s: float) -> str | None:
    """Say what the owner can do about the account's state, None if nothing needs to be done."""
    match account.status(now_unix_s=now_unix_s):
        case Status.NEEDS_REAUTH:
            return f"sign in again: `{how_to_sign_in_again(account)}`"
        case Status.RATE_LIMITED if account.origin == "managed":
            return (
                "nothing, it ends by itself; if you know better: "
                f"`codexrelay accounts clear {account.id}`"
            )
        case Status.EXPIRED if account.credentials.refresh_token is None:
            return f"sign in again: `{how_to_sign_in_again(account)}`"
        case Status.EXPIRED:
            return "nothing, the relay renews it at the next turn"
        case _:
            return None


def how_to_sign_in_again(account: Account) -> str:
    """Return the command."""
    if account.origin == "legacy":
        return "codex login"
    return f"codexrelay accounts update {account.id}"


def _state(account: Account, ruler: Ruler) -> Text:
    status = account.status(now_unix_s=ruler.now_unix_s)
    state = Text(status.value, COLOURS[status])
    if account.needs_reauth is not None:
        state.append(f"  {visible(account.needs_reauth)}", "default")
    until = account.rate_limited_until_unix_s
    if until is not None and until > ruler.now_unix_s:
        state.append(f"  ends {_moment(until, ruler)}", "default")
    return state


def _token(account: Account, ruler: Ruler) -> Text:
    tokens = account.credentials
    ends = tokens.expires_at_unix_s
    if ends is None:
        told = "does not say when it expires"
    else:
        tense = "expires" if ends > ruler.now_unix_s else "expired"
        told = f"{tense} {_moment(ends, ruler)}"
    return Text(told if tokens.refresh_token is not None else f"{told}; cannot be refreshed")


def _moment(at_unix_s: float, ruler: Ruler) -> str:
    return moment(at_unix_s, now_unix_s=ruler.now_unix_s, zone=ruler.zone)


def _ago(at_unix_s: float, ruler: Ruler) -> str:
    return from_now(at_unix_s, now_unix_s=ruler.now_unix_s)


def _text(told: str | None) -> Text:
    return Text(visible(told)) if told else Text("-", "dim")
