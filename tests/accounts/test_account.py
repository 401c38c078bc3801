from __future__ import annotations

import attrs
import pytest

from codexrelay.accounts.account import Credentials, Status, make_account
from tests.fakes.tokens import access_token, an_account, jwt
from tests.fakes.wall_clock import NOW_UNIX_S as NOW


def test_tokens_never_show() -> None:
    credentials = Credentials(
        access_token="s3cret-access", refresh_token="s3cret-refresh", id_token="s3cret-id"
    )
    account = make_account("work", credentials, origin="managed")
    assert "s3cret" not in f"{account!r} {account} {credentials!r}"


@pytest.mark.parametrize(
    ("seconds", "expires"), [(0, False), (299, False), (300, True), (301, True)]
)
def test_a_token_expires_within_its_rest_of_life_and_any_longer_span(
    seconds: int, expires: bool
) -> None:
    credentials = Credentials(access_token="a", expires_at_unix_s=NOW + 300)
    assert credentials.expires_within(seconds, now_unix_s=NOW) is expires


def test_a_token_of_unknown_expiry_never_expires() -> None:
    assert not Credentials(access_token="a").expires_within(1e12, now_unix_s=NOW)


def test_what_the_file_leaves_out_is_read_from_the_tokens() -> None:
    auth = {
        "chatgpt_plan_type": "pro",
        "chatgpt_account_is_fedramp": True,
        "chatgpt_user_id": "user",
    }
    account = make_account(
        "work",
        Credentials(
            access_token=access_token("workspace", expires_at_unix_s=NOW),
            id_token=jwt({"email": "me@example.com", "https://api.openai.com/auth": auth}),
        ),
        origin="managed",
    )
    assert account.workspace_id == "workspace"
    assert account.email == "me@example.com"
    assert account.plan_type == "plus"
    assert account.user_id == "user"
    assert account.fedramp
    assert account.credentials.expires_at_unix_s == NOW


def test_what_the_file_says_wins_over_the_tokens() -> None:
    credentials = Credentials(
        access_token=access_token("of-token", expires_at_unix_s=NOW), expires_at_unix_s=NOW + 5
    )
    account = make_account("work", credentials, origin="managed", workspace_id="of-file")
    assert account.workspace_id == "of-file"
    assert account.credentials.expires_at_unix_s == NOW + 5


@pytest.mark.parametrize("claim", ["workspace\r\nx: y", "arbeitsfl\u00e4che", ""])
def test_a_workspace_id_that_cannot_be_sent_counts_as_none(claim: str) -> None:
    tokens = Credentials(access_token=access_token(claim, expires_at_unix_s=NOW))
    assert make_account("work", tokens, origin="managed").workspace_id is None
    good = access_token("workspace", expires_at_unix_s=NOW)
    both = attrs.evolve(tokens, id_token=good)
    assert make_account("work", both, origin="managed").workspace_id == "workspace"


def test_the_gravest_status_is_told() -> None:
    cases = {
        Status.VALID: an_account(expires_at_unix_s=NOW + 1, limited_until_unix_s=NOW),
        Status.EXPIRED: an_account(expires_at_unix_s=NOW),
        Status.RATE_LIMITED: an_account(expires_at_unix_s=NOW, limited_until_unix_s=NOW + 1),
        Status.NEEDS_REAUTH: an_account(needs_reauth="x", limited_until_unix_s=NOW + 1),
    }
    assert {status: a.status(now_unix_s=NOW) for status, a in cases.items()} == {
        status: status for status in Status
    }
