"""Under which address a client finds the relay."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from codexrelay.config.settings import ServerSettings


def address_of(server: ServerSettings) -> str:
    """Return the address of a relay with these settings, as a client on its machine writes it.

    Raises:
        ValueError: it is not known before the relay runs.
    """
    if server.port == 0:
        raise ValueError(
            "server.port is 0, so the relay finds a port when it starts: give the address that "
            "`codexrelay serve` prints, such as http://127.0.0.1:8787"
        )
    return f"http://{_host(server.host)}:{server.port}"


def read_address(text: str) -> str:
    """Return the address that a person gave, with or without `/v1`.

    Raises:
        ValueError: it is none.
    """
    url = text.rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is read only now
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no address such as http://127.0.0.1:8787")
    return url


def _host(host: str) -> str:
    """Return the host as it stands in a URL; every address of the machine is loopback's too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "[::1]" if address.version == 6 else "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)
