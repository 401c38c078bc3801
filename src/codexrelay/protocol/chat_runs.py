"""Deltas of a Responses stream read by the dozen, for a Chat client.

A long answer is nearly all runs of deltas that differ in nothing but their text, their number and
their padding. A run is matched in one search and its texts are parsed together, at a tenth of what
it costs to parse each event. What is not written exactly as the backend writes it is read event by
event.

Source: the recorded streams know two orders of the members, that of the API (`_API`) and that of
the Codex backend (`_CODEX`: `type`, then by the alphabet).
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final, cast

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.raw import JsonObject, parse, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@attrs.define(eq=False)
class Run:
    """Deltas that follow one another and are about the same."""

    #: Of their events.
    name: str
    #: The members that say what all of them are about: an item, and where in it.
    about: JsonObject
    #: Each as it was sent; some may be empty.
    deltas: list[str]


#: How much is searched at once: what comes of it then is still in the processor's cache.
_SEARCHED_BYTES: Final = 16 * 1024

#: Fewer bytes than this are three or four events, which cost less one by one.
_WORTH_BYTES: Final = 1024

_NUMBER: Final = rb"(?:0|[1-9]\d{0,14}+)"
_DELTA: Final = rb',"delta":("[^"\\]*+(?:\\.[^"\\]*+)*+")'
#: Members that differ from event to event and say nothing, or say the same in all.
_SKIPPED: Final[Mapping[str, bytes]] = {
    "delta": _DELTA,
    "sequence_number": rb',"sequence_number":' + _NUMBER,
    "logprobs": rb',"logprobs":\[\]',
    "obfuscation": rb'(?:,"obfuscation":"\w*+")?+',
}
#: Members that say what a delta is about.
_KEPT: Final[Mapping[str, bytes]] = {
    "item_id": rb'(,"item_id":"[^"]*+")',
    "output_index": rb'(,"output_index":%b)' % _NUMBER,
    "content_index": rb'(,"content_index":%b)' % _NUMBER,
    "summary_index": rb'(,"summary_index":%b)' % _NUMBER,
}
_API: Final = "sequence_number item_id output_index content_index summary_index delta logprobs"
_CODEX: Final = (
    "content_index delta item_id logprobs obfuscation output_index sequence_number summary_index"
)
_ORDERS: Final = ((*_API.split(), "obfuscation"), tuple(_CODEX.split()))
#: Event -> the members that it has of those above.
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset({"sequence_number", "item_id", "output_index", "delta", "obfuscation", *more})
    for name, more in {
        "response.output_text.delta": ("content_index", "logprobs"),
        "response.reasoning_summary_text.delta": ("summary_index",),
        "response.function_call_arguments.delta": (),
        "response.custom_tool_call_input.delta": (),
    }.items()
}
_NAMES: Final = {b"event: " + name.encode(): name for name in _MEMBERS}


@attrs.frozen
class _Form:
    """One way in which events of a name are written."""

    #: Matches one such event, or else all that is left. Its groups: the members that are kept and
    #: the delta in their order, and last what is left. None of them is inside a repetition, where
    #: possessive ones make the `re` of Python 3.11 fail.
    pattern: re.Pattern[bytes]
    #: Which of the groups is the delta.
    delta: int


@functools.cache  # compiled when the first such event comes
def _forms(name: str) -> Sequence[_Form]:
    return [
        _form(name, [member for member in order if member in _MEMBERS[name]]) for order in _ORDERS
    ]


def _form(name: str, members: Sequence[str]) -> _Form:
    written = re.escape(name.encode())
    pattern = rb'event: %b\ndata: \{"type":"%b"%b\}\n\n|((?s:.+))' % (
        written,
        written,
        b"".join([(_KEPT.get(member) or _SKIPPED[member]) for member in members]),
    )
    captured = [member for member in members if member == "delta" or member in _KEPT]
    return _Form(re.compile(pattern), captured.index("delta"))


def read(whole: bytes) -> Iterator[Run | tuple[str, bytes]]:
    """Yield what whole events say, in order: runs of deltas, and others as name and data."""
    if b"\r" in whole:
        for raw in sse.split(whole):
            name, data = sse.read_parts(raw)
            if data is not None:
                yield name, data
        return
    at = 0
    # Up to where events are read one by one; all of them, if they are too few.
    apart_until = len(whole) if len(whole) < _WORTH_BYTES else 0
    while at < len(whole):
        if at >= apart_until:
            run_of = _NAMES.get(whole[at : whole.find(b"\n", at)])
            run, end = (None, at) if run_of is None else _run_at(whole, at, run_of)
            if run is not None:
                yield run
                at = end
                continue
            apart_until = end
        end = sse.next_end(whole, at)
        name, data = sse.read_parts(whole[at:end])
        if data is not None:
            yield name, data
        at = end


def _run_at(whole: bytes, at: int, name: str) -> tuple[Run | None, int]:
    """Return the run of events called `name` that begins at `at`, and its end.

    None if there is none; nor is there another before that end.
    """
    stop = min(len(whole), at + _SEARCHED_BYTES)
    for form in _forms(name):
        found = form.pattern.findall(whole, at, stop)
        left = found[-1][-1]
        if left:
            found.pop()
        if found:
            return _run(name, found, form.delta), stop - len(left)
    return None, at


def _run(name: str, found: Sequence[Sequence[bytes]], delta: int) -> Run | None:
    """Return what was `found` as one run; None if it is not about the same, or no JSON."""
    *columns, _ = zip(*found, strict=True)
    deltas = columns.pop(delta)
    if any(column.count(column[0]) < len(column) for column in columns):
        return None
    try:
        about = parse_object(b"{%b}" % b"".join([column[0] for column in columns])[1:])
        texts = parse(b"[%b]" % b",".join(deltas))
    except ValueError:  # whoever reads them one by one finds out in which
        return None
    return Run(name, about, cast("list[str]", texts))
