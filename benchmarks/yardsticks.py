"""What the relay stands beside: the limit of the machine (nginx) and of our runtime (trio)."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.nginx_package import find_nginx
from benchmarks.processes import launch, launch_printing_url
from benchmarks.subject import HOST, NGINX

if TYPE_CHECKING:
    import contextlib

    from benchmarks.subject import Subject

_HERE: Final = Path(__file__).resolve().parent


def start_script(
    stack: contextlib.ExitStack, name: str, script: str, *, upstream_url: str, folder: Path
) -> Subject:
    """Start a yardstick that is a Python program of this folder.

    Raises:
        MeasurementError: it did not start.
    """
    # -P: no module of this folder may take the place of one that trio imports.
    command = [sys.executable, "-P", str(_HERE / script), upstream_url]
    return launch_printing_url(stack, name, command, folder)


def start_nginx(stack: contextlib.ExitStack, *, upstream_url: str, folder: Path) -> Subject:
    """Start nginx, without privileges and with all its files below `folder`.

    Raises:
        MeasurementError: it is not installed and cannot be had, or did not start.
    """
    program = find_nginx()
    prefix = folder / NGINX
    prefix.mkdir()
    port = _free_port()
    values = {
        "USER": "user root;" if os.geteuid() == 0 else "",
        "PORT": str(port),
        "UPSTREAM": upstream_url.removeprefix("http://"),
    }
    template = (_HERE / "nginx.conf").read_text("utf-8")
    config = prefix / "nginx.conf"
    config.write_text(re.sub(r"\{\{(\w+)\}\}", lambda word: values[word[1]], template), "utf-8")
    command = [program, "-p", f"{prefix}/", "-c", str(config), "-e", "stderr"]
    url = f"http://{HOST}:{port}"
    return launch(
        stack, NGINX, command, prefix, look_for_url=lambda: url if _is_listening(port) else None
    )


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _free_port() -> int:
    """Return a port nobody listens on; if somebody takes it before nginx does, its start fails."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
