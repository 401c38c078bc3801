from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

import attrs
import pytest

from codexrelay.accounts.files import (
    BrokenFileError,
    Locks,
    dump_readably,
    make_folder,
    read_bytes,
    remove_file,
    replace_file,
)
from codexrelay.protocol.raw import parse_object

if TYPE_CHECKING:
    from pathlib import Path

on_unix = pytest.mark.skipif(os.name == "nt", reason="file modes and links of Unix")


def test_a_replaced_file_holds_the_new_bytes_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.json"]


@on_unix
def test_a_replaced_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    replace_file(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_writer_has_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path, old, young, other = (
        tmp_path / name for name in ("a.json", ".a.json.x1.tmp", ".a.json.x2.tmp", ".b.json.x3.tmp")
    )
    for leftover in (old, young, other):
        leftover.write_bytes(b"half a to")
    an_hour_ago_s = old.stat().st_mtime - 3600
    for leftover in (old, other):
        os.utime(leftover, (an_hour_ago_s, an_hour_ago_s))
    replace_file(path, b"new")
    assert set(tmp_path.iterdir()) == {path, young, other}


@attrs.define
class Disk:
    """Notes what is brought to the disk, in order; a kind of thing may be refused."""

    refuses: str = ""
    code: int = errno.EIO
    steps: list[str] = attrs.field(factory=list)

    def fsync(self, descriptor: int) -> None:
        at = os.fstat(descriptor)
        kind = "folder" if stat.S_ISDIR(at.st_mode) else "file"
        self.steps.append(kind if kind == "folder" else f"{kind} of {at.st_size} bytes")
        if kind == self.refuses:
            raise OSError(self.code, os.strerror(self.code))

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replace = os.replace

        def note(source: str, target: str) -> None:
            self.steps.append("replace")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", note)


@on_unix
def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    disk.put_in(monkeypatch)
    replace_file(tmp_path / "a.json", b"new")
    assert disk.steps == ["file of 3 bytes", "replace", "folder"]
    assert remove_file(tmp_path / "a.json")
    assert disk.steps[3:] == ["folder"]


@on_unix
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_brought_to_the_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    Disk(refuses="folder", code=code).put_in(monkeypatch)
    replace_file(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"
    assert remove_file(tmp_path / "a.json")
    make_folder(tmp_path / "b")


@on_unix
@pytest.mark.parametrize(
    "disk", [Disk("folder", errno.EIO), Disk("file", errno.ENOSPC), Disk("file", errno.EINVAL)]
)
def test_any_other_failure_of_the_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    disk.put_in(monkeypatch)
    with pytest.raises(OSError, match=re.escape(os.strerror(disk.code))):
        replace_file(tmp_path / "a.json", b"new")
    assert os.listdir(tmp_path) == (["a.json"] if disk.refuses == "folder" else [])


def test_half_an_emoji_in_somebodys_key_keeps_no_tokens_out() -> None:
    read = parse_object(rb'{"note": "\ud83d"}')
    assert parse_object(dump_readably(read)) == read


@on_unix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "auth.json", tmp_path / "auth.json"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link.symlink_to(real)
    replace_file(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes among files are Unix's")
def test_a_pipe_is_broken_and_nobody_waits_for_its_other_end(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    os.mkfifo(path)
    with pytest.raises(BrokenFileError, match=r"a\.json: file: is no regular file"):
        read_bytes(path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="devices are Unix's")
def test_a_link_to_a_device_is_broken_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.symlink_to("/dev/zero")
    with pytest.raises(BrokenFileError, match="no regular file"):
        read_bytes(path)


def test_a_folder_in_the_place_of_a_file_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="cannot be read"):
        read_bytes(tmp_path)


def test_a_failed_replacement_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r".+"):
        replace_file(path, b"new")
    assert os.listdir(tmp_path) == ["a.json"]


@on_unix
def test_a_folder_is_made_for_its_owner_only_and_an_existing_one_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    make_folder(tmp_path)
    make_folder(tmp_path / "var" / "accounts")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "var" / "accounts").stat().st_mode) == 0o700


def test_removing_tells_whether_there_was_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.touch()
    assert remove_file(path)
    assert not remove_file(path)
    assert not remove_file(tmp_path / "none" / "a.json")


@on_unix
def test_of_a_link_the_link_is_removed(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "a.json"
    real.touch()
    link.symlink_to(real)
    assert remove_file(link)
    assert os.listdir(tmp_path) == ["real.json"]


def test_locks_are_taken_all_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "1.lock", tmp_path / "2.lock"
    both, one = Locks((first, second)), Locks((second,))
    assert one.try_acquire()
    assert not both.try_acquire()
    other = Locks((first,))
    assert other.try_acquire()
    other.release()
    one.release()


def test_released_locks_can_be_taken_by_others(tmp_path: Path) -> None:
    mine, theirs = Locks((tmp_path / "x.lock",)), Locks((tmp_path / "x.lock",))
    assert mine.try_acquire()
    assert not theirs.try_acquire()
    mine.release()
    assert theirs.try_acquire()
    theirs.release()


def test_a_lock_that_cannot_be_made_is_an_error_and_keeps_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    good, bad = tmp_path / "x.lock", tmp_path / "file" / "y.lock"
    with pytest.raises(OSError, match=r".+"):
        Locks((good, bad)).try_acquire()
    again = Locks((good,))
    assert again.try_acquire()
    again.release()
