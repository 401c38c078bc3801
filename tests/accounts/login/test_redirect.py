from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.accounts.login.redirect import (
    Code,
    Denied,
    NotOurs,
    Redirect,
    read_pasted,
    read_redirect,
)

STATE = "our-state"
CODE = "ac_0123456789"


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        pytest.param(f"code={CODE}&scope=openid&state={STATE}", Code(CODE), id="a code"),
        pytest.param(f"state={STATE}&code=a%2Bb%20c", Code("a+b c"), id="escaped"),
        pytest.param(f"state={STATE}&error=access_denied", Denied("access_denied"), id="refusal"),
        pytest.param(
            f"state={STATE}&error=x&error_description=not+%1b%5b31mhere%0a",
            Denied("x: not [31mhere"),
            id="refusal with words of any kind",
        ),
        pytest.param(
            f"state={STATE}&code={CODE}&error=access_denied",
            Denied("access_denied"),
            id="both",
        ),
    ],
)
def test_an_answer_with_our_state_counts(query: str, answer: Redirect) -> None:
    assert read_redirect(query, state=STATE) == answer


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"code={CODE}",
        f"code={CODE}&state=",
        f"code={CODE}&state={STATE}x",
        f"code={CODE}&state=other&state={STATE}",
        "error=access_denied",
        "error=access_denied&state=other",
        f"code={CODE}&state=%ff%d8",
        f"state={STATE}",
        f"code=&state={STATE}",
    ],
)
def test_anything_else_is_not_ours(query: str) -> None:
    assert isinstance(read_redirect(query, state=STATE), NotOurs)


@pytest.mark.parametrize(
    "text",
    [
        f"http://localhost:1455/auth/callback?code={CODE}&scope=openid&state={STATE}",
        f"  http://localhost:1455/auth/callback?code={CODE}&state={STATE}#_=_\r\n",
        f'"http://127.0.0.1:1455/auth/callback?state={STATE}&code={CODE}"',
        f"localhost:1455/auth/callback?state={STATE}&code={CODE}",
        f"code={CODE}&state={STATE}",
        CODE,
        f" {CODE}\n",
    ],
)
def test_a_person_may_paste_the_address_or_the_code(text: str) -> None:
    assert read_pasted(text, state=STATE) == Code(CODE)


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "what do you want",
        "http://localhost:1455/auth/callback",
        f"https://auth.invalid/oauth/authorize?response_type=code&state={STATE}",
        f"http://localhost:1455/auth/callback?code={CODE}&state=another",
        f"code={CODE}",
        "\udcff\udcfe?state=\udcff",
    ],
)
def test_what_is_neither_is_told(text: str) -> None:
    assert isinstance(read_pasted(text, state=STATE), NotOurs)


def test_a_pasted_refusal_is_one() -> None:
    text = f"http://localhost:1455/auth/callback?error=access_denied&state={STATE}"
    assert read_pasted(text, state=STATE) == Denied("access_denied")


@given(st.text())
def test_no_text_is_too_strange_to_be_read(text: str) -> None:
    for answer in (read_pasted(text, state=STATE), read_redirect(text, state=STATE)):
        assert isinstance(answer, Code | Denied | NotOurs)


def test_a_code_does_not_show() -> None:
    assert CODE not in repr(Code(CODE))
