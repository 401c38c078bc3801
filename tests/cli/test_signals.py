"""Which signals end a program, and what becomes of a terminal that is gone."""

from __future__ import annotations

import os
import signal

import pytest

from codexrelay.cli.signals import endings, forget_closed, is_closed, is_hangup

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGHUP nor ptys")


@posix_only
def test_what_we_were_told_to_ignore_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    monkeypatch.setattr(signal, "getsignal", handlers.__getitem__)
    assert endings() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers[signal.SIGHUP] = signal.SIG_IGN  # as nohup leaves it
    assert endings() == (signal.SIGINT, signal.SIGTERM)


def test_where_there_is_no_such_signal_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    assert endings() == (signal.SIGINT, signal.SIGTERM)


@posix_only
def test_a_terminal_that_is_gone_takes_what_is_written_and_one_that_is_there_stays() -> None:
    gone_master, gone = os.openpty()
    there_master, there = os.openpty()
    try:
        os.close(gone_master)
        with pytest.raises(OSError, match="Errno"):
            os.write(gone, b"x")
        assert [is_closed(some) for some in ((), (there,), (gone, there))] == [False, False, True]
        forget_closed((gone, there))
        assert os.write(gone, b"x") == 1
        os.write(there, b"seen")
        assert os.read(there_master, 4) == b"seen"
    finally:
        for descriptor in (gone, there, there_master):
            os.close(descriptor)


@posix_only
def test_sighup_is_told_from_the_others() -> None:
    known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    assert [is_hangup(one) for one in known] == [False, False, True]


def test_no_signal_is_a_sighup_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    assert not is_hangup(1)
