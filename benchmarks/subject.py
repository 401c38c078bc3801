"""What is measured: the stub itself, a yardstick or a relay."""

from __future__ import annotations

import re
from typing import Final

import attrs

HOST: Final = "127.0.0.1"

DIRECT: Final = "direct"
NGINX: Final = "nginx"
BARE_TRIO: Final = "bare trio"
ONE_PUMP: Final = "one pump"
CODEXRELAY: Final = "codexrelay"

_LOOPBACK_URL: Final = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d+)(?:/v1)?/?")


class MeasurementError(Exception):
    """A start or a measurement gave nothing to report; the text goes under the table."""


@attrs.frozen
class Subject:
    """Something to measure that accepts connections."""

    name: str
    #: Without `/v1`.
    url: str
    #: None: no CPU and memory figures.
    pid: int | None = None
    #: From the start of the program to its open port; None for what was started elsewhere.
    start_s: float | None = None
    #: Resident memory before any request; None without `pid`.
    idle_rss_bytes: float | None = None
    #: Its clients speak WebSocket.
    websocket: bool = False


def loopback_url(text: str) -> str:
    """Return the base URL without `/v1`.

    Raises:
        ValueError: it leads away from this machine, where this load must never go by mistake.
    """
    match = _LOOPBACK_URL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text}: http://{HOST}:PORT is needed")
    return f"http://{HOST}:{match[1]}"


def running_relay(text: str) -> Subject:
    """Read `NAME=http://127.0.0.1:PORT[,PID]`: a relay that was started by hand.

    Raises:
        ValueError: the text is nothing of the kind.
    """
    name, _, address = text.partition("=")
    url, _, pid = address.partition(",")
    if not name or not url or (pid and not pid.isdigit()):
        raise ValueError(f"{text}: NAME=http://{HOST}:PORT[,PID] is needed")
    return Subject(name, loopback_url(url), int(pid) if pid else None)
