"""Lists of models on the disk."""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.accounts.files import BrokenFileError
from codexrelay.backends.codex.catalogue_file import CatalogueFile, read_list
from codexrelay.backends.codex.listing import Listing
from codexrelay.protocol.raw import dump, parse_object

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject

BACKEND: Final = ("https://backend/codex",)
FREE: Final = Listing(
    plan="free", models=({"slug": "m"},), etag='W/"1"', fetched_unix_s=5.5, client_version="0.1.0"
)
PRO: Final = Listing(
    plan=None, models=({"slug": "m"}, {"slug": "n"}), etag=None, fetched_unix_s=6, client_version=""
)


def test_lists_come_back_as_they_were_kept(tmp_path: Path) -> None:
    file = CatalogueFile(tmp_path / "state", BACKEND)
    assert file.load() == []
    for kept in ([FREE, PRO], [PRO]):
        file.save(kept)
        assert file.load() == kept
    if sys.platform != "win32":
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.folder.iterdir()] == ["models.json"]


def test_lists_of_other_backends_are_nobodys(tmp_path: Path) -> None:
    CatalogueFile(tmp_path, ("https://user:secret@backend", "https://b")).save([FREE])
    assert CatalogueFile(tmp_path, ("https://b", "https://user:secret@backend")).load() == [FREE]
    assert CatalogueFile(tmp_path, BACKEND).load() == []
    assert b"secret" not in (tmp_path / "models.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (b"", "is no JSON object"),
        (b"[]", "is no JSON object"),
        (b'{"version": 1', "is no JSON object"),
        ({"version": 2}, "version: must be 1"),
        ({"lists": ["x"]}, "must hold objects"),
        ({"lists": [{"models": [{"slug": "m"}]}]}, "must hold `fetched_at` and `models`"),
        ({"lists": [{"fetched_at": 1, "models": [5, {"x": 1}]}]}, "`fetched_at` and `models`"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, change: bytes | dict[str, Json], told: str
) -> None:
    file = CatalogueFile(tmp_path, BACKEND)
    file.save([FREE])
    if isinstance(change, dict):
        change = dump(parse_object(file.path.read_bytes()) | change)
    file.path.write_bytes(change)
    with pytest.raises(BrokenFileError) as caught:
        file.load()
    assert str(file.path) in str(caught.value)
    assert told in str(caught.value)


def test_an_owners_list_is_in_the_backends_own_form(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    models: list[Json] = [{"slug": "m", "more": [1]}, {"no": "slug"}, 5]
    path.write_bytes(dump({"models": models, "fetched_at": "yesterday"}))
    assert read_list(path) == [models[0]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "does not exist"),
        (b"<html>", "is no list of models: it is no JSON object"),
        (b"[]", "an array"),
        (b"{}", 'it names no model under "models"'),
        (b'{"models": {"slug": "m"}}', 'it names no model under "models"'),
    ],
)
def test_what_is_no_list_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "list.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BrokenFileError) as caught:
        read_list(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_an_entry_may_hold_half_an_emoji(tmp_path: Path) -> None:
    half: JsonObject = {"slug": "m", "description": "\ud83d"}
    file = CatalogueFile(tmp_path, BACKEND)
    kept = Listing(plan="p", models=(half,), etag=None, fetched_unix_s=1, client_version="")
    file.save([kept])
    assert file.load() == [kept]
