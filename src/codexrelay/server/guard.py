"""Who may talk to the relay: the local machine, the hosts and the keys that its owner named.

The relay holds its owner's accounts and listens on a port that every web page the owner opens can
reach. Two doors are shut: a page that was given a name resolving to this machine (DNS rebinding,
seen by a foreign `Host`), and a page that sends requests across origins (seen by `Origin`).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_AUTHORITY: Final = re.compile(
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)\.?(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
#: A client names the same host each time; what it makes up costs no more memory than so many heads.
_KEPT: Final = 32


@attrs.frozen
class _Authority:
    """`host[:port]`, in lower case; the host of IPv6 has its brackets."""

    host: str
    port: int | None


def check(
    *,
    hosts: Sequence[str],
    origins: Sequence[str],
    authorization: str | None,
    api_key: str | None = None,
    allowed_hosts: Collection[str],
    client_keys: Collection[str],
) -> RequestError | None:
    """Return why the request must be refused, or None.

    Args:
        hosts: every `Host`; there must be one, and no other behind it.
        origins: every `Origin`; only browsers send any. Each must be ours.
        authorization: `Authorization`; the other place for a client key is `x-api-key`.
        api_key: `x-api-key`.
        allowed_hosts: names besides the loopback ones, with a port if only that one is meant.
        client_keys: when there are any, the client must send one of them.
    """
    authority = _parse(hosts[0]) if len(hosts) == 1 else None
    if authority is None or not _is_allowed(authority, allowed_hosts):
        return RequestError(
            message="codexrelay answers to loopback names only; to reach it by another name, add "
            "that name to server.allowed_hosts",
            code="host_not_allowed",
            status=403,
        )
    if origins and not all(_is_same_origin(origin, authority) for origin in origins):
        return RequestError(
            message="codexrelay does not answer to web pages of another origin",
            code="origin_not_allowed",
            status=403,
        )
    if client_keys and not _is_known(_offered(authorization, api_key), client_keys):
        return RequestError(
            message="a client key is needed: send one of server.client_keys as "
            "`Authorization: Bearer KEY` or `x-api-key: KEY`",
            code="invalid_api_key",
            status=401,
        )
    return None


@lru_cache(maxsize=_KEPT)
def _parse(text: str) -> _Authority | None:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = match["port"]
    return _Authority(match["host"].lower(), int(port) if port else None)


def _is_allowed(authority: _Authority, allowed_hosts: Collection[str]) -> bool:
    if _is_loopback(authority.host):
        return True
    allowed = (_parse(entry) for entry in allowed_hosts)
    return any(
        entry is not None and entry.host == authority.host and entry.port in (None, authority.port)
        for entry in allowed
    )


@lru_cache(maxsize=_KEPT)
def _is_loopback(host: str) -> bool:
    if host in ("localhost", "[::1]"):
        return True
    try:
        # Strict: `127.1` and `0x7f.1`, which some resolvers take, are no addresses here.
        return ipaddress.IPv4Address(host).is_loopback
    except ipaddress.AddressValueError:
        return False


def _is_same_origin(origin: str, authority: _Authority) -> bool:
    """Compare host and port. The scheme may differ: TLS may end at a proxy before us."""
    scheme, _, rest = origin.partition("://")
    default_port = _DEFAULT_PORTS.get(scheme.lower())
    offered = _parse(rest)
    if default_port is None or offered is None:
        return False
    return (offered.host, offered.port or default_port) == (
        authority.host,
        authority.port or default_port,
    )


def _offered(authorization: str | None, api_key: str | None) -> list[str]:
    scheme, _, token = (authorization or "").partition(" ")
    offered = [token.strip()] if scheme.lower() == "bearer" else []
    if api_key is not None:
        offered.append(api_key.strip())
    return offered


def _is_known(offered: list[str], client_keys: Collection[str]) -> bool:
    # Every pair is compared, each in constant time: the time taken tells nothing about a key.
    pairs = [
        hmac.compare_digest(_encode(key), _encode(known))
        for key in offered
        for known in client_keys
    ]
    return any(pairs)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
