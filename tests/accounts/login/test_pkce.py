from __future__ import annotations

from codexrelay.accounts.login.pkce import Pkce, new_pkce, new_state
from tests.fakes.login import counting_bytes


def test_the_challenge_is_that_of_the_standard() -> None:
    pkce = Pkce(verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")  # RFC 7636, appendix B
    assert pkce.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifier_and_state_are_as_long_as_codex_cli_s() -> None:
    assert len(new_pkce(counting_bytes).verifier) == 86
    assert len(new_state(counting_bytes)) == 43


def test_the_verifier_does_not_show() -> None:
    pkce = new_pkce(counting_bytes)
    assert pkce.verifier not in repr(pkce)
