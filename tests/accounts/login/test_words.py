from __future__ import annotations

from codexrelay.accounts.login.words import plain


def test_foreign_words_are_one_short_line() -> None:
    assert plain(" No\n\tway\x1b[2J\u202e! ") == "No way [2J !"
    assert len(plain("a" * 1000)) == 300


def test_words_that_repeat_a_secret_are_not_shown() -> None:
    assert plain("the code ac_1 is bad", secrets=("", "ac_1")) == ""
    assert plain("the code is bad", secrets=("", "ac_1")) == "the code is bad"
