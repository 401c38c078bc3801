"""The answers that are played, by name: small ones, long ones, files.

| name | what it is |
| --- | --- |
| `text`, `tool-call`, … | a small one, written in `streams` |
| `long-text`, `long-call`, `long-mixed` | a long one, mostly by the simulator |
| `PATH.sse` | a file that holds the body of an event stream |
| `PATH.chunks.txt` | a file with the data of one event in each line |
| `PATH.yaml#3` | what upstream answered to the third request of a cassette |

A path is written as in a URL, so that a name has no spaces.
"""

from __future__ import annotations

import random
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from codexrelay.protocol.raw import get_text, is_object, parse
from harness.cassettes import file
from harness.cassettes.errors import CassetteError
from harness.cassettes.terminal import is_event_stream
from harness.proof.streams import STREAMS, long_call
from harness.simulator.faults import chunk
from harness.simulator.ids import Ids
from harness.simulator.script import Message, Reasoning, Script
from harness.simulator.stream import ResponseStream
from harness.simulator.tools import Tool, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.cassettes.model import Cassette, Interaction
    from harness.simulator.script import Item

_BODY: Final = ".sse"
_LINES: Final = ".chunks.txt"
_CASSETTES: Final = (".yaml", ".yml")
_EVENT: Final = re.compile(rb".*?\r?\n\r?\n", re.DOTALL)
_MANY_DELTAS: Final = 300
_SEED: Final = 5


@cache
def named(name: str) -> tuple[bytes, ...]:
    """Return the events of an answer, byte for byte; the last one may lack its end.

    Raises:
        ValueError: there is none of that name.
    """
    if (written := STREAMS.get(name) or LONG.get(name)) is not None:
        return written()
    path, _, number = name.partition("#")
    try:
        body = _body(Path(unquote(path)), number)
    except (OSError, CassetteError) as error:
        raise ValueError(f"no answer can be read from {name!r}: {error}") from None
    events = tuple(_EVENT.findall(body))
    rest = body[sum(map(len, events)) :]
    return (*events, rest) if rest else events


def below(path: Path) -> Iterator[str]:
    """Yield the names of all answers in a file, or in the files below a folder, in order.

    Files that hold none, or something else, are passed over.
    """
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        name = quote(one.as_posix())
        if one.name.endswith((_BODY, _LINES)):
            yield name
        elif one.suffix in _CASSETTES:
            yield from (f"{name}#{found.number}" for found in _answers(one))


def _body(path: Path, number: str) -> bytes:
    if path.name.endswith(_BODY):
        return path.read_bytes()
    if path.name.endswith(_LINES):
        return b"".join(map(_framed, path.read_bytes().splitlines()))
    if path.suffix in _CASSETTES:
        for one in _cassette(path).interactions:
            if str(one.number) == number:
                return one.response.body
    raise ValueError(f"there is no answer {path.as_posix()}{'#' if number else ''}{number}")


#: Its answers are asked for one after the other.
@lru_cache(maxsize=4)
def _cassette(path: Path) -> Cassette:
    return file.read(path)


def _framed(data: bytes) -> bytes:
    value = parse(data) if data.startswith(b"{") else None
    name = get_text(value, "type") if is_object(value) else None
    return (b"" if name is None else b"event: %b\n" % name.encode()) + b"data: %b\n\n" % data


def _answers(path: Path) -> list[Interaction]:
    """Return what upstream has streamed in a cassette to model requests; of others, nothing."""
    try:
        cassette = _cassette(path)
    except CassetteError:
        return []
    return [
        one
        for one in cassette.track("upstream")
        if one.response.status == 200
        and urlsplit(one.request.uri).path.endswith("/responses")
        and is_event_stream(one.response.headers, one.response.body)
    ]


def _simulated(*items: Item) -> tuple[bytes, ...]:
    stream = ResponseStream(
        request={"model": "gpt-5.5", "input": []},
        ids=Ids(random.Random(_SEED)),
        now_unix_s=0.0,
        request_bytes=1000,
        user_id="user-sim",
    )
    return tuple(chunk(event).data for event in stream.events(Script(items=items)))


def _words(count: int) -> tuple[str, ...]:
    return tuple(f"w\u00f6rd {number} " for number in range(count))


def _call(tool: str, payload: str, *, custom: bool = False) -> ToolCall:
    return ToolCall(tool=Tool(name=tool, custom=custom), payload=payload)


def long_text() -> tuple[bytes, ...]:
    """Return the events of a text in 300 deltas."""
    return _simulated(Message(_words(_MANY_DELTAS)))


def long_mixed() -> tuple[bytes, ...]:
    """Return the events of a thought in two parts, a text and three tool calls, one custom."""
    return _simulated(
        Reasoning((_words(40), _words(20))),
        Message(_words(80)),
        _call("shell", '{"command":"' + "x" * 600 + '"}'),
        _call("apply_patch", '*** Begin "Patch"\n' * 40, custom=True),
        _call("shell", '{"command":"ls"}'),
    )


#: By name: long answers.
LONG: Final[dict[str, Callable[[], tuple[bytes, ...]]]] = {
    "long-text": long_text,
    "long-call": long_call,
    "long-mixed": long_mixed,
}
