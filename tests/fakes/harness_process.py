"""A command of the harness that serves, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROOT: Final = Path(__file__).parents[2]
_LISTENING: Final = re.compile(rb"harness listening on (http://127\.0\.0\.1:\d+)\n")


@attrs.define(eq=False)
class HarnessProcess:
    """A process that serves at `url`."""

    process: trio.Process
    url: str
    #: What it has said on stderr so far.
    told: bytes

    async def until_ended(self) -> int:
        """Read what it says to its end; return its exit status."""
        assert self.process.stderr is not None
        while block := await self.process.stderr.receive_some():
            self.told += block
        return await self.process.wait()


@asynccontextmanager
async def serving_relay(*arguments: object, home: Path) -> AsyncIterator[HarnessProcess]:
    """Run `python -m harness ARGUMENTS` until the block ends; it is there when its relay serves."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        stderr=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "HOME": str(home)},
    )
    assert process.stderr is not None
    try:
        told = b""
        while (found := _LISTENING.search(told)) is None or b"codexrelay listening" not in told:
            block = await process.stderr.receive_some()
            assert block, told
            told += block
        yield HarnessProcess(process, found[1].decode(), told)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):  # a killed process is gone at once
            await process.wait()
