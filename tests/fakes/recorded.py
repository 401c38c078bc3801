"""A whole relay in this process that is being recorded."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from harness.cassettes import file
from harness.recording.recorder import Recorder
from harness.recording.worker import InThread
from harness.recording.writer import Said, Writer
from harness.secrecy.secrets import Secrets
from tests.fakes.relay import LiveRelay, relaying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from codexrelay.cli.process import World
    from harness.cassettes.model import Cassette, Interaction
    from harness.simulator import Simulator

NAME = "the-recording"


def recorder_into(folder: Path, *, secrets: Secrets | None = None, **more: object) -> Recorder:
    """Return a recorder that writes in a thread; without `secrets` it knows none: it learns."""
    writer = Writer(Said(origin="simulator"), Secrets() if secrets is None else secrets)
    given: dict[str, object] = {
        "folder": folder,
        "name": NAME,
        "worker": InThread(writer),
        "wall_clock": time.time,
    }
    return Recorder(**(given | more))  # type: ignore[arg-type]


def before(recorder: Recorder, world: World) -> World:
    """Return the world with a recorder in its seams."""
    return attrs.evolve(
        world,
        around_app=recorder.around_app,
        around_transport=recorder.around_transport,
        around_dial=recorder.around_dial,
    )


@attrs.frozen(kw_only=True)
class Recording:
    """A relay under test, and what is written of it. The cassette is there behind the block."""

    relay: LiveRelay
    recorder: Recorder

    @property
    def path(self) -> Path:
        return self.recorder.folder / f"{NAME}.yaml"

    @property
    def cassette(self) -> Cassette:
        return file.read(self.path)

    def upstream_of(self, client: Interaction) -> list[Interaction]:
        """Return what was asked upstream for the sake of a client's request."""
        return [one for one in self.cassette.track("upstream") if one.caused_by == client.number]


@asynccontextmanager
async def recording(
    folder: Path, simulator: Simulator | None = None, **more: object
) -> AsyncIterator[Recording]:
    """Run a recorded relay; `more` is for `relaying`. At the end of the block all is written."""
    recorder = recorder_into(folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.keep_writing)
        around = {"around": lambda world: before(recorder, world)}
        async with relaying(folder, simulator, **(more | around)) as relay:  # type: ignore[arg-type]
            yield Recording(relay=relay, recorder=recorder)
        nursery.cancel_scope.cancel()
