from __future__ import annotations

from pathlib import Path

import pytest

from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.record import Record, iso, parse_record, read_iso
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

PATH = Path("work.json")


@pytest.mark.parametrize(
    ("text", "at_unix_s"),
    [
        ("2026-11-22T12:20:00+00:00", NOW),
        ("2026-11-22T12:20:00Z", NOW),
        ("2026-11-22T13:20:00+01:00", NOW),
        ("2026-11-22T12:20:00", NOW),
        ("2026-11-22T12:20:00.250", NOW + 0.25),
        ("", None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+23:00", -62_135_679_600.0),
    ],
)
def test_a_time_is_read_as_programs_write_it(text: str, at_unix_s: float | None) -> None:
    assert read_iso(text) == at_unix_s


def test_a_time_is_written_as_it_is_read() -> None:
    assert read_iso(iso(NOW + 0.125)) == NOW + 0.125


@pytest.mark.parametrize("read", [Record.text, Record.flag, Record.object, Record.time])
def test_what_is_null_or_not_there_is_nothing_and_what_is_odd_is_named(read) -> None:  # noqa: ANN001
    assert not read(Record(PATH, {}), "field")
    assert not read(Record(PATH, {"field": None}), "field")
    with pytest.raises(BrokenFileError, match=r"^work\.json: field: "):
        read(Record(PATH, {"field": 5}), "field")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"access_token": "s3cret"'])
def test_a_file_without_an_object_is_broken_and_not_quoted(data: bytes) -> None:
    with pytest.raises(BrokenFileError) as caught:
        parse_record(PATH, data)
    assert "s3cret" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_record_does_not_show_what_it_holds() -> None:
    assert "s3cret" not in repr(Record(PATH, {"access_token": "s3cret"}))
