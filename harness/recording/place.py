"""What a cassette calls the places that were asked: no address of this machine means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.config.rules import is_loopback

if TYPE_CHECKING:
    import httpx

    from harness.cassettes.model import Headers

#: The relay, on the client track.
RELAY: Final = "relay"


def uri_at_relay(raw_path: bytes, query: bytes) -> str:
    """Return what a client asked the relay for."""
    path = raw_path.decode("latin-1")
    if not path.startswith("/"):  # as to a proxy: `http://host/path`
        path = "/" + path.partition("://")[2].partition("/")[2]
    return f"http://{RELAY}{path}" + (f"?{query.decode('latin-1')}" if query else "")


def uri_upstream(backend: str, url: httpx.URL) -> str:
    """Return what the relay asked a backend for: at its canonical name if it is on this machine."""
    if not is_loopback(url.host.strip("[]")):
        return str(url)
    return f"http://{backend}{url.raw_path.decode('latin-1')}"


def at(host: str, headers: Headers) -> Headers:
    """Return a request's headers as sent to `host`."""
    return tuple((name, host if name == "host" else value) for name, value in headers)
