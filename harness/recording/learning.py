"""Secrets that nobody knows before they are said: keys of clients, tokens of a refresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

import attrs

from codexrelay.protocol.raw import is_object, parse
from harness.secrecy.stand_ins import masked_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.cassettes.model import Headers, Interaction
    from harness.secrecy.secrets import Secrets

#: Headers that hold a secret, and its kind.
_HEADERS: Final[Mapping[str, str]] = {
    "authorization": "token",
    "proxy-authorization": "token",
    "x-api-key": "key",
    "api-key": "key",
}
_ACCOUNT: Final = "chatgpt-account-id"
_COOKIES: Final = frozenset({"cookie", "set-cookie"})
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
#: What is shorter is made up by a person, such as the `unused` of a client that needs some key. To
#: look for it everywhere would spoil the recording of somebody whose key is `codexrelay`.
MIN_LENGTH: Final = 16


def learn(one: Interaction, secrets: Secrets) -> None:
    """Add the secrets that stand where secrets stand in an interaction, tokens' claims included."""
    for headers in (one.request.headers, one.response.headers):
        for value, kind in _in_headers(headers):
            secrets.add_token(value, kind)
    if urlsplit(one.request.uri).path.endswith(_SIGN_IN):
        for body in (one.request.body, one.response.body):
            for name, value in _fields(body):
                if name in _FIELDS:
                    secrets.add_token(value)


def without_made_up(one: Interaction) -> Interaction:
    """Return an interaction with a stand-in for each key that is too short to be one.

    A redactor would look for it everywhere: `codexrelay` would be found in every cassette.
    """
    request = attrs.evolve(one.request, headers=tuple(map(_masked, one.request.headers)))
    return attrs.evolve(one, request=request)


def _masked(header: tuple[str, str]) -> tuple[str, str]:
    name, value = header
    scheme, space, secret = value.rpartition(" ")
    if name not in _HEADERS or len(secret) >= MIN_LENGTH:
        return header
    return name, scheme + space + masked_text(secret)


def _in_headers(headers: Headers) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        if name == _ACCOUNT:
            yield value, "account-id"
        elif (kind := _HEADERS.get(name)) is not None:
            secret = value.rpartition(" ")[2]  # behind `Bearer`, if anything is
            if len(secret) >= MIN_LENGTH:
                yield secret, kind
        elif name in _COOKIES:
            parts = value.split(";")
            for part in parts if name == "cookie" else parts[:1]:
                secret = part.partition("=")[2].strip()
                if len(secret) >= MIN_LENGTH:
                    yield secret, "cookie"


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of a JSON object, or of a form."""
    try:
        value = parse(body)
    except ValueError:
        yield from parse_qsl(body.decode("latin-1"))
        return
    if is_object(value):
        yield from ((name, text) for name, text in value.items() if isinstance(text, str))
