"""`limits` and `refresh`: what is asked of backend and issuer, and what is made of the answers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from codexrelay.accounts.state import state_of
from codexrelay.accounts.store import AccountStore
from codexrelay.protocol.raw import dump, get_list, get_object, is_object, parse_object
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.account_commands import AccountCommands, secrets_in
from tests.fakes.wall_clock import NOW_UNIX_S, WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from codexrelay.accounts.account import Account
    from codexrelay.protocol.raw import JsonObject


@asynccontextmanager
async def world(folder: Path, *accounts: SimulatedAccount) -> AsyncIterator[AccountCommands]:
    """Give commands on a store full of accounts, and look for tokens in all they have printed."""
    clock = WallClock()
    simulator = Simulator(accounts=accounts or (SimulatedAccount("work"),), wall_clock=clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        commands = AccountCommands(folder=folder, simulator=simulator, clock=clock)
        simulator.write_store(commands.store)
        yield commands
        nursery.cancel_scope.cancel()
    said = "".join(commands.said)
    assert [secret for secret in secrets_in(simulator) if secret in said] == []


def stored(commands: AccountCommands, name: str) -> Account:
    account = AccountStore(commands.store).read(name)
    assert account is not None
    return account


def without_refresh_token(commands: AccountCommands, name: str) -> None:
    path = commands.store / f"{name}.json"
    path.write_bytes(dump(parse_object(path.read_bytes()) | {"refresh_token": None}))


def cool_down(commands: AccountCommands, name: str) -> None:
    before = state_of(stored(commands, name))
    state = attrs.evolve(before, rate_limited_until_unix_s=NOW_UNIX_S + 3600)
    AccountStore(commands.store).save_state(name, state, before=before, now_unix_s=NOW_UNIX_S)


async def asked(commands: AccountCommands, *arguments: str) -> dict[str, JsonObject]:
    """Return what `limits --json` says, by account."""
    result = await commands.run_beside("limits", *arguments, "--json")
    told = get_list(parse_object(result.stdout), "accounts")
    return {str(one["id"]): one for one in told if is_object(one)}


async def test_each_window_is_shown_live_and_kept(tmp_path: Path) -> None:
    async with world(tmp_path, SimulatedAccount("home"), SimulatedAccount("work")) as commands:
        result = await commands.run_beside("limits")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines[0] == "home (home@example.com, plus)  valid"
        assert lines[1] == ("  5 h   ░░░░░░░░░░    0 %  resets in 1 h  2026-11-22 14:20 +01:00")
        assert lines[2].startswith("  week  ████░░░░░░   41 %  resets in 3 d 12 h")
        assert "seen just now" in commands.run("list").stdout
        limits = stored(commands, "work").limits
        assert limits is not None
        assert limits.secondary is not None
        assert limits.secondary.used_percent == 41


async def test_an_expired_token_is_refreshed_first_and_stored(tmp_path: Path) -> None:
    async with world(tmp_path, SimulatedAccount("old", expired=True)) as commands:
        before = stored(commands, "old").credentials
        told = (await asked(commands, "old"))["old"]
        assert told["limits_source"] == "live"
        assert told["state"] == "valid"
        assert stored(commands, "old").credentials.refresh_token != before.refresh_token


async def test_where_the_backend_refuses_the_last_figures_are_shown_with_their_age(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as commands:
        simulator = commands.simulator
        assert simulator is not None
        await commands.run_beside("limits")
        simulator.expire("work")
        without_refresh_token(commands, "work")
        commands.clock.now_unix_s += 600
        result = await commands.run_beside("limits", "work")
        assert result.exit_code == 0
        assert "not live: " in result.stdout
        assert "seen 10 min ago" in result.stdout
        told = (await asked(commands))["work"]
        assert told["limits_source"] == "last_seen"
        assert "401" in str(told["why_not_live"])
        assert "`codexrelay accounts update work`" in str(told["why_not_live"])
        assert not any(seen.path.endswith("/oauth/token") for seen in simulator.seen)


async def test_a_token_that_is_refused_is_refreshed_once_and_the_question_put_again(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as commands:
        simulator = commands.simulator
        assert simulator is not None
        before = stored(commands, "work").credentials
        simulator.expire("work")
        told = (await asked(commands))["work"]
        assert (told["limits_source"], told["state"]) == ("live", "valid")
        assert stored(commands, "work").credentials.refresh_token != before.refresh_token
        refreshes = [seen for seen in simulator.seen if seen.path.endswith("/oauth/token")]
        assert len(refreshes) == 1


async def test_a_token_that_is_refused_and_cannot_be_renewed_must_sign_in_again(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as commands:
        assert commands.simulator is not None
        commands.simulator.revoke("work")
        told = (await asked(commands))["work"]
        assert "must sign in again: `codexrelay accounts update work`" in str(told["why_not_live"])
        assert stored(commands, "work").needs_reauth is not None


async def test_nothing_known_at_all_is_a_failure(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        assert commands.simulator is not None
        commands.simulator.expire("work")
        without_refresh_token(commands, "work")
        result = await commands.run_beside("limits")
        assert result.exit_code == 1
        assert "not live" in result.stdout
        # One object on stdout, which says why itself.
        assert (await asked(commands))["work"]["limits"] is None


async def test_a_dead_sign_in_says_what_to_do(tmp_path: Path) -> None:
    async with world(tmp_path, SimulatedAccount("old", expired=True)) as commands:
        assert commands.simulator is not None
        commands.simulator.revoke("old")
        result = await commands.run_beside("limits")
        assert "it must sign in again: `codexrelay accounts update old`" in result.stdout
        assert stored(commands, "old").needs_reauth is not None


async def test_a_cool_down_that_the_backend_knows_nothing_of_is_lifted(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        cool_down(commands, "work")
        assert commands.json("show", "work")["state"] == "rate_limited"
        result = await commands.run_beside("limits", "work")
        assert "its cool-down is lifted" in result.stdout
        assert commands.json("show", "work")["state"] == "valid"


async def test_a_cool_down_that_the_backend_confirms_stays(tmp_path: Path) -> None:
    async with world(tmp_path, SimulatedAccount("work", limit_after=0)) as commands:
        cool_down(commands, "work")
        told = (await asked(commands))["work"]
        assert told["cooldown_lifted"] is False
        assert get_object(told, "limits")["exhausted"] is True
        assert stored(commands, "work").rate_limited_until_unix_s == NOW_UNIX_S + 3600


async def test_the_limits_of_nobody_are_a_failure(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        assert commands.run("limits", "nobody").exit_code == 1
        (commands.store / "work.json").unlink()
        empty = commands.run("limits")
        assert empty.exit_code == 1
        assert "`codexrelay accounts add`" in empty.stderr


async def test_a_refresh_brings_new_tokens(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        before = stored(commands, "work").credentials
        commands.clock.now_unix_s += 60
        result = await commands.run_beside("refresh", "work")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("Account work has new tokens; they expire in 10 d (")
        after = stored(commands, "work").credentials
        assert before.refresh_token != after.refresh_token
        again = await commands.run_beside("refresh", "work", "--json")
        assert parse_object(again.stdout)["outcome"] == "renewed"


async def test_a_refused_refresh_says_what_to_do(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        assert commands.simulator is not None
        commands.simulator.revoke("work")
        result = await commands.run_beside("refresh", "work")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == (
            "codexrelay: account work must sign in again (refresh_token_invalidated): "
            "`codexrelay accounts update work`"
        )
        assert commands.json("show", "work")["state"] == "needs_reauth"
