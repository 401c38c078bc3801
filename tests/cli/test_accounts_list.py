"""`list` and `show`: what their user reads, and what programs read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from codexrelay.accounts.account import Attention, Credentials
from codexrelay.accounts.state import AccountState
from codexrelay.accounts.store import AccountStore
from codexrelay.protocol.limits import Limits, Window
from codexrelay.protocol.raw import get_list, get_object, is_object
from tests.fakes.account_commands import AccountCommands
from tests.fakes.tokens import access_token, write_account
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject

HOUR_S = 3600.0


def account(
    commands: AccountCommands, name: str, *, expires_in_s: float = HOUR_S, **more: Json
) -> None:
    """Store an account whose tokens contain the word SECRET."""
    expires = NOW_UNIX_S + expires_in_s
    tokens = Credentials(
        access_token=access_token(f"ws-{name}", expires_at_unix_s=expires) + "SECRET",
        refresh_token=f"rt-SECRET-{name}",
        expires_at_unix_s=expires,
    )
    write_account(commands.store, name, tokens, **({"email": f"{name}@example.com"} | more))


def every_state(commands: AccountCommands) -> None:
    account(commands, "good")
    account(commands, "late", expires_in_s=-5)
    account(commands, "tired", rate_limited_until=(NOW_UNIX_S + 2 * HOUR_S) * 1000)
    account(commands, "gone", needs_reauth=True, needs_reauth_reason="refresh_token_reused")
    (commands.store / "torn.json").write_text('{"access_token": "SECRET-half')


def learn(commands: AccountCommands, name: str, state: AccountState) -> None:
    AccountStore(commands.store).save_state(
        name, state, before=AccountState(), now_unix_s=NOW_UNIX_S
    )


def limits(*, used: float = 30.0, resets_in_s: float = HOUR_S, seen_s_ago: float = 600) -> Limits:
    return Limits(
        observed_unix_s=NOW_UNIX_S - seen_s_ago,
        plan_type="plus",
        primary=Window(
            used_percent=float(used), length_s=18000.0, resets_at_unix_s=NOW_UNIX_S + resets_in_s
        ),
        secondary=Window(
            used_percent=62.0, length_s=604800.0, resets_at_unix_s=NOW_UNIX_S + 76 * HOUR_S
        ),
    )


def states(told: JsonObject) -> dict[str, str]:
    return {
        str(one["id"]): str(one["state"]) for one in get_list(told, "accounts") if is_object(one)
    }


def row(text: str, name: str) -> str:
    """Return the first line of an account's row, with single blanks."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return re.sub(" +", " ", line)


@pytest.fixture
def commands(tmp_path: Path) -> AccountCommands:
    return AccountCommands(folder=tmp_path)


def test_every_account_is_listed_with_its_state_and_a_broken_file_as_invalid(
    commands: AccountCommands,
) -> None:
    every_state(commands)
    assert states(commands.json("list")) == {
        "good": "valid",
        "late": "expired",
        "tired": "rate_limited",
        "gone": "needs_reauth",
        "torn": "invalid",
    }
    text = commands.run("list").stdout
    assert row(text, "good") == "good plus valid not seen yet never"
    assert row(text, "torn") == "torn - invalid see below"
    assert f"problem: {commands.store}/torn.json: file: is not a JSON object" in text
    assert "ends in 2 h" in text
    assert "refresh_token_reused" in text
    assert f"the relay uses managed accounts in {commands.store} (round-robin)" in text


def test_no_token_is_in_anything_that_list_and_show_print(commands: AccountCommands) -> None:
    every_state(commands)
    for name in ("good", "late", "tired", "gone", "torn"):
        commands.run("show", name)
        commands.run("show", name, "--json")
    commands.run("list")
    commands.run("list", "--json")
    assert len(commands.said) == 12
    assert [text for text in commands.said if "SECRET" in text] == []


def test_quota_is_shown_as_bars_with_the_reset_in_words(commands: AccountCommands) -> None:
    account(commands, "work")
    learn(commands, "work", AccountState(limits=limits(), last_used_unix_s=NOW_UNIX_S - 180))
    text = commands.run("list").stdout
    assert row(text, "work") == ("work plus valid 5 h ███░░░░░░░ 30 % resets in 1 h 3 min ago")
    assert "week  ██████░░░░   62 %  resets in 3 d 4 h" in text
    assert "seen 10 min ago" in text


def test_a_window_that_has_started_anew_shows_no_old_figure(commands: AccountCommands) -> None:
    account(commands, "work")
    learn(commands, "work", AccountState(limits=limits(used=88, resets_in_s=300)))
    commands.clock.now_unix_s += 900
    assert "5 h   ░░░░░░░░░░    ? started anew 10 min ago" in commands.run("list").stdout


@pytest.mark.parametrize(("used", "filled"), [(0, 0), (99.9, 9), (100, 10), (250, 10), (4, 0)])
def test_only_a_full_window_has_a_full_bar(
    commands: AccountCommands, used: float, filled: int
) -> None:
    account(commands, "work")
    learn(commands, "work", AccountState(limits=limits(used=used)))
    line = row(commands.run("list").stdout, "work")
    assert (line.count("█"), line.count("░")) == (filled, 10 - filled)


def test_a_spent_quota_is_said_although_no_turn_has_met_it(commands: AccountCommands) -> None:
    account(commands, "work")
    learn(commands, "work", AccountState(limits=limits(used=100)))
    assert "quota spent" in commands.run("list").stdout


def test_what_the_owner_must_look_at_is_shown_beside_the_state(commands: AccountCommands) -> None:
    account(commands, "work")
    about = Attention(
        code="deactivated_workspace", message="Ask its admin", since_unix_s=NOW_UNIX_S - HOUR_S
    )
    learn(commands, "work", AccountState(attention=about))
    assert "deactivated_workspace" in commands.run("list").stdout
    shown = commands.run("show", "work").stdout
    assert "deactivated_workspace: Ask its admin, since 1 h ago" in shown
    facts = commands.json("show", "work")
    assert facts["state"] == "valid"
    assert get_object(facts, "attention")["code"] == "deactivated_workspace"


def test_without_any_account_it_says_how_to_add_one(commands: AccountCommands) -> None:
    result = commands.run("list")
    assert result.exit_code == 0
    assert "codexrelay accounts add" in result.stdout
    assert str(commands.store) in result.stdout
    assert not commands.store.exists()


def codex_cli_signs_in(commands: AccountCommands) -> Path:
    path = commands.folder / "home" / ".codex" / "auth.json"
    path.parent.mkdir(parents=True)
    token = access_token("ws-cli", expires_at_unix_s=NOW_UNIX_S + HOUR_S) + "SECRET"
    path.write_text(
        f'{{"tokens": {{"access_token": "{token}", "refresh_token": "rt-SECRET"}}}}', "utf-8"
    )
    return path


def test_codex_clis_sign_in_is_named_as_the_source_while_no_managed_file_exists(
    commands: AccountCommands,
) -> None:
    path = codex_cli_signs_in(commands)
    assert states(commands.json("list")) == {"codex-cli": "valid"}
    assert f"Codex CLI's sign-in in {path}, because" in commands.run("list").stdout
    account(commands, "work")
    assert states(commands.json("list")) == {"work": "valid"}
    assert "SECRET" not in "".join(commands.said)


def test_only_the_configured_accounts_are_marked_as_used(commands: AccountCommands) -> None:
    account(commands, "work")
    account(commands, "home")
    commands.environ["OPENAI_CODEX_MANAGED_OAUTH_ACCOUNTS"] = '["work", "nobody"]'
    told = commands.json("list")
    used = {one["id"]: one["used_by_relay"] for one in get_list(told, "accounts") if is_object(one)}
    assert used == {"work": True, "home": False}
    text = commands.run("list").stdout
    assert "not used: managed_oauth.accounts does not name it" in text
    assert "managed_oauth.accounts: nobody: no stored account has this id" in text


def test_several_instances_are_listed_together(commands: AccountCommands, tmp_path: Path) -> None:
    account(commands, "work")
    second = AccountCommands(folder=tmp_path / "second")
    account(second, "spare")
    config = tmp_path / "two.yaml"
    config.write_text(
        "backends:\n"
        "  openai_codex:\n    extra: {codex: {managed_oauth: {storage_path: accounts}}}\n"
        "  openai_codex.2:\n    extra: {codex: {managed_oauth: {storage_path: second/accounts}}}\n"
    )
    commands.environ["CODEXRELAY_CONFIG"] = str(config)
    told = commands.json("list")
    assert [
        (one["instance"], one["id"]) for one in get_list(told, "accounts") if is_object(one)
    ] == [("openai-codex", "work"), ("openai-codex.2", "spare")]
    assert "INSTANCE" in commands.run("list").stdout
    assert states(commands.json("list", "--instance", "OpenAI_Codex.2")) == {"spare": "valid"}
    commands.environ["COLUMNS"] = "60"
    assert "\nopenai-codex.2/spare " in commands.run("list").stdout
    elsewhere = commands.run("show", "spare")
    assert elsewhere.exit_code == 1
    assert "is one of openai-codex.2" in elsewhere.stderr
    assert "`--instance openai-codex.2`" in elsewhere.stderr
    assert commands.run("show", "spare", "--instance", "openai-codex.2").exit_code == 0
    assert commands.json("show", "openai-codex.2/spare")["instance"] == "openai-codex.2"
    assert commands.json("clear", "openai-codex.2/all")["unchanged"] == ["spare"]
    assert commands.json("clear-reauth", "openai-codex.2/spare")["unchanged"] == ["spare"]
    assert commands.run("show", "openai-codex.2/spare", "--instance", "openai-codex").exit_code == 2
    assert commands.run("show", "openai-codex.7/spare").exit_code == 2
    assert commands.run("show", "openai-codex/work").exit_code == 0
    assert commands.json("remove", "openai_codex.2/spare", "--force")["removed"] == "spare"
    unknown = commands.run("list", "--instance", "openai-codex.3")
    assert unknown.exit_code == 2
    assert "it has openai-codex, openai-codex.2" in unknown.stderr


def test_options_count_before_and_after_the_command(
    commands: AccountCommands, tmp_path: Path
) -> None:
    account(commands, "work")
    elsewhere = AccountCommands(folder=tmp_path / "elsewhere")
    account(elsewhere, "other")
    folder = str(elsewhere.store)
    for arguments in (
        ("--storage-path", folder, "--json", "list"),
        ("list", "--storage-path", folder, "--json"),
        ("--storage-path", str(commands.store), "list", "--storage-path", folder, "--json"),
    ):
        result = commands.run(*arguments)
        assert result.exit_code == 0
        assert '"id": "other"' in result.stdout


def test_the_relays_environment_names_the_store(commands: AccountCommands, tmp_path: Path) -> None:
    elsewhere = AccountCommands(folder=tmp_path / "elsewhere")
    account(elsewhere, "other")
    commands.environ["OPENAI_CODEX_MANAGED_OAUTH_STORAGE_PATH"] = str(elsewhere.store)
    assert states(commands.json("list")) == {"other": "valid"}


def test_a_configuration_that_cannot_be_used_is_wrong_usage(
    commands: AccountCommands, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("server: {prot: 1}\nbackends: {openai_codex: {tipe: x}}\n")
    result = commands.run("list", "--config", str(path))
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.startswith("codexrelay: ") for line in lines] == [True, True]
    assert result.stdout == ""


def test_an_account_is_shown_with_its_claims_state_and_file(commands: AccountCommands) -> None:
    account(
        commands,
        "tired",
        rate_limited_until=(NOW_UNIX_S + 2 * HOUR_S) * 1000,
        created_at="2026-11-01T10:00:00+00:00",
    )
    text = commands.run("show", "tired").stdout
    lines = {line.split("  ")[0]: line.partition("  ")[2].strip() for line in text.splitlines()}
    assert lines["state"] == "rate_limited  ends in 2 h (2026-11-22 15:20 +01:00)"
    assert lines["to do"].endswith("`codexrelay accounts clear tired`")
    assert lines["e-mail"] == "tired@example.com"
    assert lines["plan"] == "plus"
    assert lines["workspace"] == "ws-tired"
    assert lines["token"] == "expires in 1 h (2026-11-22 14:20 +01:00)"
    assert lines["created"] == "2026-11-01T10:00:00+00:00"
    assert lines["file"] == str(commands.store / "tired.json")


def test_json_has_instants_as_text_and_as_seconds(commands: AccountCommands) -> None:
    account(commands, "work")
    learn(commands, "work", AccountState(limits=limits()))
    facts = commands.json("show", "work")
    assert facts["expires_at"] == "2026-11-22T13:20:00+00:00"
    assert facts["expires_at_unix_s"] == NOW_UNIX_S + HOUR_S
    window = get_list(get_object(facts, "limits"), "windows")[0]
    assert window == {
        "name": "primary",
        "used_percent": 30.0,
        "length_s": 18000.0,
        "resets_at": "2026-11-22T13:20:00+00:00",
        "resets_at_unix_s": NOW_UNIX_S + HOUR_S,
    }


@pytest.mark.parametrize("name", ["work", "ws-work", "Work@Example.com"])
def test_an_account_is_found_by_id_workspace_or_email(commands: AccountCommands, name: str) -> None:
    account(commands, "work")
    account(commands, "home")
    assert commands.json("show", name)["id"] == "work"


def test_a_name_that_two_accounts_have_must_be_an_id(commands: AccountCommands) -> None:
    account(commands, "work", email="me@example.com")
    account(commands, "home", email="me@example.com")
    result = commands.run("show", "me@example.com")
    assert result.exit_code == 1
    assert result.stderr == (
        "codexrelay: me@example.com are several accounts: home, work. Name one by its id\n"
    )


def test_a_folder_that_cannot_be_listed_is_said_to_be(
    commands: AccountCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(commands, "work")

    def refuse(self: AccountStore) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(self.folder))

    monkeypatch.setattr(AccountStore, "_account_paths", refuse)
    result = commands.run("show", "work")
    assert result.exit_code == 1
    assert "account work cannot be looked for: " in result.stderr
    assert "cannot be listed (Permission denied)" in result.stderr


def test_an_empty_storage_path_is_this_commands_own_fault(commands: AccountCommands) -> None:
    result = commands.run("list", "--storage-path", "")
    assert result.exit_code == 2
    assert "'--storage-path'" in result.stderr
    assert "managed-oauth" not in result.stderr


def test_an_unknown_account_is_told_with_those_that_there_are(commands: AccountCommands) -> None:
    account(commands, "work")
    result = commands.run("show", "wrok")
    assert result.exit_code == 1
    assert result.stderr == (
        f"codexrelay: there is no account wrok in {commands.store}; known: work\n"
    )


def test_what_files_say_is_never_obeyed_by_the_terminal(commands: AccountCommands) -> None:
    account(commands, "work", email="\x1b[2Jme\n@example.com")
    for arguments in (("list",), ("show", "work")):
        text = commands.run(*arguments).stdout
        assert "\x1b" not in text
        assert r"\x1b[2Jme\n@example.com" in text


def test_absurd_instants_can_be_shown(commands: AccountCommands) -> None:
    account(commands, "work", expiry_date=1e300, rate_limited_until=1e300)
    assert commands.run("show", "work").exit_code == 0
    assert commands.json("list")


def test_a_narrow_terminal_keeps_its_bars_whole(commands: AccountCommands) -> None:
    account(commands, "work", email="somebody-with-a-long-name@example.com")
    learn(commands, "work", AccountState(limits=limits(), last_used_unix_s=NOW_UNIX_S - 180))
    commands.environ["COLUMNS"] = "80"
    text = commands.run("list").stdout
    assert "5 h   ██░░░   30 %  resets in 1 h" in text
    assert "used 3 min ago" in text
    assert max(len(line) for line in text.partition("\n\n")[0].splitlines()) <= 80


@pytest.mark.parametrize("columns", [99, 79, 60, 30])
def test_an_id_is_whole_however_narrow_the_terminal_is(
    commands: AccountCommands, columns: int
) -> None:
    name = "an-account-whose-id-is-rather-long"
    for each in (name, "work"):
        account(commands, each, email="somebody-with-a-long-name@example.com")
        learn(commands, each, AccountState(limits=limits()))
    commands.environ["COLUMNS"] = str(columns)
    table = commands.run("list").stdout.partition("\n\n")[0]
    assert [line.split()[0] for line in table.splitlines() if not line.startswith(" ")] == [
        "ACCOUNT",
        name,
        "work",
    ]
    assert "somebody" not in table
    shown = " ".join(" ".join(line[len(name) :].split()) for line in table.splitlines())
    assert shown.count("resets in 1 h") == 2


def test_colour_is_for_terminals(commands: AccountCommands) -> None:
    account(commands, "work")
    assert "\x1b[" not in commands.run("list").stdout
    commands.environ["FORCE_COLOR"] = "1"
    assert "\x1b[32mvalid" in commands.run("list").stdout


@pytest.mark.parametrize("arguments", [("shwo", "work"), ("show",), ("list", "--jsno")])
def test_wrong_usage_has_an_exit_status_of_its_own(
    commands: AccountCommands, arguments: tuple[str, ...]
) -> None:
    result = commands.run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
