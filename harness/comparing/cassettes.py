"""Two cassettes compared: what belongs together, and where it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlsplit

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.raw import Json, get_text, is_object, parse
from harness.cassettes.model import Track
from harness.cassettes.terminal import is_event_stream
from harness.comparing.values import (
    NOTHING,
    Difference,
    Sameness,
    aligned,
    compared,
    excerpts,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.cassettes.model import About, Cassette, Headers, Interaction, Response

#: Headers that are new in every answer, or that the body makes.
_VARYING: Final = frozenset(
    {"age", "cf-ray", "content-length", "date", "openai-processing-ms", "x-request-id"}
)
#: Of an event: random letters, so that nobody on the way can tell a word by its length.
_PADDING: Final = "obfuscation"


@attrs.frozen
class Options:
    """What counts as a difference."""

    #: Ids, moments and what else varies from run to run have to be equal too.
    exact: bool = False
    #: So have the times of chunks and frames.
    times: bool = False


@attrs.frozen
class Found:
    """What differs in one place of a cassette."""

    #: `client 1 POST /v1/responses`; empty: what the cassette says of itself.
    title: str
    differences: tuple[Difference, ...]


def differing(old: Cassette, new: Cassette, options: Options) -> tuple[Found, ...]:
    """Return what differs between two cassettes, in the order of the new one, track by track."""
    sameness = Sameness(options.exact)
    found = [Found("", tuple(_of_about(old.about, new.about, options)))]
    for track in get_args(Track):
        pairs = aligned(
            old.track(track),
            new.track(track),
            lambda one: (_asked(one, sameness), sameness.form(_read(one.request.body))),
            alike=lambda one, two: _asked(one, sameness) == _asked(two, sameness),
        )
        for _, left, right in pairs:
            if left is not None and right is not None:
                told = _of_interaction(left[0], right[0], options, sameness)
                found.append(Found(_title(right[0]), tuple(told)))
            elif (one := left or right) is not None:
                found.append(_one_sided(one[0], is_new=left is None))
    return tuple(one for one in found if one.differences)


def _one_sided(one: Interaction, *, is_new: bool) -> Found:
    status = f"an interaction, answered with {one.response.status}"
    told = (NOTHING, status) if is_new else (status, NOTHING)
    return Found(_title(one), (Difference("interaction", *told),))


def _title(one: Interaction) -> str:
    return f"{one.track} {one.number} {one.request.method} {urlsplit(one.request.uri).path}"


def _asked(one: Interaction, sameness: Sameness) -> tuple[str, bytes]:
    split = urlsplit(one.request.uri)
    return one.request.method, sameness.form(split.path)


def _of_about(old: About, new: About, options: Options) -> Iterator[Difference]:
    for field in attrs.fields(type(old)):
        was, now = getattr(old, field.name), getattr(new, field.name)
        moment = field.name in ("date", "began_unix_s")
        if was != now and (options.exact or not moment):
            yield Difference(f"metadata.{field.name}", str(was), str(now))


def _of_interaction(
    old: Interaction, new: Interaction, options: Options, sameness: Sameness
) -> Iterator[Difference]:
    asked, asks = old.request, new.request
    yield from _plain("request.uri", asked.uri, asks.uri, sameness)
    yield from _of_headers("request.headers", asked.headers, asks.headers, options, sameness)
    yield from _plain("request.coding", asked.coding, asks.coding, sameness)
    in_request = _of_values(asked.body, asks.body, "request.body", sameness)
    yield from _or_rewritten(in_request, asked.body, asks.body, "request.body", options)
    was, now = old.response, new.response
    yield from _plain("response.status", was.status, now.status, sameness)
    yield from _plain("response.reason", was.reason, now.reason, sameness)
    yield from _of_headers("response.headers", was.headers, now.headers, options, sameness)
    yield from _plain("response.coding", was.coding, now.coding, sameness)
    if is_event_stream(was.headers, was.body) and is_event_stream(now.headers, now.body):
        events = (_events(was.body, options), _events(now.body, options))
        in_answer = _of_entries("response.events", *events, sameness)
    else:
        in_answer = _of_values(was.body, now.body, "response.body", sameness)
    yield from _or_rewritten(in_answer, was.body, now.body, "response.body", options)
    in_frames = _of_entries(
        "response.frames", _frames(was, options), _frames(now, options), sameness
    )
    said, says = (b"".join(frame.data for frame in one.stream.frames) for one in (was, now))
    yield from _or_rewritten(in_frames, said, says, "response.frames", options)
    yield from _of_stream(was, now, options, sameness)


def _plain(
    where: str, old: str | int | None, new: str | int | None, sameness: Sameness
) -> Iterator[Difference]:
    if not sameness.same(old, new):
        yield Difference(where, *excerpts(_or_nothing(old), _or_nothing(new)))


def _or_nothing(value: str | int | None) -> str:
    return NOTHING if value is None or value == "" else str(value)


def _of_headers(
    where: str, old: Headers, new: Headers, options: Options, sameness: Sameness
) -> Iterator[Difference]:
    names = dict.fromkeys(name for name, _ in (*old, *new))
    for name in names:
        if name in _VARYING and not options.exact:
            continue
        was = [value for key, value in old if key == name]
        now = [value for key, value in new if key == name]
        if len(was) == len(now):
            for one, two in zip(was, now, strict=True):
                yield from compared(one, two, f"{where}.{name}", sameness, name)
        else:
            told = (", ".join(was) or NOTHING, ", ".join(now) or NOTHING)
            yield Difference(f"{where}.{name}", *excerpts(*told))
    if options.exact and sorted(old) == sorted(new) and old != new:
        yield Difference(where, "in one order", "in another")


def _of_values(old: bytes, new: bytes, where: str, sameness: Sameness) -> Iterator[Difference]:
    if old != new:
        yield from compared(_read(old), _read(new), where, sameness)


def _or_rewritten(
    found: Iterator[Difference], old: bytes, new: bytes, where: str, options: Options
) -> Iterator[Difference]:
    """Yield what was found; if nothing, and every byte counts, whether the same is told in others.

    Such as JSON with other spaces or another order of keys, and events with other ends of lines.
    """
    any_found = False
    for difference in found:
        any_found = True
        yield difference
    if options.exact and not any_found and old != new:
        yield Difference(where, "written in one way", "in another")


def _read(body: bytes) -> Json:
    """Return a body as JSON, else as a text."""
    try:
        return parse(body)
    except ValueError:
        return body.decode("utf-8", "backslashreplace")


@attrs.frozen
class _Entry:
    """An event or a frame."""

    name: str
    value: Json


def _told_by(data: bytes, options: Options) -> Json:
    value = _read(data)
    if is_object(value) and not options.exact:
        value.pop(_PADDING, None)
    return value


def _events(body: bytes, options: Options) -> list[_Entry]:
    cutter = sse.EventCutter(max_event_bytes=len(body) + 1)
    whole = cutter.feed(body)
    entries = []
    for raw in sse.split(whole):
        event = sse.read(raw)
        if event is None:
            entries.append(_Entry("comment", raw.decode("utf-8", "backslashreplace").strip()))
        else:
            value = _told_by(event.data, options)
            entries.append(_Entry(event.name or _type_of(value) or "data", value))
    if cutter.pending:
        entries.append(_Entry("cut event", _read(cutter.pending)))
    return entries


def _frames(response: Response, options: Options) -> list[_Entry]:
    entries = []
    for frame in response.stream.frames:
        value = _told_by(frame.data, options)
        name = f"{frame.direction} {_type_of(value) or frame.kind}"
        entries.append(_Entry(name if frame.code is None else f"{name} {frame.code}", value))
    return entries


def _type_of(value: Json) -> str | None:
    return get_text(value, "type") if is_object(value) else None


def _of_entries(
    where: str, old: Sequence[_Entry], new: Sequence[_Entry], sameness: Sameness
) -> Iterator[Difference]:
    pairs = aligned(
        old,
        new,
        lambda entry: (entry.name, sameness.form(entry.value)),
        alike=lambda one, two: one.name == two.name,
    )
    for place, left, right in pairs:
        inner = f"{where}[{place}]"
        if left is None or right is None:
            told = [NOTHING if one is None else _told(one[0]) for one in (left, right)]
            yield Difference(inner, *told)
        else:
            named = f"{inner} ({right[0].name})"
            yield from compared(left[0].value, right[0].value, named, sameness)


def _told(entry: _Entry) -> str:
    return f"{entry.name} {shown(entry.value)}"


def _of_stream(
    old: Response, new: Response, options: Options, sameness: Sameness
) -> Iterator[Difference]:
    was, now = old.stream, new.stream
    if len(was.ends) != len(now.ends):
        yield Difference("response.chunks", str(len(was.ends)), str(len(now.ends)))
    elif was.ends != now.ends and (options.exact or len(old.body) == len(new.body)):
        at = next(place for place, end in enumerate(was.ends) if end != now.ends[place])
        yield Difference(f"response.stream.ends[{at}]", str(was.ends[at]), str(now.ends[at]))
    yield from _plain("response.stream.end", was.end, now.end, sameness)
    yield from _plain("response.stream.complete", was.complete, now.complete, sameness)
    if options.times:
        yield from _of_times("head_at", _some(old.head_at_s), _some(new.head_at_s))
        yield from _of_times("stream.at", was.at_s, now.at_s)
        frames = [[frame.at_s for frame in stream.frames] for stream in (was, now)]
        yield from _of_times("stream.frames.at", *frames)


def _some(at_s: float | None) -> Sequence[float]:
    return () if at_s is None else (at_s,)


def _of_times(name: str, old_s: Sequence[float], new_s: Sequence[float]) -> Iterator[Difference]:
    """Yield the moments that differ; how many there are on each side is told elsewhere."""
    for place, (was_s, now_s) in enumerate(zip(old_s, new_s, strict=False)):
        if was_s != now_s:
            yield Difference(f"response.{name}[{place}]", f"{was_s} s", f"{now_s} s")
