"""What a figure is worth nothing without: when, on what, with which versions, how busy."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from typing import Final

_PACKAGES: Final = ("codexrelay", "trio", "httptools", "hypercorn")


def describe_machine() -> str:
    """Return date, cores and versions."""
    versions = [f"{package} {metadata.version(package)}" for package in _PACKAGES]
    return ", ".join(
        [
            time.strftime("%Y-%m-%d %H:%M"),
            f"{os.cpu_count()} cores",
            f"Linux {platform.release()}",
            f"Python {platform.python_version()}",
            *versions,
        ]
    )


def how_busy() -> str:
    """Return how many processes wanted to run in the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.1f}" for load in os.getloadavg())
