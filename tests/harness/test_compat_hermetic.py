"""Cutting a process off from the network: in a child, since it is for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.compat import command
from harness.compat.hermetic import SKIPPED, why_not

ROOT = Path(__file__).parents[2]
SCRIPT = """
import errno, os, socket
from harness.compat.hermetic import is_sealed, seal
user = os.getuid()
seal()
assert is_sealed() and os.getuid() == user
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=5).close()
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_a_sealed_process_reaches_loopback_and_nothing_else() -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    done = subprocess.run(
        (sys.executable, "-c", SCRIPT), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.stdout.strip(), done.stderr) == ("ENETUNREACH", "")


def in_a_place_without_namespaces(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> tuple[int, str]:
    monkeypatch.setattr(command, "is_sealed", lambda: False)
    monkeypatch.setattr(command, "why_not", lambda: "unshare: Operation not permitted")
    monkeypatch.setattr(command, "let_children_be_interrupted", lambda: None)
    monkeypatch.setattr(command, "find_all", lambda *_, **__: ({"sdk": ("true",)}, {}))
    monkeypatch.setattr(command, "_run", lambda *_, **__: ())
    result = CliRunner().invoke(command.compat, ["--clients", "sdk", *arguments])
    return result.exit_code, result.output


def test_a_run_that_must_be_sealed_and_cannot_be_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, told = in_a_place_without_namespaces(monkeypatch, ["--hermetic"])
    assert status == SKIPPED
    assert "skipped: it cannot be sealed here: unshare: Operation not permitted" in told


def test_a_run_that_may_be_sealed_and_cannot_be_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, told = in_a_place_without_namespaces(monkeypatch, ["--hermetic=auto"])
    assert status == 0
    assert "not sealed: unshare: Operation not permitted" in told


def test_a_target_that_runs_already_cannot_be_measured_in_a_sealed_run() -> None:
    arguments = ["--hermetic", "--target", "x=http://127.0.0.1:1"]
    result = CliRunner().invoke(command.compat, arguments)
    assert result.exit_code == 2
