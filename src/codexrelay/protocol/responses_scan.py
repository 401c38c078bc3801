"""What the relay wants to know of a Responses stream, found while the bytes pass.

Nearly every event is *quiet*: it says nothing that the relay needs. A run of quiet events is
recognised at once, without a loop over its events (`QUIET`); everything else is looked at event by
event (`look`) and noted (`Notes`).

Source: wire notes 3; recorded streams.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import events, sse
from codexrelay.protocol.endings import true_name
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    get_number,
    get_object,
    get_text,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Events of the stream that say something to the relay, besides those outside of `response.*`.
_TELLING: Final = events.TERMINAL | events.ANNOUNCEMENTS | {events.METADATA, events.ITEM_DONE}

#: As the backend writes it; `%b` is what its name is behind `response.`.
_EVENT: Final = rb"event: response\.(?:%b)\ndata: \{.*\}\n\n"


def _run_of(name: bytes) -> re.Pattern[bytes]:
    """Return what matches a run of events as the backend writes them, named `response.` and `name`.

    One pass, 0.13 us per event: its cost is the search for the end of each line. For many events of
    one name there is a faster way, `_end_of_texts`.
    """
    return re.compile(rb"(?:%b)*+" % (_EVENT % name))


def _one_of(names: frozenset[str]) -> bytes:
    told = sorted(name.removeprefix("response.") for name in names if name.startswith("response."))
    return "|".join(map(re.escape, told)).encode()


def _other_than(names: frozenset[str]) -> bytes:
    # Most are deltas of text, so that their name is tried first.
    return rb"output_text\.delta|(?!(?:%b)\n)[\w.]++" % _one_of(names)


DELTAS: Final = _run_of(rb"[\w.]++(?<=\.delta)")
QUIET: Final = _run_of(_other_than(_TELLING))
#: Once an announcement has named the response: the others say the same.
QUIET_ONCE_NAMED: Final = _run_of(_other_than(_TELLING - events.ANNOUNCEMENTS))
#: Announcements and a quiet event behind them, as most answers begin.
_OPENING: Final = re.compile(
    rb"(?:%b)*+%b" % (_EVENT % _one_of(events.ANNOUNCEMENTS), _EVENT % _other_than(_TELLING))
)
#: A block from here on is looked through by `_end_of_texts`.
_LONG_BYTES: Final = 32 * 1024
#: Where a delta of text begins behind another event.
_TEXT_BEHIND: Final = b"}\n\nevent: response.output_text.delta\ndata: {"
_END_BYTES: Final = len(b"}\n\n")
_NUMBER_KEY: Final = b'"sequence_number":'
_NUMBER: Final = re.compile(rb"\s*(\d{1,18})")

TURN_STATE_HEADER: Final = "x-codex-turn-state"


def only_deltas(whole: bytes) -> bool:
    """Tell whether the events of `whole` are all deltas, written as the backend writes them."""
    return DELTAS.fullmatch(whole) is not None and b"\r" not in whole


def end_of_quiet(whole: bytes, begin: int, quiet: re.Pattern[bytes]) -> int:
    """Return the index behind the quiet events (`QUIET`) that begin at `begin`; itself for none.

    There must be no CR in `whole`.
    """
    if len(whole) - begin >= _LONG_BYTES:
        begin = _end_of_texts(whole, begin, quiet)
    run = quiet.match(whole, begin)
    return begin if run is None else run.end()


def _end_of_texts(whole: bytes, begin: int, quiet: re.Pattern[bytes]) -> int:
    """Return an index behind quiet events, as far as they are nearly all deltas of text.

    It takes a third of the pattern's time for a block of a few hundred of them (measured): `bytes`
    skips what cannot match, and the pattern looks at every byte.
    """
    first, last = whole.find(_TEXT_BEHIND, begin), whole.rfind(_TEXT_BEHIND, begin)
    if last <= first:
        return begin
    first, last = first + _END_BYTES, last + _END_BYTES
    run = quiet.match(whole, begin, first)
    if run is None or run.end() < first:
        return begin
    # Between the first delta and the last, each has its three line breaks and there are no others,
    # so that nothing else can stand there.
    lines = 0
    # To take them away is the fastest way to count them; in parts, because memory for all of them
    # together would be mapped each time.
    for at in range(first, last, _LONG_BYTES):
        part = whole[at : min(at + _LONG_BYTES, last)]
        lines += len(part) - len(part.replace(b"\n", b""))
    deltas = 1 + whole.count(_TEXT_BEHIND, first, last - _END_BYTES)
    return last if lines == 3 * deltas else first


def opens_with_output(whole: bytes) -> bool:
    """Tell whether `whole` begins as most answers do: what is announced there has begun."""
    return _OPENING.match(whole) is not None and b"\r" not in whole


def pieces(whole: bytes, kind: re.Pattern[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield whole events in order: a run of a `kind` in one piece, each other event by itself.

    Beside each piece stands whether it is such a run.
    """
    if b"\r" in whole:
        for raw in sse.split(whole):
            yield raw, False
        return
    begin = 0
    while begin < len(whole):
        run = kind.match(whole, begin)
        end = begin if run is None else run.end()
        is_run = end > begin
        if not is_run:
            end = sse.next_end(whole, begin)
        yield whole[begin:end], is_run
        begin = end


@attrs.frozen
class Looked:
    """An event that was looked at."""

    name: str
    data: bytes
    #: The parsed data, None where nobody needs it.
    payload: JsonObject | None = None
    #: An error that only its form shows to be one (`inside`): no client would know it again.
    bare: bool = False


#: Events whose data is always parsed.
_PARSED: Final = events.TERMINAL | {events.METADATA, events.RATE_LIMITS}


def look(raw: bytes) -> Looked | None:
    """Return what the event `raw` is, None if it is nothing to the relay (a comment, a side note).

    The name is that of the event line, or the data's own `type` where the line has none of ours
    (some gateways write none, or `message`). A terminal event has its true name
    (`endings.true_name`).

    Raises:
        ValueError: an event of the stream holds no JSON object.
    """
    name, data = sse.read_parts(raw)
    if data is None:
        return None
    if name in _PARSED:
        return _looked(name, data, parse_object(data))
    if name.startswith("response."):
        # Worth no parsing: clients do that. A page or a text in its place would break them.
        if data[:1] != b"{" or data[-1:] != b"}":
            bare = data.strip()  # some servers end each WebSocket message with a line break
            if bare[:1] != b"{" or bare[-1:] != b"}":
                raise ValueError(name)
        return Looked(name, data)
    payload = inside(name, data)
    if payload is None:
        return None
    if payload is not (told := with_type(name, payload)):
        return Looked(events.ERROR, data, told, bare=True)
    return _looked(get_text(payload, "type") or name, data, payload)


def inside(name: str, data: bytes) -> JsonObject | None:
    """Return the data of an event whose line, `name`, is not one of ours; None if it says nothing.

    Raises:
        ValueError: it has no name and holds no JSON object.
    """
    if data == b"[DONE]" or not data:  # the sentinel of other backends
        return None
    try:
        return parse_object(data)
    except ValueError:
        if name:  # a side note in a language of its own
            return None
        raise


def with_type(name: str, payload: JsonObject) -> JsonObject:
    """Return what `inside` gave, as an `error` event if it is the error object of the whole API.

    Servers that speak more than Responses (vLLM, llama.cpp, LiteLLM) send it so in all streams.
    """
    error = payload.get("error")
    if name or not error or get_text(payload, "type"):
        return payload
    told: Json = {"message": error} if isinstance(error, str) else error
    return {**payload, "type": events.ERROR, "error": told}


def _looked(name: str, data: bytes, payload: JsonObject) -> Looked:
    name = true_name(name, payload) if name in events.TERMINAL else name
    return Looked(name, data, payload)


@attrs.define(eq=False)
class Notes:
    """What was found in one stream so far."""

    #: As the first announcement gave them; None before.
    response_id: str | None = None
    model: str | None = None
    created_at: float | None = None
    #: The data of each `response.output_item.done`, in order of arrival; parsed only when needed.
    items: list[bytes] = attrs.field(factory=list)
    #: The latest `codex.rate_limits` event.
    rate_limits: JsonObject | None = None
    #: The first turn state that the stream gave: a later one does not replace it (wire notes 2.2).
    turn_state: str | None = None
    #: What stands behind the latest `sequence_number` key.
    _number: bytes = b""

    def count(self, whole: bytes, begin: int = 0, end: int | None = None) -> None:
        """Remember the last sequence number in `whole`, or in the events from `begin` to `end`.

        Inside a JSON text the key's quotes are escaped, so that what is found is always a key.
        """
        at = whole.rfind(_NUMBER_KEY, begin, end)
        if at >= 0:
            at += len(_NUMBER_KEY)
            self._number = whole[at : at + 20]

    @property
    def next_number(self) -> int:
        """The sequence number for an event of ours."""
        match = _NUMBER.match(self._number)
        return int(match[1]) + 1 if match else 0

    def note(self, event: Looked) -> None:
        """Take what `event` says.

        Raises:
            ValueError: the announcement that names the response holds no JSON object.
        """
        name = event.name
        if name == events.ITEM_DONE:
            self.items.append(event.data)
        elif name in events.ANNOUNCEMENTS:
            # It repeats the request's instructions and tools: not parsed once more than needed.
            if self.response_id is None:
                self._announced(event.payload or parse_object(event.data))
        elif name == events.RATE_LIMITS:
            self.rate_limits = event.payload
        elif name == events.METADATA:
            self._metadata(get_object(event.payload or {}, "headers"))

    def _announced(self, event: JsonObject) -> None:
        response = get_object(event, "response")
        self.response_id = get_text(response, "id")
        self.model = get_text(response, "model")
        self.created_at = get_number(response, "created_at")

    def _metadata(self, headers: JsonObject) -> None:
        for name, value in headers.items():
            if name.lower() == TURN_STATE_HEADER and isinstance(value, str):
                self.turn_state = self.turn_state or value
