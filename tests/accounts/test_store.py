from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import orjson
import pytest

from codexrelay.accounts.account import Credentials
from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.store import AccountStore
from tests.fakes.tokens import access_token, write_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json

OLD = Credentials(access_token="access-1", refresh_token="refresh-1", expires_at_unix_s=NOW)
NEW = Credentials(
    access_token="access-2", refresh_token="refresh-2", expires_at_unix_s=NOW + 3600.5
)

#: As the relay that the store's format comes from writes it.
FOREIGN_RECORD: dict[str, Json] = {
    "account_id": "work",
    "email": "me@example.com",
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "token_type": "Bearer",
    "scope": "openid profile email",
    "expiry_date": 1_795_349_600_123,
    "created_at": "2026-11-01T00:00:00+00:00",
    "updated_at": "2026-11-02T00:00:00+00:00",
    "last_used": None,
    "needs_reauth": False,
    "chatgpt_account_id": "workspace",
    "rate_limited_until": 1_795_350_060_000,
    "consecutive_auth_failures": 0,
    "last_codex_quota_headers": {"x-codex-primary-used-percent": "12"},
    "last_codex_quota_observed_at": None,
    "last_codex_usage_limit": None,
}


def write(path: Path, record: Json) -> None:
    path.write_bytes(orjson.dumps(record))


def read(path: Path) -> dict[str, Json]:
    record: dict[str, Json] = orjson.loads(path.read_bytes())
    return record


def save(store: AccountStore, credentials: Credentials = NEW, *, expected: str = "refresh-1"):  # noqa: ANN201
    return store.save_credentials(
        "work", credentials, expected_refresh_token=expected, now_unix_s=NOW
    )


def test_a_folder_that_does_not_exist_holds_no_account(tmp_path: Path) -> None:
    store = AccountStore(tmp_path / "none")
    loaded = store.load()
    assert (loaded.accounts, loaded.problems, loaded.found) == ((), (), False)
    assert store.fingerprint() == ()


def test_an_account_of_another_relays_store_is_read(tmp_path: Path) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD)
    (account,) = AccountStore(tmp_path).load().accounts
    assert (account.id, account.email, account.workspace_id) == (
        "work",
        "me@example.com",
        "workspace",
    )
    assert account.credentials.access_token == "access-1"
    assert account.credentials.refresh_token == "refresh-1"
    assert account.credentials.expires_at_unix_s == 1_795_349_600.123
    assert account.rate_limited_until_unix_s == 1_795_350_060.0
    assert account.needs_reauth is None


def test_without_an_expiry_in_the_file_the_token_says_it(tmp_path: Path) -> None:
    token = access_token("workspace", expires_at_unix_s=NOW + 7)
    write(tmp_path / "work.json", {"access_token": token, "expiry_date": None})
    (account,) = AccountStore(tmp_path).load().accounts
    assert account.credentials.expires_at_unix_s == NOW + 7
    assert account.workspace_id == "workspace"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"access_token": None}, "access_token", id="no access token"),
        pytest.param({"refresh_token": 5}, "refresh_token", id="refresh token a number"),
        pytest.param({"expiry_date": "soon"}, "expiry_date", id="expiry in words"),
        pytest.param({"expiry_date": 0}, "expiry_date", id="expiry zero"),
        pytest.param({"expiry_date": True}, "expiry_date", id="expiry a boolean"),
        pytest.param({"needs_reauth": "no"}, "needs_reauth", id="flag in words"),
        pytest.param({"account_id": "other"}, "account_id", id="another id inside"),
        pytest.param({"chatgpt_account_id": []}, "chatgpt_account_id", id="workspace a list"),
    ],
)
def test_a_broken_file_is_one_problem_that_names_file_and_field(
    tmp_path: Path, changes: dict[str, Json], field: str
) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD | changes)
    write_account(tmp_path, "fine", OLD)
    loaded = AccountStore(tmp_path).load()
    assert [account.id for account in loaded.accounts] == ["fine"]
    (problem,) = loaded.problems
    assert problem.where == f"{tmp_path / 'work.json'}: {field}"
    assert loaded.found


@pytest.mark.parametrize(
    "field", ["access_token", "refresh_token", "id_token", "chatgpt_account_id"]
)
@pytest.mark.parametrize(
    "token",
    ["s3cret\n", "s3cret\r\nx: y", "s3 cret", "s3cret\u2028", "s3cr\u00e9t", "s3\x00cret"],
    ids=["line break", "header", "blank", "line separator", "letter beyond ASCII", "NUL"],
)
def test_a_token_or_id_that_cannot_be_one_is_a_problem_that_does_not_quote_it(
    tmp_path: Path, field: str, token: str
) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD | {field: token})
    loaded = AccountStore(tmp_path).load()
    assert (loaded.accounts, loaded.found) == ((), True)
    (problem,) = loaded.problems
    assert problem.where == f"{tmp_path / 'work.json'}: {field}"
    assert "printable ASCII" in problem.what
    assert "s3" not in problem.what


def test_a_file_that_is_no_json_is_a_problem_that_quotes_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "work.json").write_bytes(b'{"access_token": "s3cret", ')
    loaded = AccountStore(tmp_path).load()
    assert loaded.accounts == ()
    assert loaded.found
    assert "s3cret" not in str(loaded.problems)
    with pytest.raises(BrokenFileError) as caught:
        AccountStore(tmp_path).read("work")
    assert caught.value.__cause__ is None


def test_an_id_that_is_another_one_is_a_problem_that_does_not_quote_it(tmp_path: Path) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD | {"account_id": "s3cret"})
    (problem,) = AccountStore(tmp_path).load().problems
    assert "s3cret" not in str(problem)


def test_a_file_name_that_is_no_id_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "my account.json", {"access_token": "a"})
    (problem,) = AccountStore(tmp_path).load().problems
    assert "my account.json: file name" in problem.where


def test_a_broken_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "work.json"
    path.write_bytes(b"{half a file")
    store = AccountStore(tmp_path)
    with pytest.raises(BrokenFileError):
        save(store)
    with pytest.raises(BrokenFileError):
        store.mark_needs_reauth("work", "why", refresh_token="refresh-1")
    assert path.read_bytes() == b"{half a file"


def test_new_credentials_replace_the_old_ones_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "work.json"
    write(path, FOREIGN_RECORD | {"needs_reauth": True, "from_the_future": {"keep": [1, "é"]}})
    saved = save(AccountStore(tmp_path))
    assert saved.credentials == NEW
    assert saved.needs_reauth is None
    record = read(path)
    assert record["expiry_date"] == (NOW + 3600.5) * 1000
    changed = {key for key in record if record[key] != FOREIGN_RECORD.get(key)}
    assert changed == {
        "access_token",
        "refresh_token",
        "expiry_date",
        "updated_at",
        "from_the_future",
    }
    assert record["from_the_future"] == {"keep": [1, "é"]}
    assert list(record)[: len(FOREIGN_RECORD)] == list(FOREIGN_RECORD)
    assert AccountStore(tmp_path).read("work") == saved


def test_saving_loses_to_whoever_stored_another_refresh_token_first(tmp_path: Path) -> None:
    path = write_account(tmp_path, "work", OLD)
    before = path.read_bytes()
    stored = save(AccountStore(tmp_path), expected="refresh-0")
    assert stored.credentials == OLD
    assert path.read_bytes() == before


def test_of_many_writers_with_one_refresh_token_one_wins_and_all_see_its_pair(
    tmp_path: Path,
) -> None:
    write_account(tmp_path, "work", OLD)
    seen: list[str] = []

    def write_one(serial: int) -> None:
        pair = Credentials(access_token=f"access-{serial}", refresh_token=f"refresh-{serial}")
        seen.append(save(AccountStore(tmp_path), pair).credentials.access_token)

    threads = [threading.Thread(target=write_one, args=(serial,)) for serial in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = AccountStore(tmp_path).read("work")
    assert stored is not None
    assert seen == [stored.credentials.access_token] * 8


@pytest.mark.skipif(os.name == "nt", reason="file modes of Unix")
def test_folder_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write_account(tmp_path, "work", OLD).chmod(0o644)
    store = AccountStore(tmp_path)
    save(store)
    store.save_limit("work", NOW, now_unix_s=NOW)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_removed_account_is_not_brought_back(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD).unlink()
    store = AccountStore(tmp_path)
    with pytest.raises(FileNotFoundError):
        save(store)
    store.save_limit("work", NOW, now_unix_s=NOW)
    assert store.read("work") is None
    assert not list(tmp_path.glob("*.json"))


def test_a_dead_token_marks_the_account_with_the_reason(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path)
    store.mark_needs_reauth("work", "refresh_token_reused", refresh_token="refresh-1")
    marked = store.read("work")
    assert marked is not None
    assert marked.needs_reauth == "refresh_token_reused"
    assert marked.credentials == OLD
    assert save(store).needs_reauth is None


def test_a_dead_token_that_was_replaced_meanwhile_marks_nothing(tmp_path: Path) -> None:
    path = write_account(tmp_path, "work", NEW)
    before = path.read_bytes()
    store = AccountStore(tmp_path)
    found = store.mark_needs_reauth("work", "refresh_token_reused", refresh_token="refresh-1")
    assert found.needs_reauth is None
    assert found.credentials.refresh_token == "refresh-2"
    assert path.read_bytes() == before


def test_a_mark_without_a_reason_still_counts(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD, needs_reauth=True)
    (account,) = AccountStore(tmp_path).load().accounts
    assert account.needs_reauth == "marked in its file"


def test_a_cool_down_is_stored_beside_the_tokens_and_not_among_them(tmp_path: Path) -> None:
    path = tmp_path / "work.json"
    write(path, FOREIGN_RECORD)
    before = path.read_bytes()
    store = AccountStore(tmp_path)
    store.save_limit("work", NOW + 900, now_unix_s=NOW)
    assert path.read_bytes() == before
    (account,) = store.load().accounts
    assert account.rate_limited_until_unix_s == NOW + 900


def test_a_cool_down_cleared_in_the_state_file_is_over_whatever_the_main_file_says(
    tmp_path: Path,
) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD)
    AccountStore(tmp_path).save_limit("work", None, now_unix_s=NOW)
    (account,) = AccountStore(tmp_path).load().accounts
    assert account.rate_limited_until_unix_s is None


def test_a_state_file_that_says_nothing_of_a_cool_down_leaves_the_main_files_word(
    tmp_path: Path,
) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD)
    write(tmp_path / "work.state.json", {"last_used": None})
    (account,) = AccountStore(tmp_path).load().accounts
    assert account.rate_limited_until_unix_s == 1_795_350_060.0


def test_other_keys_of_the_state_file_survive(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    write(tmp_path / "work.state.json", {"last_used": "2026-11-22T00:00:00+00:00"})
    AccountStore(tmp_path).save_limit("work", NOW, now_unix_s=NOW)
    assert read(tmp_path / "work.state.json")["last_used"] == "2026-11-22T00:00:00+00:00"


def test_a_broken_state_file_is_a_problem_and_the_account_stays_usable(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    (tmp_path / "work.state.json").write_bytes(b"[]")
    loaded = AccountStore(tmp_path).load()
    assert [account.id for account in loaded.accounts] == ["work"]
    (problem,) = loaded.problems
    assert problem.where == f"{tmp_path / 'work.state.json'}: file"


def test_reading_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD | {"rate_limited_until": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store = AccountStore(tmp_path)
    store.load()
    store.read("work")
    store.fingerprint()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_fingerprint_changes_with_every_write_and_with_nothing_else(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path)
    seen = [store.fingerprint()]
    lock = store.flight_lock("work")
    assert lock.try_acquire()
    lock.release()
    assert store.fingerprint() == seen[0]
    save(store)
    seen.append(store.fingerprint())
    store.save_limit("work", NOW, now_unix_s=NOW)
    seen.append(store.fingerprint())
    write_account(tmp_path, "home", OLD)
    seen.append(store.fingerprint())
    (tmp_path / "home.json").unlink()
    seen.append(store.fingerprint())
    assert len({*seen[:4]}) == 4
    assert seen[4] == seen[2]


def test_saving_does_not_wait_for_a_refresh_that_is_under_way(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path)
    lock = store.flight_lock("work")
    assert lock.try_acquire()
    assert save(store).credentials == NEW
    lock.release()
