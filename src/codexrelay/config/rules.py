"""Rules that no single field can state: between keys, and about where tokens go."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from codexrelay.accounts.settings import DEFAULT_ISSUER
from codexrelay.backends.codex.settings import DEFAULT_API_BASE_URL
from codexrelay.config.settings import Settings
from codexrelay.errors import Problem

#: Full key path -> what a message calls the place its value comes from.
Places: TypeAlias = Mapping[str, str]
Rule: TypeAlias = Callable[[Settings, Places], Iterator[Problem]]

_HOST: Final = "server.host"
_CLIENT_KEYS: Final = "server.client_keys"
_API_BASE_URL: Final = "backends.openai_codex.api_base_url"
_ISSUER: Final = "backends.openai_codex.extra.codex.oauth_issuer"
_ACCOUNTS: Final = "backends.openai_codex.extra.codex.managed_oauth.accounts"
#: A random key of 16 characters (base64) has 96 bits; what is shorter was made up by a person.
_GOOD_KEY_LENGTH: Final = 16


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may resolve to anything
        return False


def _open_host(settings: Settings, places: Places) -> Iterator[Problem]:
    server = settings.server
    if not is_loopback(server.host) and not server.client_keys:
        yield Problem(
            places[_HOST],
            f"{server.host} can be reached from other machines, and anyone there could use your "
            f"accounts: set {_CLIENT_KEYS}, or leave {_HOST} at 127.0.0.1",
        )


def _no_account_allowed(settings: Settings, places: Places) -> Iterator[Problem]:
    if settings.backends.openai_codex.extra.codex.managed_oauth.accounts == ():
        yield Problem(places[_ACCOUNTS], "an empty list allows no account: list ids, or say all")


def _short_client_key(settings: Settings, places: Places) -> Iterator[Problem]:
    for number, key in enumerate(settings.server.client_keys, start=1):
        if len(key) < _GOOD_KEY_LENGTH:
            yield Problem(
                places[_CLIENT_KEYS],
                f"key {number} is shorter than {_GOOD_KEY_LENGTH} characters and may be guessed",
            )


def _foreign_backend(settings: Settings, places: Places) -> Iterator[Problem]:
    url = settings.backends.openai_codex.api_base_url
    if _origin(url) != _origin(DEFAULT_API_BASE_URL):
        yield Problem(
            places[_API_BASE_URL],
            f"access tokens go to {_origin(url)}, not to {_origin(DEFAULT_API_BASE_URL)}",
        )


def _foreign_issuer(settings: Settings, places: Places) -> Iterator[Problem]:
    url = settings.backends.openai_codex.extra.codex.oauth_issuer
    if _origin(url) != _origin(DEFAULT_ISSUER):
        yield Problem(
            places[_ISSUER],
            f"refresh tokens go to {_origin(url)}, not to {_origin(DEFAULT_ISSUER)}",
        )


#: The keys a rule reads -> the rule; it is asked only when all of them are sound.
PROBLEM_RULES: Final[Mapping[tuple[str, ...], Rule]] = {
    (_HOST, _CLIENT_KEYS): _open_host,
    (_ACCOUNTS,): _no_account_allowed,
}
WARNING_RULES: Final[Mapping[tuple[str, ...], Rule]] = {
    (_CLIENT_KEYS,): _short_client_key,
    (_API_BASE_URL,): _foreign_backend,
    (_ISSUER,): _foreign_issuer,
}


def _origin(url: str) -> str:
    """Return scheme, host and port, without a password the URL may hold."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}".lower()
