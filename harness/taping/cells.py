"""Records a cell of the matrix as a cassette.

A cell of the matrix is run with a relay that records. What came of it is kept if the cell went as
it should: both tracks, with filler of the same length for the texts of the programs' makers.
Then a relay must answer the recording again as it did (`harness.golden`).
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.backends import codex
from codexrelay.protocol import frames as frames_of
from codexrelay.protocol import sse
from codexrelay.protocol.events import ITEM_DONE
from codexrelay.protocol.prompt import DEFAULT_TEXT
from codexrelay.protocol.raw import get_object, parse, parse_object
from codexrelay.protocol.tool_schema import BUILT_IN
from harness.cassettes import file
from harness.compat.cell import run_cell
from harness.compat.drivers.driver import NpmProgram
from harness.compat.on_cassette import cassette_of
from harness.golden.judging import differences
from harness.relay_process import recorder_into
from harness.secrecy.texts import Filler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import Cassette
    from harness.compat.cell import Cell
    from harness.compat.scenarios import Scenario

_NAME: Final = "taped"


class TapingError(Exception):
    """There is no recording of a cell; the text says why."""


async def record_cell(cell: Cell, folder: Path) -> Path:
    """Record one cell; return the cassette, `folder`/CLIENT/SCENARIO/ROW.yaml.

    Raises:
        TapingError: the cell did not go as it should, or its recording is not answered again as it
            was; an earlier cassette is left as it is.
    """
    name = f"{cell.variant.name} {cell.scenario.name}"
    with tempfile.TemporaryDirectory(prefix="codexrelay-taping-") as place:
        recorder = recorder_into(
            Path(place),
            name=_NAME,
            scenario=cell.scenario.name,
            client=cell.driver.name,
            version=version_of(cell),
        )
        result = await run_cell(cell, relay=recorder)
        if not result.ok:
            raise TapingError("\n".join([f"{name}: {result.problems[0]}", *result.traces]))
        recorded = file.read(Path(place) / f"{_NAME}.yaml")
    if not recorded.about.complete:
        raise TapingError(f"{name}: the recorder was not ended properly")
    ours = (*said_in(cell.scenario), *said_by_the_model(recorded))
    filled = without_texts(recorded, keep=ours)
    if found := await trio.to_thread.run_sync(differences, filled):
        raise TapingError("\n".join([f"{name}: it is not answered again as it was", *found]))
    path = cassette_of(cell, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.write(path, filled)
    return path


def version_of(cell: Cell) -> str:
    """Return the version of the cell's program."""
    program = cell.driver.program
    if isinstance(program, NpmProgram):
        return program.version
    return importlib.metadata.version(program.distribution)


def said_in(scenario: Scenario) -> tuple[str, ...]:
    """Return the texts of a conversation that are our own: the scenario's and the relay's."""
    contents = (text for text in scenario.files.values() if isinstance(text, str))
    ours = (scenario.prompt, scenario.answer, *scenario.marks, *contents)
    catalogue = (resources.files(codex) / "catalogue.json").read_bytes()
    return (*ours, DEFAULT_TEXT, *_texts_of(list(BUILT_IN)), *_texts_of(parse(catalogue)))


def said_by_the_model(cassette: Cassette) -> Iterator[str]:
    """Yield the texts of the items that the backend answered with: programs say them again."""
    for one in cassette.track("upstream"):
        events = [found.data for raw in sse.split(one.response.body) if (found := sse.read(raw))]
        frames = one.response.stream.frames
        events += [frame.data for frame in frames if frame.direction == "in" and frame.data]
        for data in events:
            if frames_of.type_of(data) == ITEM_DONE:
                yield from _texts_of(get_object(parse_object(data), "item"))


def _texts_of(value: Json) -> Iterator[str]:
    match value:
        case dict():
            yield from _texts_of(list(value.values()))
        case list():
            for inner in value:
                yield from _texts_of(inner)
        case str() if " " in value:
            yield value
        case _:
            pass


def without_texts(cassette: Cassette, *, keep: Iterable[str]) -> Cassette:
    """Return a cassette whose requests say nothing that is somebody else's work."""
    filler = Filler(keep=tuple(keep))
    return attrs.evolve(
        cassette,
        interactions=tuple(filler.interaction(one) for one in cassette.interactions),
    )
