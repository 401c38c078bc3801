"""Secrets that nobody knows before they are said: the tokens of a sign-in or a refresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from codexrelay.protocol.raw import is_object, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cassettes.model import Interaction
    from harness.secrecy.secrets import Secrets

#: Paths of a sign-in service whose bodies hold tokens.
_SIGN_IN: Final = ("/oauth/token", "/oauth/revoke", "/deviceauth/token", "/deviceauth/usercode")
_FIELDS: Final = (
    "access_token",
    "refresh_token",
    "id_token",
    "token",
    "code",
    "code_verifier",
    "authorization_code",
    "device_auth_id",
    "user_code",
    "client_secret",
)


def learn_tokens(one: Interaction, secrets: Secrets) -> None:
    """Add the tokens and codes that a sign-in service was told or has told, and their claims."""
    if not urlsplit(one.request.uri).path.endswith(_SIGN_IN):
        return
    for body in (one.request.body, one.response.body):
        for name, value in _fields(body):
            if name in _FIELDS:
                secrets.add_token(value)


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of a JSON object, or of a form."""
    try:
        value = parse(body)
    except ValueError:
        yield from parse_qsl(body.decode("latin-1"))
        return
    if is_object(value):
        yield from ((name, text) for name, text in value.items() if isinstance(text, str))
