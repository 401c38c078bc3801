"""What a relay of today answers otherwise than it is recorded, byte for byte.

What varies from run to run is left out of account: ids and moments are compared by what belongs
together (`harness.replay.varying`), a header that was redacted by its presence; not compared are
when a chunk came, and the system's own words for a connection that broke.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from harness.cassettes.terminal import is_event_stream
from harness.golden.again import answer_again
from harness.replay.varying import StandIns
from harness.secrecy.stand_ins import is_stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.cassettes.model import Cassette, Interaction, Response

#: Headers of the connection, or of the moment; the recorder stands behind those who make them.
_NOT_COMPARED: Final = frozenset(
    {
        *("date", "connection", "transfer-encoding", "content-length", "upgrade"),
        *("sec-websocket-accept", "sec-websocket-extensions"),
    }
)
#: Made of a body that has moments in it: it is there or not.
_OF_THE_BODY: Final = frozenset({"etag"})
_EVENT_END: Final = "\n\n"
#: The relay answers a warm-up itself, at a moment of its own.
_MADE: Final = re.compile(r'("created_at":)\d+')
#: Between two messages: never within one.
_BETWEEN: Final = "\n\0\n"
_BROKE: Final = re.compile(r"(the connection to the backend broke[^:\"]*:) [^\"]*")
#: Characters around the place where two bodies part.
_BEFORE, _AFTER = 60, 100


def differences(cassette: Cassette, *, settings_file: Path | None = None) -> tuple[str, ...]:
    """Return what is otherwise today, a line or a few for each answer; nothing if all is equal.

    For `settings_file` see `answer_again`.
    """
    again = answer_again(cassette, settings_file=settings_file)
    found = []
    for one in cassette.track("client"):
        name = f"number {one.number} ({one.request.method} {one.request.uri})"
        found += [f"{name}: {told}" for told in _differences(one, again.answers[one.number])]
    return (*found, *again.problems)


def _differences(before: Interaction, now: Interaction) -> Iterator[str]:
    was, is_ = before.response, now.response
    if was.status != is_.status:
        yield f"status {is_.status} instead of {was.status}"
    yield from _of_headers(was, is_)
    if was.stream.end != is_.stream.end:
        yield f"it ends by {is_.stream.end} instead of {was.stream.end}"
    yield from _of_bodies(was, is_)
    yield from _of_messages(was, is_)


def _of_headers(was: Response, is_: Response) -> Iterator[str]:
    there, here = dict(was.headers), dict(is_.headers)
    for name in sorted((there.keys() | here.keys()) - _NOT_COMPARED):
        if name not in here:
            yield f"header {name} is missing"
        elif name not in there:
            yield f"header {name} is new: {here[name]}"
        elif name in _OF_THE_BODY or is_stand_in(there[name]):
            continue
        elif _still(there[name]) != _still(here[name]):
            yield f"header {name}: {here[name]!r} instead of {there[name]!r}"


def _of_bodies(was: Response, is_: Response) -> Iterator[str]:
    there, here = _still_body(was), _still_body(is_)
    if there == here:
        return
    shorter = min(len(there), len(here))
    at = next((at for at in range(shorter) if there[at] != here[at]), shorter)
    where = f"at character {at}"
    if is_event_stream(was.headers, was.body):
        where += f", in event {there.count(_EVENT_END, 0, at) + 1}"
    yield f"the body differs {where}:"
    yield from _parting(there, here)


def _parting(there: str, here: str) -> Iterator[str]:
    shorter = min(len(there), len(here))
    at = next((at for at in range(shorter) if there[at] != here[at]), shorter)
    yield f"  recorded {there[max(0, at - _BEFORE) : at + _AFTER]!r}"
    yield f"  today    {here[max(0, at - _BEFORE) : at + _AFTER]!r}"


def _of_messages(was: Response, is_: Response) -> Iterator[str]:
    there, here = _messages(was), _messages(is_)
    if there == here:
        return
    shorter = min(len(there), len(here))
    at = next((at for at in range(shorter) if there[at] != here[at]), shorter)
    yield f"the messages differ from number {at + 1} on, of {len(here)} instead of {len(there)}:"
    yield from _parting(there[at] if at < len(there) else "", here[at] if at < len(here) else "")


def _messages(response: Response) -> list[str]:
    """Return what came over a WebSocket: each message, and the close frame."""
    came = [frame for frame in response.stream.frames if frame.direction == "in"]
    texts = [frame.data.decode("utf-8", "surrogateescape") for frame in came]
    # All in one, so that the same things have the same stand-ins in each.
    still = _MADE.sub(r"\1<moment>", _still_text(_BETWEEN.join(texts))).split(_BETWEEN)
    kinds = [frame.kind if frame.code is None else f"{frame.kind} {frame.code}" for frame in came]
    return [f"{kind} {text}" for kind, text in zip(kinds, still, strict=bool(came))]


def _still(text: str) -> str:
    return StandIns().text(text)


def _still_body(response: Response) -> str:
    # Byte for byte: what is no UTF-8 is kept apart from what is.
    return _still_text(response.body.decode("utf-8", "surrogateescape"))


def _still_text(text: str) -> str:
    return StandIns().text(_BROKE.sub(r"\1 <why>", text))
