"""Which proxy is on the way to a backend: what its block says, else the environment."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import httpx

from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The value of a block's `proxy` that means no proxy, whatever the environment says.
NO_PROXY: Final = "none"
_BY_THE_SYSTEM: Final = "the system's settings"


@attrs.frozen
class Named:
    """A proxy as somebody wrote it."""

    #: May hold a password.
    url: str = attrs.field(repr=False)
    #: The key or variable where it stands.
    source: str


def proxy_for(url: str) -> Named | None:
    """Return the proxy that the environment names for `url`, None for a direct way.

    `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not; on macOS and
    Windows also what the system's settings say. Without a scheme it is an http proxy, as for other
    programs. To this machine itself there is never one: who sets such a variable thinks of the
    network.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    for kind in (parts.scheme, "all"):
        if named := proxies.get(kind):
            source = _variable(f"{kind}_proxy")
            return Named(named if "://" in named else f"http://{named}", source)
    return None


def ways(
    urls: Iterable[str],
    configured: str | None,
    *,
    key: str,
    proxy_for: Callable[[str], Named | None],
) -> dict[Origin, Proxy]:
    """Return the proxy on the way to each of `urls` that has one.

    Args:
        urls: what a block connects to.
        configured: the block's `proxy`. A URL counts for all `urls`, whatever `NO_PROXY` says.
        key: the full path of that key, for messages.
        proxy_for: what the environment says, asked where nothing is configured.

    Raises:
        ConfigError: a proxy that does not work.
    """
    if configured is not None and configured.strip().lower() == NO_PROXY:
        return {}
    found: dict[Origin, Proxy] = {}
    problems: dict[Problem, None] = {}
    for url in urls:
        named = proxy_for(url) if configured is None else Named(configured, key)
        if named is None:
            continue
        try:
            found[Origin.of(httpx.URL(url))] = Proxy.named(named.url, source=named.source)
        except ValueError as error:
            way_out = "none means no proxy"
            if configured is None:
                way_out = f"{key} may name one, or none"
            problems[Problem(named.source, f"{error}; {way_out}")] = None
    if problems:
        raise ConfigError(tuple(problems))
    return found


def _variable(name: str) -> str:
    """Return the variable from which the proxy was read, as it is written there."""
    if os.environ.get(name):
        return name
    spellings = (one for one, value in os.environ.items() if value and one.lower() == name)
    return next(spellings, _BY_THE_SYSTEM)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
