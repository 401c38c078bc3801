from __future__ import annotations

import contextlib
import functools
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypedDict

import attrs
import orjson
import pytest

from codexrelay.accounts.account import Attention, Credentials, FileFacts, Loaded
from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.state import AccountState
from codexrelay.accounts.store import AccountStore
from codexrelay.protocol.limits import Limits, Window
from tests.fakes.tokens import access_token, write_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codexrelay.accounts.account import Account
    from codexrelay.protocol.raw import Json

on_unix = pytest.mark.skipif(os.name == "nt", reason="file modes and links of Unix")

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
    path.chmod(0o600)


def read(path: Path) -> dict[str, Json]:
    record: dict[str, Json] = orjson.loads(path.read_bytes())
    return record


def save(store: AccountStore, credentials: Credentials = NEW, *, expected: str = "refresh-1"):  # noqa: ANN201
    return store.save_credentials(
        "work", credentials, expected_refresh_token=expected, now_unix_s=NOW
    )


class NewTokens(TypedDict):
    """What a sign-in brings."""

    workspace_id: str | None
    email: str | None
    scope: str | None
    now_unix_s: float


WHO: NewTokens = {
    "workspace_id": "workspace",
    "email": "me@example.com",
    "scope": "openid",
    "now_unix_s": NOW,
}
LIMITS = Limits(
    observed_unix_s=NOW,
    primary=Window(used_percent=100.0, length_s=18_000.0, resets_at_unix_s=NOW + 60),
)
GONE = Attention(code="deactivated_workspace", message="gone", since_unix_s=NOW)


def learn(store: AccountStore, **learnt: object) -> None:
    state = attrs.evolve(AccountState(), **learnt)
    store.save_state("work", state, before=AccountState(), now_unix_s=NOW)


def cool_down(store: AccountStore, until_unix_s: float | None = NOW) -> None:
    state = AccountState(rate_limited_until_unix_s=until_unix_s)
    before = attrs.evolve(state, rate_limited_until_unix_s=1.0)
    store.save_state("work", state, before=before, now_unix_s=NOW)


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
    assert account.file == FileFacts(
        created_at="2026-11-01T00:00:00+00:00",
        updated_at="2026-11-02T00:00:00+00:00",
        scope="openid profile email",
        token_type="Bearer",
    )


def test_what_another_relay_learnt_of_an_account_is_read_from_its_file(tmp_path: Path) -> None:
    learnt = {
        "last_used": "2026-11-22T12:19:00+00:00",
        "last_codex_quota_headers": {
            "x-codex-primary-used-percent": "100",
            "x-codex-primary-window-minutes": "300",
            "x-codex-primary-reset-at": str(NOW + 60),
        },
        "last_codex_quota_observed_at": "2026-11-22T12:20:00+00:00",
        "last_codex_usage_limit": {"error_type": "usage_limit_reached", "resets_at_unix": NOW + 60},
    }
    write(tmp_path / "work.json", FOREIGN_RECORD | learnt)
    (account,) = AccountStore(tmp_path).load().accounts
    assert account.last_used_unix_s == NOW - 60
    assert account.limits == LIMITS
    assert account.usage_limit is not None
    assert account.usage_limit.resets_at_unix_s == NOW + 60


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
    assert loaded.broken == (("work", problem),)
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


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{half a file", id="no JSON"),
        pytest.param(orjson.dumps(FOREIGN_RECORD | {"expiry_date": "soon"}), id="one field"),
    ],
)
def test_a_broken_file_is_never_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "work.json"
    path.write_bytes(content)
    store = AccountStore(tmp_path)
    with pytest.raises(BrokenFileError):
        save(store)
    with pytest.raises(BrokenFileError):
        store.mark_needs_reauth("work", "why", refresh_token="refresh-1")
    with pytest.raises(BrokenFileError):
        store.clear_limit("work", now_unix_s=NOW)
    with pytest.raises(BrokenFileError):
        store.clear_reauth("work", now_unix_s=NOW)
    with pytest.raises(FileExistsError):
        store.create("work", NEW, **WHO)
    with pytest.raises(BrokenFileError, match=r"left alone: mend it, or .*accounts remove work"):
        store.sign_in("work", NEW, **WHO)
    assert path.read_bytes() == content


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

    in_threads(*(functools.partial(write_one, serial) for serial in range(2, 10)))
    stored = AccountStore(tmp_path).read("work")
    assert stored is not None
    assert seen == [stored.credentials.access_token] * 8


@on_unix
def test_what_is_written_is_for_its_owner_only_and_a_folder_stays_as_its_owner_has_it(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    write_account(tmp_path, "work", OLD).chmod(0o644)
    store = AccountStore(tmp_path)
    save(store)
    cool_down(store)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@on_unix
def test_what_others_can_see_is_told_in_one_line_each_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "my accounts"
    work, home = (write_account(folder, name, OLD) for name in ("work", "home"))
    folder.chmod(0o700)
    store = AccountStore(folder)
    assert store.load().problems == ()
    folder.chmod(0o711)
    work.chmod(0o640)
    home.chmod(0o602)
    loaded = store.load()
    assert [str(problem) for problem in loaded.problems] == [
        f"{folder}: can be entered by others: chmod 700 '{folder}'",
        f"{home}: can be written by others: chmod 600 '{home}'",
        f"{work}: can be read by others: chmod 600 '{work}'",
    ]
    assert [account.id for account in loaded.accounts] == ["home", "work"]
    assert loaded.broken == ()
    folder.chmod(0o700)
    home.chmod(0o600)
    save(store)
    assert store.load().problems == ()


@on_unix
def test_the_fingerprint_changes_when_others_are_kept_out(tmp_path: Path) -> None:
    path = write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path)
    seen = {store.fingerprint()}
    for each, mode in ((tmp_path, 0o755), (path, 0o644)):
        each.chmod(mode)
        seen.add(store.fingerprint())
    assert len(seen) == 3


@on_unix
def test_a_shared_folder_without_accounts_is_nobodys_business(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert AccountStore(tmp_path).load() == Loaded()


@on_unix
def test_two_folders_that_link_to_one_file_share_its_locks_and_its_mark(tmp_path: Path) -> None:
    real = write_account(tmp_path / "real", "one", OLD)
    write(real, {"access_token": "access-1", "refresh_token": "refresh-1"})
    stores: list[AccountStore] = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "work.json").symlink_to(real)
        stores.append(AccountStore(tmp_path / name))
    first, second = (store.flight_lock("work") for store in stores)
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    mark = SentMark.beside(second)
    mark.make("refresh-1")
    assert SentMark.beside(first).is_of("refresh-1")
    assert save(stores[0]).credentials == NEW
    assert stores[1].read("work") == stores[0].read("work")
    assert sorted(os.listdir(tmp_path / "a")) == ["work.json"]
    assert {"one.lock", "one.refresh.lock", "one.refresh.sent"} < set(os.listdir(real.parent))
    # The link goes; the file, and what is known of its token, is others' still.
    assert stores[0].remove("work")
    assert stores[1].read("work") is not None
    assert mark.path.exists()


@on_unix
def test_a_link_to_nothing_is_a_problem(tmp_path: Path) -> None:
    link = tmp_path / "work.json"
    link.symlink_to(tmp_path / "unplugged" / "work.json")
    store = AccountStore(tmp_path)
    loaded = store.load()
    (problem,) = loaded.problems
    assert str(problem) == f"{link}: file: is a symbolic link to a file that is not there"
    assert (loaded.accounts, loaded.broken, loaded.found) == ((), (("work", problem),), True)
    with pytest.raises(BrokenFileError):
        store.read("work")
    assert store.remove("work")
    assert store.load() == Loaded()


def test_tokens_that_would_break_the_file_are_not_written(tmp_path: Path) -> None:
    path = write_account(tmp_path, "work", OLD)
    before = path.read_bytes()
    with pytest.raises(BrokenFileError):
        save(AccountStore(tmp_path), Credentials(access_token="a b", refresh_token="r"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("expires", [1e30, -5.0, 0.0])
def test_an_end_of_life_that_is_no_date_is_not_written(tmp_path: Path, expires: float) -> None:
    path = write_account(tmp_path, "work", OLD)
    odd = attrs.evolve(NEW, expires_at_unix_s=expires)
    assert save(AccountStore(tmp_path), odd).credentials == attrs.evolve(
        NEW, expires_at_unix_s=None
    )
    assert read(path)["expiry_date"] is None


@on_unix
@pytest.mark.parametrize("write_first", [AccountStore.create, AccountStore.sign_in])
def test_a_folder_that_the_first_account_makes_is_for_its_owner_only(
    tmp_path: Path, write_first: Callable[..., Account]
) -> None:
    store = AccountStore(tmp_path / "var" / "accounts")
    before = os.umask(0)
    try:
        write_first(store, "work", OLD, **WHO)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    for path in store.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_removed_account_is_not_brought_back(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD).unlink()
    store = AccountStore(tmp_path)
    with pytest.raises(FileNotFoundError):
        save(store)
    cool_down(store)
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
    cool_down(store, NOW + 900)
    assert path.read_bytes() == before
    (account,) = store.load().accounts
    assert account.rate_limited_until_unix_s == NOW + 900


def test_a_cool_down_cleared_in_the_state_file_is_over_whatever_the_main_file_says(
    tmp_path: Path,
) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD)
    cool_down(AccountStore(tmp_path), None)
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
    cool_down(AccountStore(tmp_path))
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
    cool_down(store)
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


def test_a_new_account_is_stored_in_the_format_that_other_relays_read(tmp_path: Path) -> None:
    store = AccountStore(tmp_path)
    created = store.create("work", NEW, **WHO)
    assert store.read("work") == created
    assert created.credentials == NEW
    record = read(tmp_path / "work.json")
    assert set(FOREIGN_RECORD) <= set(record)
    assert (record["account_id"], record["chatgpt_account_id"]) == ("work", "workspace")
    assert record["created_at"] == record["updated_at"] == "2026-11-22T12:20:00+00:00"
    assert (record["token_type"], record["scope"]) == ("Bearer", "openid")


def test_a_new_account_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = write_account(tmp_path, "work", OLD)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        AccountStore(tmp_path).create("work", NEW, **WHO)
    assert path.read_bytes() == before


def test_of_many_that_create_one_account_one_does(tmp_path: Path) -> None:
    store, created = AccountStore(tmp_path / "accounts"), []

    def create(serial: int) -> None:
        pair = Credentials(access_token=f"access-{serial}", refresh_token=f"refresh-{serial}")
        with contextlib.suppress(FileExistsError):
            created.append(store.create("work", pair, **WHO))

    in_threads(*(functools.partial(create, serial) for serial in range(8)))
    assert created == [store.read("work")]


def test_a_new_account_inherits_nothing_of_one_whose_file_somebody_deleted(tmp_path: Path) -> None:
    path = write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path)
    learn(store, attention=GONE, rate_limited_until_unix_s=NOW + 60)
    path.unlink()
    created = store.create("work", NEW, **WHO)
    assert (created.attention, created.rate_limited_until_unix_s) == (None, None)


@pytest.mark.parametrize("account_id", ["../work", "", "a b", "work.state", "_x", "a" * 65])
def test_a_text_that_is_no_id_names_no_file(tmp_path: Path, account_id: str) -> None:
    outside = write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path / "accounts")
    store.folder.mkdir()
    for write_new in (store.create, store.sign_in):
        with pytest.raises(ValueError, match="is no account id"):
            write_new(account_id, NEW, **WHO)
    assert store.read(account_id) is None
    assert not store.remove(account_id)
    assert outside.exists()


def test_a_sign_in_replaces_the_tokens_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "work.json"
    marks: dict[str, Json] = {
        "needs_reauth": True,
        "needs_reauth_reason": "refresh_token_reused",
        "consecutive_auth_failures": 2,
        "id_token": "of-the-old-sign-in",
        "attention": {"code": "deactivated_workspace"},
        "from_the_future": {"keep": 1},
    }
    write(path, FOREIGN_RECORD | marks)
    store = AccountStore(tmp_path)
    learn(store, attention=GONE, limits=LIMITS, rate_limited_until_unix_s=NOW + 60)
    account = store.sign_in("work", NEW, **(WHO | {"workspace_id": "another"}))
    assert store.read("work") == account
    assert account.credentials == NEW  # so the old id token is gone
    assert (account.workspace_id, account.email) == ("another", "me@example.com")
    assert (account.needs_reauth, account.attention) == (None, None)
    assert (account.limits, account.rate_limited_until_unix_s) == (LIMITS, NOW + 60)
    record = read(path)
    assert (record["consecutive_auth_failures"], record["attention"]) == (0, None)
    assert record["from_the_future"] == {"keep": 1}
    assert record["created_at"] == FOREIGN_RECORD["created_at"]


def test_a_sign_in_never_pairs_new_tokens_with_the_old_workspace(tmp_path: Path) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD)
    account = AccountStore(tmp_path).sign_in("work", NEW, **(WHO | {"workspace_id": None}))
    assert account.workspace_id is None


def test_a_sign_in_is_stored_although_the_state_file_is_broken(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    state = tmp_path / "work.state.json"
    state.write_bytes(b"[]")
    assert AccountStore(tmp_path).sign_in("work", NEW, **WHO).credentials == NEW
    assert state.read_bytes() == b"[]"


def test_a_sign_in_brings_a_removed_account_back(tmp_path: Path) -> None:
    store = AccountStore(tmp_path)
    assert store.sign_in("work", NEW, **WHO) == store.read("work")


def test_a_refresh_with_the_token_from_before_a_sign_in_changes_nothing(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    store = AccountStore(tmp_path)
    store.sign_in("work", NEW, **WHO)
    late = Credentials(access_token="access-3", refresh_token="refresh-3")
    assert save(store, late).credentials == NEW
    assert store.mark_needs_reauth("work", "x", refresh_token="refresh-1").needs_reauth is None


def test_what_is_learnt_is_stored_beside_what_others_learnt(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    mine, theirs = AccountStore(tmp_path), AccountStore(tmp_path)
    learn(mine, limits=LIMITS)
    learn(theirs, attention=GONE)
    learn(mine, last_used_unix_s=NOW + 1)
    account = mine.read("work")
    assert account is not None
    assert (account.limits, account.attention) == (LIMITS, GONE)
    assert account.last_used_unix_s == NOW + 1


def test_nothing_learnt_writes_nothing(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    state = AccountState(limits=LIMITS)
    AccountStore(tmp_path).save_state("work", state, before=state, now_unix_s=NOW)
    assert os.listdir(tmp_path) == ["work.json"]


def test_a_broken_state_file_is_never_overwritten(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    state = tmp_path / "work.state.json"
    state.write_bytes(b"{half")
    store = AccountStore(tmp_path)
    with pytest.raises(BrokenFileError):
        learn(store, limits=LIMITS)
    with pytest.raises(BrokenFileError):
        store.clear_limit("work", now_unix_s=NOW)
    assert state.read_bytes() == b"{half"


def test_a_cool_down_is_cleared_wherever_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "work.json"
    write(path, FOREIGN_RECORD | {"from_the_future": 1})
    store = AccountStore(tmp_path)
    learn(store, rate_limited_until_unix_s=NOW + 60, limits=LIMITS)
    assert store.clear_limit("work", now_unix_s=NOW)
    account = store.read("work")
    assert account is not None
    assert (account.rate_limited_until_unix_s, account.limits) == (None, LIMITS)
    assert read(path) == FOREIGN_RECORD | {
        "rate_limited_until": None,
        "updated_at": "2026-11-22T12:20:00+00:00",
        "from_the_future": 1,
    }
    before = store.fingerprint()
    assert not store.clear_limit("work", now_unix_s=NOW)
    assert store.fingerprint() == before


@pytest.mark.parametrize("place", ["work.json", "work.state.json"])
def test_a_cool_down_in_one_place_is_cleared_too(tmp_path: Path, place: str) -> None:
    write_account(tmp_path, "work", OLD)
    held = read(tmp_path / place) if place == "work.json" else {}
    write(tmp_path / place, held | {"rate_limited_until": 1_795_350_060_000})
    store = AccountStore(tmp_path)
    assert store.clear_limit("work", now_unix_s=NOW)
    account = store.read("work")
    assert account is not None
    assert account.rate_limited_until_unix_s is None


def test_marks_against_an_account_are_cleared_and_its_tokens_stay(tmp_path: Path) -> None:
    write(tmp_path / "work.json", FOREIGN_RECORD)
    store = AccountStore(tmp_path)
    assert not store.clear_reauth("work", now_unix_s=NOW)
    store.mark_needs_reauth("work", "refresh_token_reused", refresh_token="refresh-1")
    learn(store, attention=GONE)
    assert store.clear_reauth("work", now_unix_s=NOW)
    account = store.read("work")
    assert account is not None
    assert (account.needs_reauth, account.attention) == (None, None)
    assert account.credentials.refresh_token == "refresh-1"
    assert account.rate_limited_until_unix_s == 1_795_350_060.0


def test_a_removed_account_leaves_nothing_but_its_locks(tmp_path: Path) -> None:
    write_account(tmp_path, "work", OLD)
    write_account(tmp_path, "work-2", OLD)
    store = AccountStore(tmp_path)
    learn(store, limits=LIMITS)
    SentMark.beside(store.flight_lock("work")).make("refresh-1")
    assert store.remove("work")
    assert sorted(os.listdir(tmp_path)) == ["work-2.json", "work.lock"]
    assert not store.remove("work")


@pytest.mark.parametrize("name", ["work", "my account"])
def test_a_broken_file_can_be_removed_by_the_id_it_is_listed_with(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.json").write_bytes(b"{half")
    store = AccountStore(tmp_path)
    ((listed, _),) = store.load().broken
    assert store.remove(listed)
    assert not store.load().found


def test_under_load_no_token_is_lost_and_no_field_reverted(tmp_path: Path) -> None:
    """Two relays and a script work on one account; each sees to its own fields all the time."""
    write(
        tmp_path / "work.json",
        FOREIGN_RECORD | {"rate_limited_until": None, "from_the_future": {"keep": 1}},
    )
    write(tmp_path / "work.state.json", {"from_the_future": {"keep": 2}})
    rounds, seen, lost = 40, list[str](), list[str]()

    def refresh(relay: int) -> None:
        store = AccountStore(tmp_path)
        for serial in range(rounds):
            account = store.read("work")
            assert account is not None
            spent = account.credentials.refresh_token
            assert spent is not None
            mine = f"refresh-{relay}-{serial}"
            pair = Credentials(access_token=mine, refresh_token=mine)
            if save(store, pair, expected=spent).credentials.refresh_token == mine:
                seen.append(spent)

    def learn_quota() -> None:
        store, before = AccountStore(tmp_path), AccountState()
        for serial in range(rounds):
            state = attrs.evolve(before, limits=attrs.evolve(LIMITS, observed_unix_s=NOW + serial))
            store.save_state("work", state, before=before, now_unix_s=NOW)
            before = state
            account = store.read("work")
            if account is None or account.limits != state.limits:
                lost.append(f"limits {serial}")

    def note_use() -> None:
        store, before = AccountStore(tmp_path), AccountState()
        for serial in range(rounds):
            state = attrs.evolve(before, last_used_unix_s=NOW + serial)
            store.save_state("work", state, before=before, now_unix_s=NOW)
            before = state
            account = store.read("work")
            if account is None or account.last_used_unix_s != state.last_used_unix_s:
                lost.append(f"last used {serial}")

    def edit() -> None:
        store = AccountStore(tmp_path)
        for serial in range(rounds):
            learn(store, rate_limited_until_unix_s=NOW + serial)
            if not store.clear_limit("work", now_unix_s=NOW):
                lost.append(f"limit {serial}")

    in_threads(
        functools.partial(refresh, 1), functools.partial(refresh, 2), learn_quota, note_use, edit
    )
    account = AccountStore(tmp_path).read("work")
    assert account is not None
    # Every token but the last was spent by the one refresh that followed it.
    assert lost == []
    assert len(seen) == len(set(seen)) >= rounds
    assert account.credentials.refresh_token not in seen
    assert account.credentials.refresh_token == account.credentials.access_token
    assert (account.last_used_unix_s, account.rate_limited_until_unix_s) == (
        NOW + rounds - 1,
        None,
    )
    assert read(tmp_path / "work.json")["from_the_future"] == {"keep": 1}
    assert read(tmp_path / "work.state.json")["from_the_future"] == {"keep": 2}


def in_threads(*work: Callable[[], None]) -> None:
    """Do all of it at once, and raise what one of them raised."""
    with ThreadPoolExecutor(len(work)) as threads:
        for done in [threads.submit(one) for one in work]:
            done.result(timeout=60)
