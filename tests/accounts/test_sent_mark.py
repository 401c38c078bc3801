from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from codexrelay.accounts.legacy import LEGACY_ID, LegacyStore
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.store import AccountStore
from tests.fakes.tokens import an_account, write_account

if TYPE_CHECKING:
    from pathlib import Path


def test_a_mark_is_of_one_token(tmp_path: Path) -> None:
    mark = SentMark(tmp_path / "work.refresh.sent")
    assert not mark.is_of("rt_1")
    mark.make("rt_1")
    assert (mark.is_of("rt_1"), mark.is_of("rt_2")) == (True, False)
    mark.make("rt_2")
    assert (mark.is_of("rt_1"), mark.is_of("rt_2")) == (False, True)
    mark.remove()
    assert not mark.is_of("rt_2")
    mark.remove()  # twice is no error


def test_a_mark_does_not_hold_the_token_and_is_for_the_owner_only(tmp_path: Path) -> None:
    mark = SentMark(tmp_path / "work.refresh.sent")
    mark.make("rt_s3cret")
    assert b"s3cret" not in mark.path.read_bytes()
    if os.name != "nt":
        assert stat.S_IMODE(mark.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"{half", b"[]"])
def test_a_mark_that_cannot_be_read_counts(tmp_path: Path, data: bytes) -> None:
    mark = SentMark(tmp_path / "work.refresh.sent")
    mark.path.write_bytes(data)
    assert mark.is_of("rt_1")


def test_a_mark_keeps_the_place_of_its_tokens_file_until_it_gives_it_back(tmp_path: Path) -> None:
    mark = SentMark(tmp_path / "work.refresh.sent")
    mark.give_room()  # none is no error
    assert not mark.path.exists()
    mark.make("rt_1", room_bytes=5000)
    assert mark.path.stat().st_size > 5000 + 16_000
    assert mark.is_of("rt_1")
    for _ in range(2):
        mark.give_room()
        assert mark.path.stat().st_size < 300
        assert (mark.is_of("rt_1"), mark.is_of("rt_2")) == (True, False)


def test_a_mark_without_room_as_other_versions_write_it_is_read(tmp_path: Path) -> None:
    mark = SentMark(tmp_path / "work.refresh.sent")
    mark.make("rt_1")
    mark.path.write_bytes(mark.path.read_bytes().partition(b"\0")[0])
    assert (mark.is_of("rt_1"), mark.is_of("rt_2")) == (True, False)


def test_a_mark_is_no_account_file(tmp_path: Path) -> None:
    store = AccountStore(tmp_path)
    write_account(tmp_path, "work", an_account().credentials)
    before = store.fingerprint()
    SentMark.beside(store.flight_lock("work")).make("rt_1")
    loaded = store.load()
    assert [account.id for account in loaded.accounts] == ["work"]
    assert loaded.problems == ()
    assert store.fingerprint() == before


def test_each_kind_of_account_has_its_mark_beside_its_lock(tmp_path: Path) -> None:
    managed = SentMark.beside(AccountStore(tmp_path).flight_lock("work"))
    legacy = SentMark.beside(LegacyStore((tmp_path,)).flight_lock(LEGACY_ID))
    assert managed.path == tmp_path / "work.refresh.sent"
    assert legacy.path == tmp_path / "auth.sent"
