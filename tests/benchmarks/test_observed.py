"""The program that observes the relay from within, without the relay."""

from __future__ import annotations

import marshal
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.observed import Calls, Samples, observe
from benchmarks.stacks import read_stacks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPROF)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def begin(self) -> None:
        self.words.append("begin")

    def end(self, path: Path) -> None:
        self.words.append("end")
        path.write_text("seen")


def test_one_signal_begins_and_the_other_ends(tmp_path: Path) -> None:
    observer, file = Told(), tmp_path / "calls"
    observe(observer, file)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert (tmp_path / "calls.begun").exists()
    assert not file.exists()
    os.kill(os.getpid(), signal.SIGUSR2)
    assert observer.words == ["begin", "end"]
    assert file.read_text() == "seen"


def test_calls_are_written_as_cprofile_does(tmp_path: Path) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("two profilers at once are refused there, and a tracer may be at work")
    calls = Calls()
    calls.begin()
    len("a")
    calls.end(tmp_path / "calls")
    names = {name for _, _, name in marshal.loads((tmp_path / "calls").read_bytes())}
    assert "<built-in method builtins.len>" in names


def test_a_sample_is_a_stack(tmp_path: Path) -> None:
    samples = Samples()
    for _ in range(2):
        samples._look(signal.SIGPROF, sys._getframe())
    samples.end(tmp_path / "stacks")
    ((stack, times),) = read_stacks((tmp_path / "stacks").read_text().splitlines()).items()
    assert times == 2
    assert stack[-1].name == "test_a_sample_is_a_stack (test_observed.py)"
