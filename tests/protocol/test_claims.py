from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.claims import Claims, read_claims
from tests.fakes.tokens import jwt

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

AUTH = "https://api.openai.com/auth"
PROFILE = "https://api.openai.com/profile"


def test_an_id_token_says_who_it_is_for() -> None:
    token = jwt(
        {
            "email": "owner@example.com",
            "exp": 1795349600,
            AUTH: {
                "chatgpt_account_id": "workspace",
                "chatgpt_plan_type": "plus",
                "chatgpt_user_id": "user",
                "user_id": "not asked",
                "chatgpt_account_is_fedramp": True,
            },
        }
    )
    assert read_claims(token) == Claims(
        workspace_id="workspace",
        user_id="user",
        plan_type="plus",
        email="owner@example.com",
        expires_at_unix_s=1795349600.0,
        fedramp=True,
    )


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({AUTH: {"chatgpt_account_id": "w"}, "chatgpt_account_id": "x"}, id="claim"),
        pytest.param({"chatgpt_account_id": "w", "org_id": "x"}, id="top level"),
        pytest.param({AUTH: {"workspace_id": "w"}}, id="workspace_id"),
        pytest.param({"organization_id": "w"}, id="organization_id"),
        pytest.param({AUTH: {"org_id": "w"}}, id="org_id"),
        pytest.param({"tenant_id": "w", "organizations": [{"id": "x"}]}, id="tenant_id"),
        pytest.param({"organizations": ["?", {"id": ""}, {"id": "w"}]}, id="first organization"),
    ],
)
def test_the_workspace_id_is_found_under_each_of_its_names(claims: JsonObject) -> None:
    assert read_claims(jwt(claims)).workspace_id == "w"


def test_the_user_id_is_found_under_its_second_name() -> None:
    assert read_claims(jwt({AUTH: {"user_id": "u"}})).user_id == "u"


def test_the_email_of_an_access_token_is_in_its_profile() -> None:
    assert read_claims(jwt({PROFILE: {"email": "a@example.com"}})).email == "a@example.com"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": "soon"}, id="words"),
        pytest.param({"exp": "inf"}, id="infinite"),
        pytest.param({"exp": -1}, id="negative"),
        pytest.param({"exp": True}, id="boolean"),
        pytest.param({"email": 7, AUTH: ["chatgpt_account_id"]}, id="wrong types"),
        pytest.param({AUTH: {"chatgpt_account_is_fedramp": "yes"}}, id="words for a boolean"),
    ],
)
def test_a_claim_of_the_wrong_kind_counts_as_none(claims: JsonObject) -> None:
    assert read_claims(jwt(claims)) == Claims()


@given(st.none() | st.text() | st.builds("a.{}.b".format, st.text(alphabet="abcXYZ09-_=é")))
def test_what_is_no_token_says_nothing(token: str | None) -> None:
    assert read_claims(token) == Claims()
