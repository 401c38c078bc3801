"""A proxy on the way to a backend: where it is, what it is shown, and who named it."""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs
import httpx

from codexrelay.backends.transports.connection import Origin

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WHAT_WORKS: Final = "http://host:port and https://host:port work, also with user:password@"
_PROXY_AUTHENTICATION_REQUIRED: Final = 407


@attrs.frozen(kw_only=True)
class Proxy:
    """A proxy that makes tunnels (`CONNECT`)."""

    origin: Origin
    #: The key or variable that names it: what its user must change.
    source: str
    #: The value of `Proxy-Authorization`; None: no user and password were given.
    authorization: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def named(cls, url: str, *, source: str) -> Proxy:
        """Return the proxy of a URL.

        Raises:
            ValueError: it is none that works; the text does not quote it, for its password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(f"is no URL of a proxy: {_WHAT_WORKS}") from None
        if parts.scheme.startswith("socks"):
            raise ValueError(f"SOCKS proxies do not work here: {_WHAT_WORKS}")
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError(f"is no http or https URL of a proxy: {_WHAT_WORKS}")
        if not parts.hostname or port == 0 or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"must name a host and nothing behind its port: {_WHAT_WORKS}")
        try:
            host = httpx.URL(scheme=parts.scheme, host=parts.hostname).raw_host.decode("ascii")
        except (httpx.InvalidURL, ValueError):
            host = "%"
        if "%" in host:  # httpx quotes what can be in no name
            raise ValueError(f"its host can be none: {_WHAT_WORKS}")
        return cls(
            origin=Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]),
            source=source,
            authorization=_basic(parts.username, parts.password),
        )

    def __str__(self) -> str:
        return f"the proxy {self.origin} ({self.source})"

    def refusal(self, status: int, phrase: str, target: Origin) -> httpx.ProxyError:
        """Return the error for an answer that is no tunnel to `target`."""
        told = f"{self} makes no tunnel to {target}: {status} {phrase}".rstrip()
        if status == _PROXY_AUTHENTICATION_REQUIRED:
            told += (
                f"; write a user and password into {self.source}, as http://user:password@host:port"
                if self.authorization is None
                else f"; it does not take the user and password that stand in {self.source}"
            )
        return httpx.ProxyError(told)


class ProxyTimeout(httpx.ConnectTimeout):
    """No connection came about in time, and there is a proxy on the way; the text names it."""


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None and password is None:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
