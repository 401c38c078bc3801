"""`remove`, `clear` and `clear-reauth`: what they change, what they leave, whom they ask."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import orjson
import pytest
import trio

from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.accounts.removing import _agrees
from codexrelay.protocol.raw import get_list, get_object, is_object, parse_object
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.account_commands import AccountCommands, secrets_in
from tests.fakes.wall_clock import NOW_UNIX_S, WallClock

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject

_IN_AN_HOUR_MS = (NOW_UNIX_S + 3600) * 1000


@pytest.fixture
def commands(tmp_path: Path) -> AccountCommands:
    """Two accounts in a store, and nobody behind it."""
    simulator = Simulator(
        accounts=(SimulatedAccount("home"), SimulatedAccount("work")), wall_clock=WallClock()
    )
    commands = AccountCommands(folder=tmp_path)
    simulator.write_store(commands.store)
    return commands


def stored(commands: AccountCommands, name: str) -> JsonObject:
    return parse_object((commands.store / f"{name}.json").read_bytes())


def change(commands: AccountCommands, name: str, **more: Json) -> None:
    path = commands.store / f"{name}.json"
    path.write_bytes(orjson.dumps(stored(commands, name) | more))


def is_there(commands: AccountCommands, name: str) -> bool:
    return (commands.store / f"{name}.json").exists()


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_an_account_is_removed_when_its_owner_agrees(
    commands: AccountCommands, answer: str
) -> None:
    result = commands.run("remove", "work", answer=answer)
    assert result.exit_code == 0
    path = commands.store / "work.json"
    assert f"Remove account work (work@example.com, plus), {path}? [y/N]" in result.stderr
    assert result.stdout == "Removed account work (work@example.com, plus).\n"
    assert not is_there(commands, "work")
    assert is_there(commands, "home")


@pytest.mark.parametrize("answer", ["\n", "n\n", "what?\n"])
def test_anything_but_yes_removes_nothing(commands: AccountCommands, answer: str) -> None:
    result = commands.run("remove", "work", answer=answer)
    assert result.exit_code == 0
    assert "Aborted" in result.stderr
    assert parse_object(commands.run("remove", "work", "--json", answer=answer).stdout) == {
        "removed": None,
        "file": str(commands.store / "work.json"),
        "revoked": None,
        "revoke_error": None,
    }
    assert is_there(commands, "work")


def test_where_nobody_answers_nothing_is_removed(commands: AccountCommands) -> None:
    result = commands.run("remove", "work")
    assert result.exit_code == 1
    assert "--force does not ask" in result.stderr
    assert is_there(commands, "work")


def test_a_closed_input_answers_nothing(
    commands: AccountCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", None)
        with pytest.raises(FailureError, match="--force does not ask"):
            _agrees("Remove it")
    assert is_there(commands, "work")


def test_what_failed_is_json_too_where_json_was_asked_for(commands: AccountCommands) -> None:
    for status, arguments in ((1, ("remove", "nobody")), (2, ("remove", "x", "--nonsense"))):
        result = commands.run(*arguments, "--json")
        assert result.exit_code == status
        error = get_object(parse_object(result.stdout), "error")
        assert error["exit_status"] == status
        assert str(error["message"]) in result.stderr
    assert commands.run("show", "nobody").stdout == ""


def test_force_does_not_ask(commands: AccountCommands) -> None:
    result = commands.run("remove", "work", "--force")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not is_there(commands, "work")


def test_a_file_that_cannot_be_used_can_be_removed(commands: AccountCommands) -> None:
    (commands.store / "torn.json").write_text("{")
    told = commands.json("remove", "torn", "--force")
    assert (told["removed"], told["revoked"], told["revoke_error"]) == ("torn", None, None)
    assert not is_there(commands, "torn")


def test_an_unknown_account_cannot_be_removed(commands: AccountCommands) -> None:
    assert commands.run("remove", "nobody", "--force").exit_code == 1


async def test_a_revoked_sign_in_is_dead_at_the_issuer(tmp_path: Path) -> None:
    clock = WallClock()
    simulator = Simulator(accounts=(SimulatedAccount("work"),), wall_clock=clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        commands = AccountCommands(folder=tmp_path, simulator=simulator, clock=clock)
        simulator.write_store(commands.store)
        result = await commands.run_beside("remove", "work", "--force", "--revoke", "--json")
        nursery.cancel_scope.cancel()
    assert result.exit_code == 0, result.output
    told = parse_object(result.stdout)
    assert (told["revoked"], told["revoke_error"]) == (True, None)
    assert not is_there(commands, "work")
    (family,) = simulator.issuer._refresh.values()
    assert family.revoked
    assert [secret for secret in secrets_in(simulator) if secret in result.output] == []


def test_a_sign_in_that_could_not_be_revoked_is_removed_and_told(
    commands: AccountCommands,
) -> None:
    commands.environ["CODEXRELAY_CONFIG"] = str(commands.folder / "away.yaml")
    (commands.folder / "away.yaml").write_text(
        "backends: {openai_codex: {extra: {codex: {oauth_issuer: 'http://127.0.0.1:9',"
        " managed_oauth: {storage_path: accounts}}}}}"
    )
    result = commands.run("remove", "work", "--force", "--revoke")
    assert result.exit_code == 0
    assert "Its sign-in goes on: the sign-in service could not be reached." in result.stdout
    told = commands.json("remove", "home", "--force", "--revoke")
    assert (told["revoked"], told["revoke_error"]) == (
        False,
        "the sign-in service could not be reached",
    )
    assert not is_there(commands, "work")


def test_a_cool_down_is_cleared_and_all_else_stays(commands: AccountCommands) -> None:
    change(commands, "work", rate_limited_until=_IN_AN_HOUR_MS, needs_reauth=False, mine=1)
    before = stored(commands, "work")
    result = commands.run("clear", "work")
    assert (result.exit_code, result.stdout) == (0, "work: its cool-down is over\n")
    assert commands.json("show", "work")["state"] == "valid"
    left = stored(commands, "work")
    assert left["rate_limited_until"] is None
    assert {k: left[k] for k in before if k not in ("rate_limited_until", "updated_at")} == {
        k: before[k] for k in before if k not in ("rate_limited_until", "updated_at")
    }


def test_all_cool_downs_can_be_cleared_at_once(commands: AccountCommands) -> None:
    change(commands, "work", rate_limited_until=_IN_AN_HOUR_MS)
    assert commands.json("reset", "all") == {
        "cleared": ["work"],
        "unchanged": ["home"],
        "skipped": [],
    }
    result = commands.run("clear", "all")
    assert result.exit_code == 0
    assert result.stdout.count("there was no cool-down to end") == 2


def test_files_that_cannot_be_used_are_skipped_and_said_to_be(commands: AccountCommands) -> None:
    (commands.store / "torn.json").write_text("{")
    result = commands.run("clear", "all")
    assert result.exit_code == 0
    assert "torn: skipped, its file cannot be used: " in result.stderr
    [skipped] = get_list(commands.json("clear", "all"), "skipped")
    assert is_object(skipped)
    assert skipped["id"] == "torn"
    assert (commands.store / "torn.json").read_text() == "{"


def test_an_account_is_tried_again_although_it_was_given_up(commands: AccountCommands) -> None:
    change(commands, "work", needs_reauth=True, consecutive_auth_failures=2)
    result = commands.run("clear-reauth", "work")
    assert (result.exit_code, result.stdout) == (0, "work: it is tried again as it is\n")
    left = stored(commands, "work")
    assert (left["needs_reauth"], left["consecutive_auth_failures"]) == (False, 0)
    assert commands.json("clear-reauth", "all")["cleared"] == []


@pytest.mark.parametrize("command", ["clear", "clear-reauth"])
def test_an_unknown_account_cannot_be_cleared(commands: AccountCommands, command: str) -> None:
    assert commands.run(command, "nobody").exit_code == 1
    assert commands.run(command).exit_code == 2


@pytest.mark.parametrize("command", ["remove", "clear", "update"])
def test_codex_clis_own_sign_in_is_nobodys_to_change(tmp_path: Path, command: str) -> None:
    commands = AccountCommands(folder=tmp_path)
    path = tmp_path / "home" / ".codex" / "auth.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"tokens": {"access_token": "SECRET", "refresh_token": "SECRET"}}')
    result = commands.run(command, "codex-cli")
    assert result.exit_code == 1
    assert "`codex login`" in result.stderr
    assert path.exists()
