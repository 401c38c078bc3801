"""What compression of tool outputs leaves, and what it costs, on the samples of its tests."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, get_args

from benchmarks.table import short
from codexrelay.compaction.compress import Compressed, Compressor
from codexrelay.compaction.compressors import find_compressors
from codexrelay.compaction.compressors.compressor import Context, sample_of, size_bytes
from codexrelay.compaction.settings import CompressionSettings, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from codexrelay.compaction.compressors.compressor import Compressor as Member
    from codexrelay.protocol.raw import JsonObject

_Result = TypeVar("_Result")

#: The name of this measurement at the command line.
NAME: Final = "compression"
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
_SAMPLES: Final = Path(__file__).resolve().parents[1] / "tests" / "compaction" / "samples"
_HEAD: Final = ("sample", "bytes", *(f"{level}: left, ratio, µs/KB" for level in LEVELS))
#: Each compressor is measured on a text of this size, made of as much of a sample as it takes.
_LARGE_BYTES: Final = 250_000


def compression_tables(rounds: int) -> str:
    """Return a table of what the whole work leaves of each sample, and one for each compressor.

    A time is CPU time of the thread, the median of `rounds` after one that does not count.
    """
    samples = read_samples()
    whole = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    whole += [_line(_whole(name, text, rounds)) for name, text in samples.items()]
    head = ("compressor, sample", *(f"{level}: ratio, µs/KB" for level in LEVELS))
    each = [_line(head), _line(["---"] * len(head)), *map(_line, _each(samples, rounds))]
    return "\n".join(whole) + "\n\n" + "\n".join(each)


def read_samples() -> Mapping[str, str]:
    """Return the samples by file name."""
    files = sorted(path for path in _SAMPLES.iterdir() if path.suffix in (".txt", ".log"))
    return {path.name: path.read_bytes().decode() for path in files}


def compressed(text: str, level: Level) -> Compressed:
    """Run the whole work on one output."""
    call: JsonObject = {
        "id": "c",
        "type": "function",
        "function": {"name": "bash", "arguments": "{}"},
    }
    body: JsonObject = {
        "messages": [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": text},
        ]
    }
    settings = CompressionSettings(level=level, min_bytes=0, time_budget_ms=1e9)
    return finished(Compressor().steps(body, settings, time.thread_time))


def _whole(name: str, text: str, rounds: int) -> Iterator[str]:
    size = size_bytes(text)
    yield from (name, f"{size:,}")
    for level in LEVELS:
        left = size - compressed(text, level).saved_bytes
        took = _took(partial(compressed, text, level), size, rounds)
        yield f"{left:,}, {left / size:.2f}, {short(took)}"


def _each(samples: Mapping[str, str], rounds: int) -> Iterator[list[str]]:
    """Yield a line for each compressor and the sample that it makes shortest."""
    for member in find_compressors():
        run = partial(_run, member)
        fitting = [
            name for name, text in samples.items() if member.fits(sample_of(text), Context())
        ]
        left = {name: len(run(samples[name], "balanced")) / len(samples[name]) for name in fitting}
        name = min(left, key=left.__getitem__)
        # A document must stay one; what has lines may be longer.
        times = 1 if member.name == "json" else _LARGE_BYTES // len(samples[name]) + 1
        text, cells = samples[name] * times, [f"{member.name}, {name}"]
        for level in LEVELS:
            ratio = size_bytes(run(text, level)) / size_bytes(text)
            took = _took(partial(run, text, level), size_bytes(text), rounds)
            cells.append(f"{ratio:.2f}, {short(took)}")
        yield cells


def _run(member: Member, text: str, level: Level) -> str:
    return finished(member.run(text, Context(), level))


def _took(work: Callable[[], object], size: int, rounds: int) -> float:
    """Return the CPU time in µs for each 1,024 bytes."""
    seconds = []
    for _ in range(rounds + 1):
        begun_s = time.thread_time()
        work()
        seconds.append(time.thread_time() - begun_s)
    return statistics.median(seconds[1:]) * 1e6 / (size / 1024)


def finished(steps: Generator[None, None, _Result]) -> _Result:
    """Run steps to their end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
