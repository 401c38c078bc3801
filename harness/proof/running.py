"""Cases on relays: one after the other in virtual time, in as many processes as there are cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import trio

from harness.proof import answers, loss, mishaps, stories, streams, sweep, virtual
from harness.proof.bridges import BRIDGES, PLAIN, Bridge, has_upstream_socket, shown, split
from harness.proof.oracle import ENDED_WELL, Upstream
from harness.proof.plays import performance_of_events, play_of
from harness.proof.stage import SETTLE_S, staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.proof.stage import Level, Stage
    from harness.proof.virtual import Clocks

Part: TypeAlias = Literal["loss", "long", "mishaps", "stories", "cancel"]
#: How much is run: a sample, what a machine does in minutes, everything in every way.
Extent: TypeAlias = Literal["quick", "full", "exhaustive"]

#: Cases that one relay serves before it is replaced by a fresh one.
_CASES_PER_RELAY: Final = 200
#: Of the loss property's cases, a quick run takes every so manieth; fewer with WebSockets.
_QUICK_LOSS: Final = 150
_QUICK_LOSS_OF_SOCKETS: Final = 600
_QUICK_MISHAPS: Final = 40
_QUICK_MISHAPS_OF_SOCKETS: Final = 16
_FULL_MISHAPS: Final = 1500
_QUICK_STORIES: Final = 20
_QUICK_STORIES_OF_SOCKETS: Final = 10
_FULL_STORIES: Final = 1000
#: Cases of each long stream, and of each that was found in a file.
_LONG: Final[dict[Extent, tuple[int, int]]] = {
    "quick": (5, 1),
    "full": (300, 20),
    "exhaustive": (2000, 400),
}
_QUICK_LONG_OF_SOCKETS: Final = 2
#: Between two steps that are hit. Turns with one body and whole relays that are cancelled go
#: through the same steps as others, mostly, so fewer of them do.
_QUICK_SWEEP: Final = 97
#: Of the sweeps with WebSockets, a quick run makes so many.
_QUICK_SWEEPS_OF_SOCKETS: Final = 10
_FULL_SWEEP_RARELY: Final = 4
#: Answers in files of which a quick run cuts some.
_QUICK_FOUND: Final = 24
_MEMORY_FOLDER: Final = Path("/dev/shm")


@attrs.frozen(kw_only=True)
class Failure:
    """A case that went wrong."""

    #: What `--case` takes to run it again.
    case: str
    problems: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of some cases."""

    part: Part
    bridge: Bridge
    cases: int
    failures: tuple[Failure, ...]
    #: Seconds of one core.
    took_s: float


@attrs.frozen(kw_only=True)
class Batch:
    """Some work for one process."""

    part: Part
    #: Of all its cases.
    bridge: Bridge = PLAIN
    #: Cases by their texts; or one sweep, by its text without a step.
    cases: tuple[str, ...]
    first: int = 1
    every: int = 1
    #: Of a sweep, how many steps are hit at most; None: as many as there are.
    most: int | None = None

    def run(self) -> Outcome:
        """Run it in this process."""
        began_s = time.process_time()
        with _folder() as folder:
            acts = {
                "loss": _cuts,
                "long": _cuts,
                "mishaps": _mishaps,
                "stories": _stories,
                "cancel": _sweep,
            }
            count, failures = virtual.run(partial(acts[self.part], self, Path(folder)))
        return Outcome(
            part=self.part,
            bridge=self.bridge,
            cases=count,
            failures=tuple(failures),
            took_s=time.process_time() - began_s,
        )


def _folder() -> tempfile.TemporaryDirectory[str]:
    place = _MEMORY_FOLDER if _MEMORY_FOLDER.is_dir() else None
    return tempfile.TemporaryDirectory(prefix="codexrelay-proof-", dir=place)


def batches(
    parts: Sequence[Part],
    extent: Extent,
    *,
    seed: int,
    found_in: Sequence[Path] = (),
    bridges: Sequence[Bridge] = BRIDGES,
) -> list[Batch]:
    """Return all the work, in an order that follows from `seed`.

    `found_in` are files and folders whose answers are cut as the long ones are.
    """
    found: list[Batch] = []
    names = [name for path in found_in for name in answers.below(path)] if "long" in parts else []
    if extent == "quick" and len(names) > _QUICK_FOUND:
        names = virtual.rng_of(seed, "found").sample(names, _QUICK_FOUND)
    names = list(filter(_ends_well, names))
    for bridge in bridges:
        if "loss" in parts:
            found += _loss_batches(bridge, extent, seed)
        if "long" in parts:
            found += _long_batches(bridge, names if bridge == PLAIN else (), extent, seed)
        if "mishaps" in parts:
            count = _mishaps_of(bridge, extent)
            texts = [str(mishaps.drawn(seed, number, bridge)) for number in range(count)]
            found += [Batch(part="mishaps", bridge=bridge, cases=some) for some in _some(texts, 50)]
        if "stories" in parts:
            count = _stories_of(bridge, extent)
            texts = [str(stories.drawn(seed, number, bridge)) for number in range(count)]
            found += [Batch(part="stories", bridge=bridge, cases=some) for some in _some(texts, 50)]
        if "cancel" in parts:
            found += _sweep_batches(bridge, extent, seed)
    virtual.rng_of(seed, "order").shuffle(found)
    return found


def _mishaps_of(bridge: Bridge, extent: Extent) -> int:
    if extent != "quick":
        return _FULL_MISHAPS
    return _QUICK_MISHAPS if bridge == PLAIN else _QUICK_MISHAPS_OF_SOCKETS


def _stories_of(bridge: Bridge, extent: Extent) -> int:
    if extent != "quick":
        return _FULL_STORIES
    return _QUICK_STORIES if bridge == PLAIN else _QUICK_STORIES_OF_SOCKETS


def _loss_batches(bridge: Bridge, extent: Extent, seed: int) -> Iterator[Batch]:
    rng = virtual.rng_of(seed, f"{shown(bridge)}loss")
    for stream in streams.STREAMS:
        every_way = extent == "exhaustive"
        cases = [str(case) for case in loss.cuts(stream, every_way=every_way, bridge=bridge)]
        if extent == "quick":
            share = _QUICK_LOSS if bridge == PLAIN else _QUICK_LOSS_OF_SOCKETS
            cases = rng.sample(cases, len(cases) // share)
        for some in _some(cases, _CASES_PER_RELAY):
            yield Batch(part="loss", bridge=bridge, cases=some)


def _long_batches(
    bridge: Bridge, names: Sequence[str], extent: Extent, seed: int
) -> Iterator[Batch]:
    of_long, of_found = _LONG[extent]
    if extent == "quick" and bridge != PLAIN:
        of_long = _QUICK_LONG_OF_SOCKETS
    for name in (*answers.LONG, *names):
        count = of_long if name in answers.LONG else of_found
        rng = virtual.rng_of(seed, f"{shown(bridge)}long", name)
        cases = loss.some_cuts(name, count, rng, bridge=bridge)
        for some in _some(list(map(str, cases)), _CASES_PER_RELAY):
            yield Batch(part="long", bridge=bridge, cases=some)


def _ends_well(name: str) -> bool:
    """Tell whether an answer is one: what ends as an error is repeated, which is another story."""
    attempt = Upstream.over_http(play_of(performance_of_events(answers.named(name))).wire)
    return attempt.terminal is not None and attempt.terminal.name in ENDED_WELL


def _sweep_batches(bridge: Bridge, extent: Extent, seed: int) -> Iterator[Batch]:
    rng = virtual.rng_of(seed, f"{shown(bridge)}cancel")
    swept = sweep.sweeps(bridge)
    if extent == "quick":
        count = len(swept) // 4 if bridge == PLAIN else _QUICK_SWEEPS_OF_SOCKETS
        swept = tuple(rng.sample(swept, count))
    for it in swept:
        every = 1
        if extent == "quick":
            every = _QUICK_SWEEP
        elif extent == "full" and (it.hit == "kill" or not it.streamed):
            every = _FULL_SWEEP_RARELY
        first = 1 + rng.randrange(every)
        yield Batch(part="cancel", bridge=bridge, cases=(str(it),), first=first, every=every)


def _some(cases: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for begin in range(0, len(cases), size):
        yield tuple(cases[begin : begin + size])


def run_all(work: Sequence[Batch], *, jobs: int, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Run all of it in `jobs` processes, 1 meaning this one; `tell` hears of each as it comes."""
    outcomes: list[Outcome] = []
    if jobs == 1:
        for batch in work:
            outcomes.append(batch.run())
            tell(outcomes[-1])
        return outcomes
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_calm_the_collector
    ) as pool:
        for done in as_completed([pool.submit(batch.run) for batch in work]):
            outcomes.append(done.result())
            tell(outcomes[-1])
    return outcomes


def cores() -> int:
    """Return how many processes can work at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _calm_the_collector() -> None:
    # As the relay's own start does: little of what a case leaves is garbage that only it can find.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def run_case(text: str) -> tuple[str, ...]:
    """Run one case by its text, alone on a fresh relay; return what must not be so.

    Raises:
        ValueError: the text names none.
    """
    bridge, told = split(text)
    if told.startswith("mishaps "):
        return _failed(Batch(part="mishaps", bridge=bridge, cases=(str(mishaps.parse(text)),)))
    if told.startswith("story "):
        return _failed(Batch(part="stories", bridge=bridge, cases=(str(stories.parse(text)),)))
    if "wire@" in told or "warm@" in told:
        return _failed(Batch(part="loss", bridge=bridge, cases=(str(loss.Cut.parse(text)),)))
    it, step = sweep.parse(text)
    return _failed(Batch(part="cancel", bridge=bridge, cases=(str(it),), first=step, most=1))


def _failed(batch: Batch) -> tuple[str, ...]:
    return tuple(problem for failure in batch.run().failures for problem in failure.problems)


async def _cuts(batch: Batch, folder: Path, clocks: Clocks) -> tuple[int, list[Failure]]:
    failures: list[Failure] = []
    cases = list(batch.cases)
    number = 0
    while cases:
        number += 1
        # With a WebSocket to the backend a turn has to have the account of the one before.
        accounts = 1 if has_upstream_socket(batch.bridge) else 2
        place = folder / str(number)
        async with staged(place, clocks, bridge=batch.bridge, accounts=accounts) as stage:
            await trio.sleep(SETTLE_S)
            base = stage.level()
            while cases:
                text = cases.pop(0)
                if problems := await _cut(text, stage, base):
                    failures.append(Failure(case=text, problems=tuple(problems)))
                    break  # what it has left behind would be held against others
    return len(batch.cases), failures


async def _cut(text: str, stage: Stage, base: Level) -> list[str]:
    virtual.settle_order(virtual.rng_of(text).getrandbits(32))
    return await loss.run_cut(loss.Cut.parse(text), stage, base)


async def _mishaps(batch: Batch, folder: Path, clocks: Clocks) -> tuple[int, list[Failure]]:
    failures = []
    for number, text in enumerate(batch.cases):
        case = mishaps.parse(text)
        if problems := await mishaps.run_mishaps(case, folder / str(number), clocks):
            failures.append(Failure(case=text, problems=tuple(problems)))
    return len(batch.cases), failures


async def _stories(batch: Batch, folder: Path, clocks: Clocks) -> tuple[int, list[Failure]]:
    failures = []
    for number, text in enumerate(batch.cases):
        story = stories.parse(text)
        if problems := await stories.run_story(story, folder / str(number), clocks):
            failures.append(Failure(case=text, problems=tuple(problems)))
    return len(batch.cases), failures


async def _sweep(batch: Batch, folder: Path, clocks: Clocks) -> tuple[int, list[Failure]]:
    failures, count = [], 0
    for text in batch.cases:
        it, _ = sweep.parse(f"{text}@1")
        swept = await sweep.sweep(
            it, folder, clocks, first=batch.first, every=batch.every, most=batch.most
        )
        count += swept.cases
        failures += [
            Failure(case=f"{text}@{step}", problems=tuple(problems))
            for step, problems in swept.problems.items()
        ]
    return count, failures
