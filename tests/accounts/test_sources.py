from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import orjson
import pytest

from codexrelay.accounts.account import Attention, Credentials
from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.pool import Learnt
from codexrelay.accounts.sources import Saved, Sources
from codexrelay.accounts.store import AccountStore
from tests.fakes.tokens import write_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from pathlib import Path

PAIR = Credentials(access_token="access-1", refresh_token="refresh-1")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(
        store=AccountStore(tmp_path / "store"), legacy=LegacyStore((tmp_path / "codex",))
    )


def write_legacy(tmp_path: Path) -> None:
    folder = tmp_path / "codex"
    folder.mkdir()
    tokens = {"access_token": "access-1", "refresh_token": "refresh-1", "account_id": "w"}
    (folder / "auth.json").write_bytes(orjson.dumps({"tokens": tokens}))


def ids(sources: Sources) -> list[str]:
    return [account.id for account in sources.load().accounts]


def test_auth_json_is_used_while_there_is_no_managed_file(tmp_path: Path, sources: Sources) -> None:
    write_legacy(tmp_path)
    assert ids(sources) == ["codex-cli"]
    write_account(tmp_path / "store", "work", PAIR)
    assert ids(sources) == ["work"]


def test_a_managed_file_that_is_broken_still_keeps_auth_json_out(
    tmp_path: Path, sources: Sources
) -> None:
    write_legacy(tmp_path)
    write_account(tmp_path / "store", "work", PAIR).write_bytes(b"")
    assert ids(sources) == []


def test_each_source_can_be_switched_off(tmp_path: Path, sources: Sources) -> None:
    write_legacy(tmp_path)
    assert ids(attrs.evolve(sources, legacy=None)) == []
    write_account(tmp_path / "store", "work", PAIR)
    assert ids(attrs.evolve(sources, store=None)) == ["codex-cli"]


def test_allowed_accounts_are_named_by_local_or_workspace_id(
    tmp_path: Path, sources: Sources
) -> None:
    for name in ("a", "b", "c"):
        write_account(tmp_path / "store", name, PAIR, chatgpt_account_id=f"workspace-{name}")
    chosen = attrs.evolve(sources, allowed=("a", "workspace-c"))
    assert ids(chosen) == ["a", "c"]
    assert chosen.load().problems == ()


def test_an_allowed_name_that_no_account_has_is_one_problem(
    tmp_path: Path, sources: Sources
) -> None:
    write_account(tmp_path / "store", "a", PAIR)
    loaded = attrs.evolve(sources, allowed=("a", "typo")).load()
    assert [account.id for account in loaded.accounts] == ["a"]
    assert [problem.where for problem in loaded.problems] == ["managed_oauth.accounts: typo"]


def test_what_turns_have_learnt_is_stored_for_managed_accounts(
    tmp_path: Path, sources: Sources
) -> None:
    write_account(tmp_path / "store", "work", PAIR)
    (account,) = sources.load().accounts
    learnt = Learnt(
        account=attrs.evolve(
            account,
            rate_limited_until_unix_s=NOW + 5,
            last_used_unix_s=NOW,
            attention=Attention(code="deactivated_workspace", message="Look.", since_unix_s=NOW),
        ),
        before=account,
    )
    assert sources.save_states([learnt], now_unix_s=NOW) == Saved(learnt=(learnt,), problems=())
    assert sources.load().accounts == (learnt.account,)


def test_what_has_not_changed_is_left_as_others_have_stored_it(
    tmp_path: Path, sources: Sources
) -> None:
    write_account(tmp_path / "store", "work", PAIR)
    (account,) = sources.load().accounts
    used = Learnt(account=attrs.evolve(account, last_used_unix_s=NOW), before=account)
    limited = Learnt(
        account=attrs.evolve(account, rate_limited_until_unix_s=NOW + 5), before=account
    )
    assert sources.save_states([limited, used], now_unix_s=NOW).problems == ()
    (stored,) = sources.load().accounts
    assert (stored.rate_limited_until_unix_s, stored.last_used_unix_s) == (NOW + 5, NOW)


def test_nothing_is_written_into_the_folder_of_codex_cli(tmp_path: Path, sources: Sources) -> None:
    write_legacy(tmp_path)
    (account,) = sources.load().accounts
    before = sources.fingerprint()
    learnt = attrs.evolve(account, rate_limited_until_unix_s=NOW + 5)
    saved = sources.save_states([Learnt(account=learnt, before=account)], now_unix_s=NOW)
    assert saved == Saved(learnt=(), problems=())
    assert sources.fingerprint() == before
    assert [path.name for path in (tmp_path / "codex").iterdir()] == ["auth.json"]
    write_account(tmp_path / "store", account.id, PAIR)  # of the same name, by chance
    sources.save_states([Learnt(account=learnt, before=account)], now_unix_s=NOW)
    assert sources.load().accounts[0].rate_limited_until_unix_s is None


def test_a_cool_down_that_cannot_be_stored_is_a_problem_and_stops_no_other(
    tmp_path: Path, sources: Sources
) -> None:
    for name in ("a", "b"):
        write_account(tmp_path / "store", name, PAIR)
    learnt = [
        Learnt(account=attrs.evolve(account, rate_limited_until_unix_s=NOW + 5), before=account)
        for account in sources.load().accounts
    ]
    (tmp_path / "store" / "a.state.json").write_bytes(b"broken")
    saved = sources.save_states(learnt, now_unix_s=NOW)
    (problem,) = saved.problems
    assert saved.learnt == (learnt[1],)
    assert "a.state.json" in problem.where
    assert [a.rate_limited_until_unix_s for a in sources.load().accounts] == [None, NOW + 5]


def test_where_accounts_were_looked_for_is_told(tmp_path: Path, sources: Sources) -> None:
    told = sources.in_words()
    assert str(tmp_path / "store") in told
    assert str(tmp_path / "codex") in told
    nothing = Sources(store=None, legacy=None)
    assert nothing.in_words() == "the configuration allows no source of accounts"
