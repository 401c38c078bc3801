"""What became of texts before is remembered within bounds."""

from __future__ import annotations

import orjson

from codexrelay.compaction.remembered import ENTRY_BYTES, Known, Remembered


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_what_was_put_in_comes_back() -> None:
    remembered = Remembered(10_000)
    remembered.put(key(1), Known("short", 7))
    assert remembered.get(key(1)) == Known("short", 7)
    assert remembered.get(key(2)) is None


def test_the_first_result_of_a_text_counts() -> None:
    remembered = Remembered(10_000)
    assert remembered.put(key(1), Known("first")) == Known("first")
    assert remembered.put(key(1), Known(None)) == Known("first")
    assert remembered.get(key(1)) == Known("first")


def test_it_stays_within_its_bytes_whatever_comes() -> None:
    remembered = Remembered(20 * ENTRY_BYTES)
    for number in range(1_000):
        remembered.put(key(number), Known("x" * (number % 500) or None))
        assert remembered.size_bytes <= 20 * ENTRY_BYTES
    assert remembered.get(key(999)) is not None


def test_what_was_asked_for_last_stays_longest() -> None:
    remembered = Remembered(3 * ENTRY_BYTES)
    for number in range(3):
        remembered.put(key(number), Known(None))
    remembered.get(key(0))
    remembered.put(key(3), Known(None))
    assert [remembered.get(key(number)) is None for number in range(4)] == [
        False,
        True,
        False,
        False,
    ]


def test_what_is_larger_than_everything_is_used_and_not_remembered() -> None:
    remembered = Remembered(ENTRY_BYTES)
    assert remembered.put(key(1), Known("x" * 1_000)) == Known("x" * 1_000)
    assert remembered.get(key(1)) is None
    assert remembered.size_bytes == 0


def test_wide_characters_count_as_they_are_held() -> None:
    remembered = Remembered(100_000)
    remembered.put(key(1), Known("…" * 1_000))
    assert remembered.size_bytes >= ENTRY_BYTES + 2_000


def test_a_text_counts_as_much_when_it_goes_as_when_it_came() -> None:
    """Python keeps what it has encoded with the text, which makes that larger meanwhile."""
    remembered = Remembered(ENTRY_BYTES + 2_100)
    text = "…" * 1_000
    remembered.put(key(1), Known(text))
    orjson.dumps(text)
    remembered.put(key(2), Known(None))
    assert remembered.get(key(1)) is None
    assert remembered.size_bytes == ENTRY_BYTES
