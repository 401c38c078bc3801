"""`add`, `update` and `import`, with the simulator's sign-in service behind them."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import pytest
import trio

from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.store import AccountStore
from codexrelay.cli.accounts import importing
from codexrelay.protocol.raw import get_object, get_text, parse_object
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.account_commands import AccountCommands, person_who_signs_in_as, secrets_in
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from click.testing import Result

    from codexrelay.protocol.raw import JsonObject


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[AccountCommands]:
    """Give commands beside a sign-in service, and look for tokens in all they have printed."""
    clock = WallClock()
    simulator = Simulator(
        accounts=(SimulatedAccount("home", plan="pro"), SimulatedAccount("work", plan="team")),
        wall_clock=clock,
    )
    simulator.issuer.sign_ins.interval_s = 0.1
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        commands = AccountCommands(folder=folder, simulator=simulator, clock=clock)
        yield commands
        nursery.cancel_scope.cancel()
    said = "".join(commands.said)
    assert [secret for secret in secrets_in(simulator) if secret in said] == []


async def signs_in(commands: AccountCommands, name: str, *arguments: str) -> Result:
    """Run a command that signs in, for a person whose browser holds this account."""
    commands.open_browser = person_who_signs_in_as(name)
    return await commands.run_beside(*arguments, "--port", "0")


def stored(commands: AccountCommands, name: str) -> JsonObject:
    return parse_object((commands.store / f"{name}.json").read_bytes())


def files(commands: AccountCommands) -> list[str]:
    return sorted(p.stem for p in commands.store.glob("*.json") if not p.stem.endswith(".state"))


async def test_a_browser_sign_in_stores_an_account_that_only_its_owner_can_read(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as commands:
        result = await signs_in(commands, "work", "add")
        assert result.exit_code == 0, result.output
        path = commands.store / "work.json"
        assert f"Stored account work (work@example.com, team) in {path}." in result.stdout
        assert "The relay uses it at once" in result.stderr
        assert "`codexrelay accounts limits work`" in result.stderr
        if os.name != "nt":
            assert (path.stat().st_mode & 0o777, commands.store.stat().st_mode & 0o777) == (
                0o600,
                0o700,
            )
        assert commands.json("show", "work")["state"] == "valid"


async def test_an_identity_that_is_stored_gets_new_tokens_under_its_own_id(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        await signs_in(commands, "work", "add", "--account-id", "office")
        before = stored(commands, "office")["refresh_token"]
        again = await signs_in(commands, "work", "add", "--account-id", "other")
        assert again.exit_code == 0
        assert "was stored already" in again.stdout
        assert "keeps its id office" in again.stderr
        assert files(commands) == ["office"]
        assert stored(commands, "office")["refresh_token"] != before


async def test_the_id_of_another_identity_is_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        await signs_in(commands, "work", "add", "--account-id", "mine")
        result = await signs_in(commands, "home", "add", "--account-id", "mine")
        assert result.exit_code == 0
        assert "The id mine belongs to another identity" in result.stderr
        assert len(files(commands)) == 2


async def test_an_id_whose_file_cannot_be_used_is_not_said_to_be_somebodys(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        commands.store.mkdir()
        (commands.store / "me.json").write_text("{")
        result = await signs_in(commands, "work", "add", "--account-id", "me")
        assert result.exit_code == 0
        assert "The file of account me cannot be used, and was left alone" in result.stderr
        assert "another identity" not in result.stderr


async def test_where_nothing_can_be_stored_nobody_is_asked_to_sign_in(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        commands.store.write_text("mine")
        for arguments in (("add",), ("import", str(codex_cli_signs_in(commands, "home")))):
            result = await commands.run_beside(*arguments)  # a browser would be an error
            assert result.exit_code == 1
            assert f"no account can be stored in {commands.store}" in result.stderr
        assert commands.store.read_text() == "mine"


async def test_where_there_is_no_display_a_code_is_shown_and_why(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        commands.display = False
        simulator = commands.simulator
        assert simulator is not None
        results: list[Result] = []
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def add() -> None:
                    results.append(await commands.run_beside("add"))

                nursery.start_soon(add)
                await simulator.wait_until(
                    lambda: any(seen.path.endswith("deviceauth/token") for seen in simulator.seen)
                )
                simulator.approve("home")
        (result,) = results
        assert result.exit_code == 0, result.output
        assert "as there is no display here" in result.stderr
        lines = result.stdout.splitlines()
        assert lines[0] == f"Open    {simulator.issuer_url}/codex/device"
        assert lines[1].startswith("Enter   ")
        assert files(commands) == ["home"]


async def test_json_tells_each_step_on_a_line_of_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        result = await signs_in(commands, "work", "add", "--json")
        steps = [parse_object(line) for line in result.stdout.splitlines()]
        assert [step["event"] for step in steps] == ["open_url", "stored"]
        assert get_text(steps[0], "url")
        assert get_object(steps[1], "account")["id"] == "work"
        assert steps[1]["created"] is True


async def test_nobody_who_signs_in_is_an_error_after_the_timeout(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        commands.open_browser = lambda _: True
        result = await commands.run_beside("add", "--port", "0", "--timeout", "0.2")
        assert result.exit_code == 1
        assert "nobody has signed in within" in result.stderr
        assert files(commands) == []


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf"])
async def test_a_time_that_never_comes_is_wrong_usage(tmp_path: Path, seconds: str) -> None:
    async with world(tmp_path) as commands:
        result = commands.run("add", "--timeout", seconds)
        assert result.exit_code == 2
        assert "'--timeout'" in result.stderr


async def test_a_name_that_cannot_be_stored_is_refused_before_the_sign_in(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        for arguments in (("--account-id", "../x"), ("--device", "--no-browser")):
            assert commands.run("add", *arguments).exit_code == 2


async def test_an_update_signs_an_account_in_again(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        await signs_in(commands, "work", "add")
        path = commands.store / "work.json"
        path.write_bytes(
            orjson.dumps(
                stored(commands, "work")
                | {"needs_reauth": True, "needs_reauth_reason": "invalid_grant", "note": "mine"}
            )
        )
        assert commands.json("show", "work")["state"] == "needs_reauth"
        assert "`codexrelay accounts update work`" in commands.run("show", "work").stdout
        result = await signs_in(commands, "work", "update", "work@example.com")
        assert result.exit_code == 0, result.output
        assert "Sign in as work (work@example.com, team)." in result.stderr
        assert "Account work (work@example.com, team) is signed in anew." in result.stdout
        assert commands.json("show", "work")["state"] == "valid"
        assert stored(commands, "work")["note"] == "mine"


async def test_an_update_by_somebody_else_is_refused_unless_forced(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        await signs_in(commands, "work", "add")
        before = (commands.store / "work.json").read_bytes()
        refused = await signs_in(commands, "home", "update", "work")
        assert refused.exit_code == 1
        assert "--force" in refused.stderr
        assert (commands.store / "work.json").read_bytes() == before
        forced = await signs_in(commands, "home", "update", "work", "--force")
        assert forced.exit_code == 0
        assert commands.json("show", "work")["email"] == "home@example.com"


async def test_an_update_of_nobody_asks_nobody_to_sign_in(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        result = commands.run("update", "nobody")
        assert result.exit_code == 1
        assert "there is no account nobody" in result.stderr
        commands.store.mkdir()
        (commands.store / "torn.json").write_text("{")
        torn = commands.run("update", "torn")
        assert torn.exit_code == 1
        assert "`codexrelay accounts remove torn`" in torn.stderr


async def test_an_account_outside_the_allow_list_is_stored_and_said_to_be_unused(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as commands:
        commands.environ["OPENAI_CODEX_MANAGED_OAUTH_ACCOUNTS"] = "somebody"
        result = await signs_in(commands, "work", "add")
        assert result.exit_code == 0
        assert "does not use it yet: managed_oauth.accounts does not name it" in result.stderr


def codex_cli_signs_in(commands: AccountCommands, name: str) -> Path:
    assert commands.simulator is not None
    pair = commands.simulator.tokens(name)
    path = commands.folder / "home" / ".codex" / "auth.json"
    path.parent.mkdir(parents=True)
    tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    path.write_bytes(orjson.dumps({"tokens": tokens}))
    return path


async def test_codex_clis_sign_in_is_taken_over_with_a_warning(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        path = codex_cli_signs_in(commands, "home")
        before = path.read_bytes()
        result = commands.run("import")
        assert result.exit_code == 0, result.output
        assert "Stored account home (home@example.com, pro)" in result.stdout
        assert "no longer Codex CLI's sign-in" in result.stderr
        assert "warning" in result.stderr
        assert "signs the other out" in result.stderr
        assert "`codexrelay accounts update home`" in result.stderr
        assert path.read_bytes() == before


async def test_a_file_that_is_imported_twice_makes_one_account(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        codex_cli_signs_in(commands, "home")
        commands.run("import")
        again = commands.run("import", "--account-id", "other")
        assert again.exit_code == 0
        assert "was stored already: it holds these very tokens." in again.stdout
        told = commands.json("import")
        assert (told["created"], told["unchanged"]) == (False, True)
        assert files(commands) == ["home"]


async def test_two_backend_blocks_never_hold_one_refresh_token(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        path = codex_cli_signs_in(commands, "home")
        config = tmp_path / "two.yaml"
        config.write_text(
            "backends:\n"
            "  openai_codex:\n    extra: {codex: {managed_oauth: {storage_path: accounts}}}\n"
            "  openai_codex.2:\n    extra: {codex: {managed_oauth: {storage_path: others}}}\n"
        )
        commands.environ["CODEXRELAY_CONFIG"] = str(config)
        assert commands.run("import", str(path)).exit_code == 0
        second = commands.run("import", str(path), "--instance", "openai-codex.2")
        assert second.exit_code == 1
        assert "account home of openai-codex holds this very refresh token" in second.stderr
        assert not list((tmp_path / "others").glob("*.json"))


async def test_a_file_that_is_being_refreshed_is_read_afterwards(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        path = codex_cli_signs_in(commands, "home")
        assert commands.simulator is not None
        newer = commands.simulator.tokens("work").refresh_token
        lock = LegacyStore((path.parent,)).flight_lock("codex-cli")
        assert lock.try_acquire()
        results: list[Result] = []
        async with trio.open_nursery() as nursery:

            async def take_over() -> None:
                results.append(await commands.run_beside("import"))

            nursery.start_soon(take_over)
            await trio.sleep(0.1)  # reads the spent token in the meantime, if it does not wait
            raw = parse_object(path.read_bytes())
            tokens = get_object(raw, "tokens") | {"refresh_token": newer}
            path.write_bytes(orjson.dumps(raw | {"tokens": tokens}))
            lock.release()
        assert results[0].exit_code == 0, results[0].output
        assert stored(commands, "home")["refresh_token"] == newer


async def test_a_file_that_is_refreshed_without_end_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_FLIGHT_S", 0.0)
    async with world(tmp_path) as commands:
        path = codex_cli_signs_in(commands, "home")
        lock = LegacyStore((path.parent,)).flight_lock("codex-cli")
        assert lock.try_acquire()
        result = commands.run("import")
        lock.release()
        assert result.exit_code == 1
        assert f"has been refreshing {path} for too long" in result.stderr
        assert files(commands) == []


async def test_a_token_whose_answer_is_not_known_is_not_imported(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        path = codex_cli_signs_in(commands, "home")
        token = get_text(get_object(parse_object(path.read_bytes()), "tokens"), "refresh_token")
        assert token is not None
        mark = SentMark.beside(LegacyStore((path.parent,)).flight_lock("codex-cli"))
        mark.make(token)
        result = commands.run("import")
        assert result.exit_code == 1
        assert "no answer is known" in result.stderr
        assert files(commands) == []
        mark.make("another")
        assert commands.run("import").exit_code == 0


async def test_a_managed_file_of_another_store_keeps_its_workspace(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        assert commands.simulator is not None
        commands.simulator.write_store(tmp_path / "elsewhere")
        path = tmp_path / "elsewhere" / "work.json"
        raw = parse_object(path.read_bytes())
        commands.json("import", str(path))
        assert stored(commands, "work")["chatgpt_account_id"] == raw["chatgpt_account_id"]
        # Such a file has locks and marks of its own, where a relay has put any.
        lock = AccountStore(path.parent).flight_lock("work")
        assert lock.try_acquire()
        SentMark.beside(lock).make(str(raw["refresh_token"]))
        lock.release()
        assert "no answer is known" in commands.run("import", str(path)).stderr


async def test_a_flat_file_of_another_relay_is_taken_over_too(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        assert commands.simulator is not None
        pair = commands.simulator.tokens("work")
        path = tmp_path / "codex-work.json"
        path.write_bytes(
            orjson.dumps(
                {
                    "type": "codex",
                    "access_token": pair.access_token,
                    "refresh_token": pair.refresh_token,
                }
            )
        )
        assert commands.json("import", str(path), "--account-id", "w")["created"] is True
        assert files(commands) == ["w"]


async def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    async with world(tmp_path) as commands:
        nothing = commands.run("import")
        assert nothing.exit_code == 1
        assert f"no auth.json in {tmp_path}" in nothing.stderr
        missing = commands.run("import", str(tmp_path / "gone.json"))
        assert missing.exit_code == 1
        assert missing.stderr.endswith(f"there is no file {tmp_path / 'gone.json'}\n")
        torn = tmp_path / "torn.json"
        torn.write_text('{"access_token": "SECRET')
        result = commands.run("import", str(torn))
        assert result.exit_code == 1
        assert "cannot be imported" in result.stderr
        assert "SECRET" not in result.output
