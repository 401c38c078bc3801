"""Settings that backends of every kind have: where they are, and how long a turn may take."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

import attrs

from codexrelay.setting import setting

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_FOUR_NUMBERS: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_LOGIN: Final = "in a user or password, / ? # @ and blanks are written %2F %3F %23 %40 %20"


def is_base_url(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    """Raises ValueError: it is no http or https URL to which a path can be appended."""
    if not _is_url(value):
        raise ValueError(
            "must be an http or https URL without query and blanks, such as https://host/path; "
            f"{_LOGIN}"
        )


def is_proxy(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    """Raises ValueError: it is neither `none` nor an http or https URL."""
    if value == "none":
        return
    if not _is_url(value) or urlsplit(value).path not in ("", "/"):
        raise ValueError(
            "must be none, or an http or https URL such as http://host:3128 or "
            f"http://user:password@host:3128; {_LOGIN}"
        )


def _is_url(value: str) -> bool:
    """Return whether all that reads URLs here finds the same host in it, and nothing behind a path.

    urllib alone drops line ends, and takes what stands before a second `@` for the password.
    """
    if not value.isprintable() or " " in value or value.count("@") > 1 or "\\" in value:
        return False
    try:
        url = urlsplit(value)
        named = url.scheme in ("http", "https") and _is_host(url.hostname or "") and url.port != 0
    except ValueError:  # a host or a port that is none
        return False
    return named and not {"?", "#"} & set(value) and "@" not in url.path


def _is_host(name: str) -> bool:
    """Return whether it can be one; raises ValueError for an address that is none."""
    if ":" in name or _FOUR_NUMBERS.fullmatch(name):
        return bool(ipaddress.ip_address(name))
    return _HOST_NAME.fullmatch(name) is not None


@attrs.frozen(kw_only=True)
class BudgetSettings:
    """`budgets`: seconds allowed to each phase of a turn.

    What each one means stands in `relay/budgets.py`.
    """

    connect_s: float = setting(
        10.0,
        "Seconds until the connection to the backend stands (TCP and TLS).",
        above=0,
        live=True,
    )
    headers_s: float = setting(
        120.0,
        "Seconds from the start of the attempt until the response's headers.",
        above=0,
        live=True,
    )
    first_event_s: float = setting(
        120.0, "Seconds from the headers until the first event.", above=0, live=True
    )
    silence_s: float | None = setting(
        None,
        "Seconds between two receives while the stream runs; null: the timeout above.",
        above=0,
        live=True,
    )
    turn_s: float = setting(
        3600.0, "Seconds for the whole turn, over all its attempts.", above=0, live=True
    )
