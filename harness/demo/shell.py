"""The shell beside the relay: its owner's commands, run as he would run them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import attrs
import trio

from harness.children import bare_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@attrs.frozen
class Ran:
    """A command that has ended."""

    status: int
    #: What it printed; if it failed, what it complained of.
    printed: str


async def codexrelay(home: Path, words: Sequence[str]) -> Ran:
    """Run `codexrelay` with these words and the configuration of the relay whose home this is.

    When this is cancelled, the command is killed.
    """
    config = str(home / "config.yaml")
    done = await trio.run_process(
        (sys.executable, "-m", "codexrelay", *words),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**bare_environment(home), "CODEXRELAY_CONFIG": config},
        cwd=home,
    )
    # Of one that works, the complaint is that tokens go elsewhere than to OpenAI: the point here.
    told = done.stdout if done.returncode == 0 else done.stderr
    return Ran(done.returncode, told.decode("utf-8", "replace"))
