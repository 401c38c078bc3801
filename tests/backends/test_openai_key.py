"""The key of a backend of another kind: where it comes from, and what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
import trio
from structlog.testing import capture_logs

from codexrelay.backends.openai import key as keys
from codexrelay.backends.openai.key import Key
from codexrelay.errors import KeyUnusableError
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "sk-0123456789abcdef"


def in_file(folder: Path, content: bytes, *, mode: int = 0o600) -> Key:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return Key(backend="local", file=path)


def rewrite(key: Key, content: bytes) -> None:
    """Write another key, so that a look at the file shows it."""
    assert key.file is not None
    before = key.file.stat()
    key.file.write_bytes(content)
    os.utime(key.file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


async def test_a_variable_gives_the_key_without_blanks_around_it() -> None:
    key = Key(backend="local", variable="LOCAL_KEY", from_variable=f" {SECRET}\n")
    await key.look()
    assert key.text == SECRET
    assert SECRET not in repr(key)


async def test_without_any_there_is_none_and_that_is_no_error() -> None:
    key = Key(backend="local")
    await key.look()
    assert key.text is None


async def test_a_variable_that_is_not_set_is_told_with_its_setting() -> None:
    key = Key(backend="my-box", variable="LOCAL_KEY", from_variable=None)
    with pytest.raises(KeyUnusableError) as caught:
        await key.look()
    assert str(caught.value) == (
        "backend my-box has no API key to send: backends.my_box.api_key_env: the variable "
        "LOCAL_KEY is not set; set it to the key and start the relay again"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"two words", "holds a blank"),
        (b"one\ntwo", "holds a blank, a line break"),
        (b"with\x00zero", "a sign that no key has"),
        (b"\xef\xbb\xbfwith-a-mark", "a sign that no key has"),
        ("sk-0".encode("utf-16"), "a sign that no key has"),
        (b"x" * (keys.MAX_KEY_BYTES + 1), "which is no key"),
    ],
    ids=["empty", "blank", "blank inside", "lines", "zero", "mark", "UTF-16", "long"],
)
async def test_a_file_that_holds_no_key_is_refused_and_not_quoted(
    content: bytes, why: str, tmp_path: Path
) -> None:
    key = in_file(tmp_path, content)
    with pytest.raises(KeyUnusableError) as caught:
        await key.look()
    told = str(caught.value)
    assert f"backends.local.api_key_file: {tmp_path / 'key'} " in told
    assert why in told
    assert "no restart is needed" in told
    assert "two" not in told
    assert (key.text, key.is_in_vain) == (None, True)


async def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "is not there"), (tmp_path, "cannot be read")):
        with pytest.raises(KeyUnusableError, match=why):
            await Key(backend="local", file=path).look()


async def test_a_key_that_is_written_anew_is_taken_over_and_a_mended_file_too(
    tmp_path: Path,
) -> None:
    key = in_file(tmp_path, f"{SECRET}\n".encode())
    await key.look()
    assert key.text == SECRET
    rewrite(key, b"")
    with pytest.raises(KeyUnusableError):
        await key.look(at_once=True)
    rewrite(key, b"sk-another")
    await key.look(at_once=True)
    assert (key.text, key.is_in_vain) == ("sk-another", False)


@in_virtual_time
async def test_a_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    key = in_file(tmp_path, SECRET.encode())
    await key.look()
    rewrite(key, b"sk-another")
    await key.look()
    assert key.text == SECRET
    await trio.sleep(keys.LOOK_S)
    await key.look()
    assert key.text == "sk-another"


@in_virtual_time
async def test_a_bad_file_is_believed_for_a_few_seconds_only(tmp_path: Path) -> None:
    key = in_file(tmp_path, b"")
    with pytest.raises(KeyUnusableError):
        await key.look()
    assert key.is_in_vain
    await trio.sleep(keys.BELIEVED_S)
    assert not key.is_in_vain


@pytest.mark.skipif(os.name == "nt", reason="modes mean nothing there")
@pytest.mark.parametrize("mode", [0o600, 0o644])
async def test_a_file_that_others_can_read_is_warned_of_once(mode: int, tmp_path: Path) -> None:
    key = in_file(tmp_path, SECRET.encode(), mode=mode)
    with capture_logs() as told:
        for text in (b"sk-1", b"sk-2", b"sk-3"):
            rewrite(key, text)
            await key.look(at_once=True)
    assert len(told) == (mode == 0o644)
    assert all("can be read by others: chmod 600" in line["told"] for line in told)
    assert "sk-" not in str(told)
