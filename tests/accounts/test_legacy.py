from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import orjson
import pytest

from codexrelay.accounts.account import Credentials, Loaded
from codexrelay.accounts.files import BrokenFileError, Locks
from codexrelay.accounts.legacy import LEGACY_ID, LegacyStore
from codexrelay.accounts.sent_mark import SentMark
from tests.fakes.tokens import access_token
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json

ACCESS = access_token("of-claim", expires_at_unix_s=NOW + 60)
NEW = Credentials(access_token="access-2", refresh_token="rt_2", id_token="id-2")

#: As Codex CLI 0.169 leaves it after a sign-in (measured), with a key of tomorrow.
CODEX: dict[str, Json] = {
    "auth_mode": "chatgpt",
    "OPENAI_API_KEY": None,
    "tokens": {
        "id_token": "id-1",
        "access_token": ACCESS,
        "refresh_token": "rt_1",
        "account_id": "of-file",
        "oauth_provenance": {"issuer": "x"},
        "login_owner_id": "y",
    },
    "last_refresh": "2026-11-22T11:32:18.666896772Z",
    "of_tomorrow": [1, 2],
}


def write(folder: Path, record: Json = CODEX) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "auth.json"
    path.write_bytes(orjson.dumps(record))
    return path


def save(store: LegacyStore, *, expected: str = "rt_1"):  # noqa: ANN201
    return store.save_credentials(LEGACY_ID, NEW, expected_refresh_token=expected, now_unix_s=NOW)


def test_no_file_is_no_account_and_no_problem(tmp_path: Path) -> None:
    loaded = LegacyStore((tmp_path, tmp_path / "none")).load()
    assert (loaded.accounts, loaded.problems, loaded.found) == ((), (), False)


def test_the_account_of_codex_cli_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    (account,) = LegacyStore((tmp_path,)).load().accounts
    assert (account.id, account.origin, account.workspace_id) == ("codex-cli", "legacy", "of-file")
    assert account.credentials == Credentials(
        access_token=ACCESS,
        refresh_token="rt_1",
        id_token="id-1",
        expires_at_unix_s=NOW + 60,
    )


def test_the_first_folder_that_has_the_file_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    write(second)
    store = LegacyStore((first, second))
    assert [account.workspace_id for account in store.load().accounts] == ["of-file"]
    write(first, {"tokens": {"access_token": "a", "account_id": "of-first"}})
    assert [account.workspace_id for account in store.load().accounts] == ["of-first"]


@pytest.mark.parametrize(
    ("record", "workspace_id"),
    [
        pytest.param(
            {"tokens": {"access_token": ACCESS, "refresh_token": "rt_1", "account_id": None}},
            "of-claim",
            id="no account id",
        ),
        pytest.param(
            {
                "tokens": {"accessToken": ACCESS, "refreshToken": "rt_1", "accountId": "w"},
                "lastRefreshAt": "x",
            },
            "w",
            id="camel case",
        ),
        pytest.param(
            {"access_token": ACCESS, "refresh_token": "rt_1", "account_id": "w", "type": "codex"},
            "w",
            id="flat",
        ),
        pytest.param(
            {
                "tokens": {"access_token": ACCESS, "refresh_token": "rt_1"},
                "user": {"account_id": "w"},
            },
            "w",
            id="id of the user",
        ),
    ],
)
def test_tokens_are_found_and_replaced_where_each_program_keeps_them(
    tmp_path: Path, record: dict[str, Json], workspace_id: str
) -> None:
    path = write(tmp_path, record)
    store = LegacyStore((tmp_path,))
    (account,) = store.load().accounts
    assert account.workspace_id == workspace_id
    assert account.credentials.refresh_token == "rt_1"
    assert save(store).credentials.access_token == "access-2"
    text = path.read_text()
    assert ACCESS not in text
    assert "rt_1" not in text


@pytest.mark.parametrize(
    ("record", "words"),
    [
        pytest.param({"OPENAI_API_KEY": "sk-s3cret"}, "API key only", id="old API key"),
        pytest.param(
            {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-s3cret"}, "API key only", id="API key"
        ),
        pytest.param(
            CODEX | {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-s3cret"},
            "API key only",
            id="API key beside old tokens",
        ),
        pytest.param(
            CODEX
            | {
                "auth_mode": "agentIdentity",
                "agent_identity": {"workspace_id": "w", "agent_private_key": "s3cret"},
            },
            "agent identity",
            id="agent identity beside old tokens",
        ),
        pytest.param(
            {"auth_mode": "personalAccessToken", "personal_access_token": "at-s3cret"},
            "personal access token",
            id="personal access token",
        ),
        pytest.param({"auth_mode": "bedrockAccessKeys"}, "Amazon Bedrock", id="Bedrock keys"),
        pytest.param({"auth_mode": "bedrockApiKey"}, "Amazon Bedrock", id="Bedrock API key"),
        pytest.param(
            {"auth_mode": "chatgptAuthTokens"}, "this kind of sign-in", id="tokens in memory only"
        ),
        pytest.param({"auth_mode": "s3cret"}, "this kind of sign-in", id="another kind"),
        pytest.param({"auth_mode": "chatgpt", "tokens": None}, "no access token", id="signed out"),
        pytest.param({}, "no access token", id="empty"),
        pytest.param([], "not a JSON object", id="no object"),
    ],
)
def test_a_file_without_usable_tokens_is_a_problem_that_says_what_to_do(
    tmp_path: Path, record: Json, words: str
) -> None:
    path = write(tmp_path, record)
    loaded = LegacyStore((tmp_path,)).load()
    assert (loaded.accounts, loaded.found) == ((), True)
    (problem,) = loaded.problems
    assert str(path) in problem.where
    assert words in problem.what
    assert "codex login" in problem.what
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"tokens": {"access_token": "s3cret\n"}}, "tokens.access_token"),
        ({"tokens": {"accessToken": "a", "refreshToken": "s3 cret"}}, "tokens.refreshToken"),
        ({"access_token": "a", "id_token": "s3cr\u00e9t"}, "id_token"),
        ({"tokens": {"access_token": "a", "account_id": "s3\r\ncret"}}, "tokens.account_id"),
        ({"tokens": {"accessToken": "a", "accountId": "s3cr\u00e9t"}}, "tokens.accountId"),
        ({"access_token": "a", "account_id": "s3 cret"}, "account_id"),
        ({"access_token": "a", "user": {"account_id": "s3cret\n"}}, "user.account_id"),
    ],
    ids=["nested", "camel case", "flat", "id", "camel case id", "flat id", "id of the user"],
)
def test_a_token_or_id_that_cannot_be_one_is_a_problem_that_does_not_quote_it(
    tmp_path: Path, record: Json, field: str
) -> None:
    path = write(tmp_path, record)
    loaded = LegacyStore((tmp_path,)).load()
    assert (loaded.accounts, loaded.found) == ((), True)
    (problem,) = loaded.problems
    assert problem.where == f"{path}: {field}"
    assert "s3" not in problem.what


@pytest.mark.parametrize("mode", ["chatgpt", "chatgptAuthTokens", "of tomorrow", None])
def test_a_kind_of_sign_in_that_left_tokens_is_used(tmp_path: Path, mode: str | None) -> None:
    write(tmp_path, CODEX | {"auth_mode": mode})
    assert [account.workspace_id for account in LegacyStore((tmp_path,)).load().accounts] == [
        "of-file"
    ]


def test_an_api_key_beside_tokens_is_what_older_programs_leave_after_a_sign_in(
    tmp_path: Path,
) -> None:
    tokens = CODEX["tokens"]
    write(tmp_path, {"OPENAI_API_KEY": "sk-of-the-token-exchange", "tokens": tokens})
    (account,) = LegacyStore((tmp_path,)).load().accounts
    assert account.credentials.access_token == ACCESS


def test_a_personal_access_token_is_used_and_never_refreshed(tmp_path: Path) -> None:
    tokens: Json = {"access_token": "at-1", "refresh_token": "rt_1", "account_id": "w"}
    write(tmp_path, {"tokens": tokens})
    (account,) = LegacyStore((tmp_path,)).load().accounts
    assert account.credentials == Credentials(access_token="at-1")


def test_a_folder_that_cannot_be_looked_into_hides_no_other(tmp_path: Path) -> None:
    # Too long a name: like a folder that may not be searched, but for the superuser too.
    closed = tmp_path / ("x" * 300)
    assert LegacyStore((closed,)).load().accounts == ()
    write(tmp_path)
    (account,) = LegacyStore((closed, tmp_path)).load().accounts
    assert account.workspace_id == "of-file"


def test_without_a_folder_there_is_no_account_and_nothing_to_lock() -> None:
    store = LegacyStore(())
    assert store.load() == Loaded()
    assert store.fingerprint() == ()
    assert store.flight_lock(LEGACY_ID).paths == ()
    with pytest.raises(FileNotFoundError):
        save(store)
    with pytest.raises(FileNotFoundError):
        store.mark_needs_reauth(LEGACY_ID, "refresh_token_reused", refresh_token="rt_1")


def test_only_tokens_and_last_refresh_change_and_all_keys_stay_in_place(tmp_path: Path) -> None:
    path = write(tmp_path)
    save(LegacyStore((tmp_path,)))
    tokens = CODEX["tokens"]
    assert isinstance(tokens, dict)
    expected = CODEX | {
        "tokens": tokens
        | {"id_token": "id-2", "access_token": "access-2", "refresh_token": "rt_2"},
        "last_refresh": "2026-11-22T11:40:00.000000Z",
    }
    written = orjson.loads(path.read_bytes())
    expected["last_refresh"] = written["last_refresh"]
    assert orjson.dumps(written) == orjson.dumps(expected)
    assert written["last_refresh"].endswith("Z")
    assert written["last_refresh"] != CODEX["last_refresh"]


@pytest.mark.skipif(os.name == "nt", reason="file modes of Unix")
def test_the_file_is_for_its_owner_only_and_its_folder_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path)
    tmp_path.chmod(0o755)
    path.chmod(0o644)
    save(LegacyStore((tmp_path,)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_newer_pair_of_codex_cli_wins(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.read_bytes()
    stored = save(LegacyStore((tmp_path,)), expected="rt_0")
    assert stored.credentials.refresh_token == "rt_1"
    assert path.read_bytes() == before


def test_a_dead_token_is_remembered_and_not_written(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.read_bytes()
    store = LegacyStore((tmp_path,))
    marked = store.mark_needs_reauth(LEGACY_ID, "refresh_token_reused", refresh_token="rt_1")
    assert marked.needs_reauth == "refresh_token_reused"
    assert store.load().accounts == (marked,)
    assert path.read_bytes() == before


def test_a_dead_token_that_codex_cli_has_replaced_marks_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    store = LegacyStore((tmp_path,))
    found = store.mark_needs_reauth(LEGACY_ID, "refresh_token_reused", refresh_token="rt_0")
    assert found.needs_reauth is None


def test_a_file_that_breaks_before_it_is_saved_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, {"tokens": "?"})
    before = path.read_bytes()
    with pytest.raises(BrokenFileError):
        save(LegacyStore((tmp_path,)))
    assert path.read_bytes() == before


def test_the_locks_of_codex_cli_are_held_during_a_refresh(tmp_path: Path) -> None:
    write(tmp_path)
    locks = LegacyStore((tmp_path,)).flight_lock(LEGACY_ID)
    assert {path.name for path in locks.paths} == {"auth.lock", "auth.json.lock"}


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_two_folders_that_link_to_one_file_share_a_lock_and_the_mark(tmp_path: Path) -> None:
    real = write(tmp_path / "real")
    stores: list[LegacyStore] = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "auth.json").symlink_to(real)
        stores.append(LegacyStore((tmp_path / name,)))
    first, second = (store.flight_lock(LEGACY_ID) for store in stores)
    assert first.try_acquire()
    assert not second.try_acquire()
    # Codex CLI's own lock, wherever it looks for it.
    for folder in (real.parent, tmp_path / "a"):
        assert not Locks((folder / "auth.json.lock",)).try_acquire()
    first.release()
    assert SentMark.beside(first) == SentMark.beside(second)


def test_the_fingerprint_changes_when_a_file_appears_or_changes(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    store = LegacyStore((first, second))
    seen = {store.fingerprint()}
    write(second)
    seen.add(store.fingerprint())
    write(first)
    seen.add(store.fingerprint())
    save(store)
    seen.add(store.fingerprint())
    assert len(seen) == 4
