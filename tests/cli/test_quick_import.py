"""What is kept away while the relay's modules are imported."""

from __future__ import annotations

import gc
import subprocess
import sys

from codexrelay.cli.quick_import import hidden, without_full_collections

_SERVE = """
import sys
from codexrelay.cli import main
main.get_command(None, "serve")
assert "structlog" in sys.modules and "httpx" in sys.modules
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("rich", "pygments")))
from rich.table import Table
"""


def test_the_server_is_imported_without_rich_and_rich_can_be_imported_afterwards() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SERVE], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_what_is_imported_already_stays() -> None:
    assert "gc" in sys.modules
    with hidden("gc"):
        assert sys.modules["gc"] is gc
    assert sys.modules["gc"] is gc


def test_the_collector_is_as_it_was_afterwards() -> None:
    before = gc.get_threshold()
    with without_full_collections():
        assert gc.get_threshold()[0] == before[0]
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
