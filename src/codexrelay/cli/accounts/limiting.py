"""`limits`: what the backend says of each account's quota now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import click
import trio
from rich.text import Text

from codexrelay.accounts.account import Account, Status
from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.refresh import Outcome
from codexrelay.accounts.state import state_of as known_of
from codexrelay.accounts.state import with_state
from codexrelay.accounts.usage import UsageUnavailableError, fetch_usage
from codexrelay.backends.codex.identity import name_for
from codexrelay.cli.accounts.call import takes_options
from codexrelay.cli.accounts.facts import account_facts, limits_facts
from codexrelay.cli.accounts.failure import AnsweredFailureError, FailureError
from codexrelay.cli.accounts.instance import Instance
from codexrelay.cli.accounts.running import refreshing, run, way_out
from codexrelay.cli.accounts.screen import console_of, print_json, ruler_of
from codexrelay.cli.accounts.showing import what_to_do
from codexrelay.cli.accounts.table import state_of
from codexrelay.cli.accounts.words import named, visible
from codexrelay.errors import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx
    from rich.console import Console

    from codexrelay.accounts.issuer import RefreshReason
    from codexrelay.accounts.refresh import Refresher
    from codexrelay.cli.accounts.call import Call
    from codexrelay.protocol.limits import Limits
    from codexrelay.protocol.raw import Json

#: Accounts asked for at the same time.
_AT_ONCE: Final = 4
#: For one account, its refresh included.
_ASK_S: Final = 20.0
#: Of a refresh after which there are other tokens to ask with.
_OTHER_TOKENS: Final = (Outcome.RENEWED, Outcome.ADOPTED)
_REFUSED: Final = 401
#: A token with less to live than this may be refused on the way.
_SPARE_S: Final = 30.0


@attrs.frozen(kw_only=True)
class Answer:
    """What was found out about one account."""

    instance: Instance
    #: As it is now; its limits are the live ones where there are any, else those seen last.
    account: Account
    #: Why there are no live ones; None: there are.
    why: str | None = None
    #: It was in a cool-down that the backend knows nothing of.
    lifted: bool = False
    #: What was seen could not be stored.
    unsaved: str | None = None


@click.command(short_help="Ask the backend how much quota is left.")
@takes_options
@click.argument("name", metavar="[ID]", required=False)
@click.pass_obj
def limits(call: Call, name: str | None) -> None:
    """Ask the backend for the quota of account ID, or of every account.

    This spends nothing; a token that is refused or has run out is refreshed. Where the backend does
    not say, what it said last is shown. A cool-down that it knows nothing of is lifted.

    Exit status 1 when nothing is known of any of them, neither now nor from before.
    """
    asked: list[tuple[Instance, Account]] = []
    if name is None:
        for each in call.all_instances():
            asked += [(each, account) for account in each.look().accounts]
        if not asked:
            raise FailureError("there is no account to ask for: `codexrelay accounts add` adds one")
    else:
        asked.append(call.find_usable(name))
    answers = run(call, lambda: _ask_all(call, asked))
    if call.as_json:
        print_json({"accounts": [_facts(call, answer) for answer in answers]})
    else:
        _print(call, answers, several=len({instance.name for instance, _ in asked}) > 1)
    if all(answer.account.limits is None for answer in answers):
        raise AnsweredFailureError(
            "no limits are known: what was answered stands with each account"
        )


async def _ask_all(call: Call, asked: Sequence[tuple[Instance, Account]]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    at_once = trio.CapacityLimiter(_AT_ONCE)
    by_name = {instance.name: instance for instance, _ in asked}

    async def ask_instance(instance: Instance) -> None:
        async with (
            way_out(call, instance) as transport,
            refreshing(call, instance, transport) as refresher,
            trio.open_nursery() as nursery,
        ):
            for number, (whose, account) in enumerate(asked):
                if whose.name == instance.name:
                    nursery.start_soon(ask_one, number, instance, account, transport, refresher)

    async def ask_one(
        number: int,
        instance: Instance,
        account: Account,
        transport: httpx.AsyncBaseTransport,
        refresher: Refresher,
    ) -> None:
        async with at_once:
            answers[number] = await _ask(call, instance, account, transport, refresher)

    async with trio.open_nursery() as nursery:
        for instance in by_name.values():
            nursery.start_soon(ask_instance, instance)
    return [answers[number] for number in range(len(asked))]


async def _ask(
    call: Call,
    instance: Instance,
    account: Account,
    transport: httpx.AsyncBaseTransport,
    refresher: Refresher,
) -> Answer:
    """Ask for one account. Whatever goes wrong is in the answer."""
    answer = Answer(instance=instance, account=account, why=f"no answer within {in_words(_ASK_S)}")
    with trio.move_on_after(_ASK_S):
        now_unix_s = call.now_unix_s()
        seen: Limits | UsageUnavailableError | None = None
        reason: RefreshReason = "proactive_expiry"
        if not account.credentials.expires_within(_SPARE_S, now_unix_s=now_unix_s):
            seen, reason = await _usage(call, instance, account, transport), "unauthorized_recovery"
        if seen is None or _can_be_mended(account, seen):
            # As the relay does it: through the same locks, and once.
            result = await refresher.refresh(account, reason=reason)
            account = result.account
            if result.outcome not in _OTHER_TOKENS:
                told = "has expired" if seen is None else "was refused"
                why = _why_not_refreshed(account, told, result.why, now_unix_s=now_unix_s)
                return Answer(instance=instance, account=account, why=why)
            answer = attrs.evolve(answer, account=account)
            seen = await _usage(call, instance, account, transport)
        if isinstance(seen, UsageUnavailableError):
            return Answer(instance=instance, account=account, why=seen.why)
        known = known_of(account)
        cooling = account.status(now_unix_s=call.now_unix_s()) is Status.RATE_LIMITED
        lifted = cooling and not seen.exhausted
        learnt = attrs.evolve(known, limits=seen)
        if lifted:
            learnt = attrs.evolve(learnt, rate_limited_until_unix_s=None)
        answer = Answer(instance=instance, account=with_state(account, learnt), lifted=lifted)
    if answer.why is None:
        return await _saved(call, answer, before=account)
    return answer


async def _usage(
    call: Call, instance: Instance, account: Account, transport: httpx.AsyncBaseTransport
) -> Limits | UsageUnavailableError:
    try:
        return await fetch_usage(
            transport,
            account,
            api_base_url=instance.codex.api_base_url,
            now_unix_s=call.now_unix_s(),
            user_agent=name_for(instance.codex.identity).user_agent,
        )
    except UsageUnavailableError as error:
        return error


def _can_be_mended(account: Account, seen: Limits | UsageUnavailableError) -> bool:
    """Tell whether the backend refused a token that could be renewed."""
    return (
        isinstance(seen, UsageUnavailableError)
        and seen.status == _REFUSED
        and account.credentials.refresh_token is not None
    )


async def _saved(call: Call, answer: Answer, *, before: Account) -> Answer:
    """Store what was seen. Of Codex CLI's account nothing is stored: its file is another's."""
    if before.origin == "legacy":
        return answer

    def save() -> None:
        answer.instance.store.save_state(
            before.id,
            known_of(answer.account),
            before=known_of(before),
            now_unix_s=call.now_unix_s(),
        )

    try:
        await trio.to_thread.run_sync(save)
    except (OSError, BrokenFileError) as error:
        return attrs.evolve(answer, unsaved=str(error))
    return answer


def _why_not_refreshed(account: Account, told: str, why: str, *, now_unix_s: float) -> str:
    todo = what_to_do(account, now_unix_s=now_unix_s)
    if account.needs_reauth is not None and todo is not None:
        return f"it must {todo} ({why})"
    return f"its token {told} and cannot be renewed now: {why}"


def _facts(call: Call, answer: Answer) -> Json:
    account, told = answer.account, answer.account.limits
    facts = account_facts(account, answer.instance, now_unix_s=call.now_unix_s())
    source = None if told is None else "live" if answer.why is None else "last_seen"
    return facts | {
        "limits": None if told is None else limits_facts(told),
        "limits_source": source,
        "why_not_live": answer.why,
        "cooldown_lifted": answer.lifted,
        "not_saved": answer.unsaved,
    }


def _print(call: Call, answers: Sequence[Answer], *, several: bool) -> None:
    console = console_of(call)
    for number, answer in enumerate(answers):
        if number:
            console.print()
        whose = f"{answer.instance.name}: " if several else ""
        _print_one(console, call, answer, whose)


def _print_one(console: Console, call: Call, answer: Answer, whose: str) -> None:
    ruler = ruler_of(call, console, instants=True)
    heading = Text(f"{whose}{named(answer.account)}  ", "bold")
    state = state_of(answer.account, ruler)
    heading.append(Text(", ").join(state.split("\n")))
    console.print(heading, soft_wrap=True)
    told = answer.account.limits
    for line in ruler.lines(told) if told is not None else ():
        console.print(Text("  ").append(line), soft_wrap=True)
    if answer.why is not None:
        before = f"; {ruler.age(told)}" if told is not None else ""
        console.print(Text(f"  not live: {visible(answer.why)}{before}", "yellow"), soft_wrap=True)
    if answer.lifted:
        console.print(Text("  its cool-down is lifted", "green"))
    if answer.unsaved is not None:
        console.print(Text(f"  not stored: {visible(answer.unsaved)}", "red"), soft_wrap=True)
