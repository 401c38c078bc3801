"""Under which address a client finds the relay."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from codexrelay.server import guard

if TYPE_CHECKING:
    from codexrelay.config.settings import ServerSettings


def address_of(server: ServerSettings) -> str:
    """Return the address of a relay with these settings, as a client on its machine writes it.

    Raises:
        ValueError: it is not known before the relay runs.
    """
    if server.port == 0:
        raise ValueError(
            "server.port is 0, so the relay finds a port when it starts: give --url the address "
            "that `codexrelay serve` prints, such as http://127.0.0.1:8787"
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


def unnamed_host(address: str, server: ServerSettings) -> str | None:
    """Return the host of an address if the relay refuses whoever calls it so, else None."""
    authority = urlsplit(address).netloc.rpartition("@")[2]
    refusal = guard.check(
        hosts=(authority,),
        origins=(),
        authorization=None,
        allowed_hosts=server.allowed_hosts,
        client_keys=(),
    )
    return None if refusal is None else re.sub(r":\d*$", "", authority)


def _host(host: str) -> str:
    """Return the host as it stands in a URL; every address of the machine is loopback's too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "[::1]" if address.version == 6 else "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)
