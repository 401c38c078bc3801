"""Which proxy is on the way to a backend: what its block says, else the environment."""

from __future__ import annotations

import ipaddress
import os
import socket
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
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
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

    `NO_PROXY` is a list with commas. `*` excepts everything. Else each part is one of: a host, with
    all that is below it (`example.com`, `.example.com` and `*.example.com` mean the same); an
    address; a network (`10.0.0.0/8`), for hosts that are written as addresses. A host or an address
    may have a port behind it, and then stands for that port only, be it the scheme's own.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    if _is_loopback(host) or _is_excepted(host, port) or _is_excepted_by_system(host, port):
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


def _is_excepted(host: str, port: int) -> bool:
    """Tell whether `NO_PROXY` excepts a host, in its own words: see `proxy_for`."""
    excepted = urllib.request.getproxies_environment().get("no", "")
    return any(_excepts(one.strip().lower(), host, port) for one in excepted.split(","))


def _is_excepted_by_system(host: str, port: int) -> bool:
    """Tell whether the system's settings except a host, where there are such settings."""
    told = f"[{host}]" if ":" in host else host
    return bool(urllib.request.proxy_bypass(f"{told}:{port}"))


def _excepts(one: str, host: str, port: int) -> bool:
    address = _address(host)
    if "/" in one:
        try:
            network = ipaddress.ip_network(one, strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, of_port = _with_port(one)
    if of_port not in (None, port):
        return False
    if address is not None and (named := _address(name)) is not None:
        return address == named
    name = name.removeprefix("*").strip(".")
    return one == "*" or (name != "" and (host == name or host.endswith(f".{name}")))


def _with_port(one: str) -> tuple[str, int | None]:
    """Return a part of `NO_PROXY` without its port, and that; IPv6 has brackets if it has one."""
    if one.startswith("["):
        name, _, port = one[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = one.partition(":") if one.count(":") == 1 else (one, "", "")
    if not port:
        return name, None
    return (name, int(port)) if port.isascii() and port.isdigit() else (one, None)


def _is_loopback(host: str) -> bool:
    """Tell whether a host is this machine; `0.0.0.0` and `::` are too, where one connects to it."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as, as the system reads it; None: it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # `127.1`, `0x7f000001`: connecting takes them.
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
