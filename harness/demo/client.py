"""The demo's agent: sends one request, and takes the answer as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.protocol import sse
from codexrelay.protocol.raw import get_list, get_object, get_text, is_object, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from codexrelay.protocol.raw import JsonObject

RESPONSES: Final = "/v1/responses"
CHAT: Final = "/v1/chat/completions"

#: What ends a chat stream; it is no JSON.
_DONE: Final = b"[DONE]"
#: The events of which a Responses stream must end with exactly one.
TERMINAL: Final = frozenset(
    {"response.completed", "response.failed", "response.incomplete", "error"}
)


@attrs.define(eq=False)
class Answer:
    """What came back for one request."""

    status: int
    headers: httpx.Headers = attrs.field(factory=httpx.Headers)
    body: bytearray = attrs.field(factory=bytearray)
    events: list[sse.Event] = attrs.field(factory=list)
    #: Seconds from the request until the first event, None if there was none; and until the end.
    first_event_s: float | None = None
    total_s: float = 0.0

    @property
    def objects(self) -> list[JsonObject]:
        """Return what the events say."""
        return [parse_object(event.data) for event in self.events if event.data != _DONE]

    @property
    def text(self) -> str:
        """Return the words of the answer."""
        return "".join(map(words_of, self.events))

    @property
    def terminal(self) -> list[str]:
        """Return the names of the terminal events of a Responses stream."""
        return [event.name for event in self.events if event.name in TERMINAL]

    @property
    def last(self) -> str:
        """Return the last event's name, or in a chat stream, where events have none, its data."""
        if not self.events:
            return ""
        return self.events[-1].name or self.events[-1].data.decode()

    @property
    def finish_reasons(self) -> list[str]:
        """Return the finish reasons of a chat stream."""
        reasons = [get_text(choice, "finish_reason") for choice in _choices(self.objects)]
        return [reason for reason in reasons if reason is not None]

    @property
    def error(self) -> JsonObject:
        """Return the error object of an answer that is one; an empty one if it is not."""
        return get_object(parse_object(self.body), "error")


async def ask(
    http: httpx.AsyncClient,
    path: str,
    body: JsonObject,
    *,
    headers: Mapping[str, str],
    hear: Callable[[str], None],
) -> Answer:
    """Send a request and return the whole answer; `hear` gets its words while they arrive.

    A client that leaves is one that is cancelled: its connection is closed at once.

    Raises:
        httpx.HTTPError: there was no answer, or not all of it.
    """
    asked_at_s = trio.current_time()
    async with http.stream("POST", path, json=body, headers=dict(headers)) as response:
        answer = Answer(response.status_code, response.headers)
        cutter = sse.EventCutter()
        async for block in response.aiter_bytes():
            answer.body += block
            for event in filter(None, map(sse.read, sse.split(cutter.feed(block)))):
                if answer.first_event_s is None:
                    answer.first_event_s = trio.current_time() - asked_at_s
                answer.events.append(event)
                if words := words_of(event):
                    hear(words)
    answer.total_s = trio.current_time() - asked_at_s
    return answer


def words_of(event: sse.Event) -> str:
    """Return the words that an event of either protocol brings."""
    if event.name == "response.output_text.delta":
        return get_text(parse_object(event.data), "delta") or ""
    if event.name or event.data == _DONE:
        return ""
    deltas = [get_object(choice, "delta") for choice in _choices([parse_object(event.data)])]
    return "".join(get_text(delta, "content") or "" for delta in deltas)


def tool_call(answer: Answer) -> JsonObject:
    """Return the first tool call of a chat stream, put together as a request wants it back."""
    call_id, name, arguments = "", "", ""
    for choice in _choices(answer.objects):
        for piece in get_list(get_object(choice, "delta"), "tool_calls"):
            if is_object(piece) and piece.get("index") == 0:
                function = get_object(piece, "function")
                call_id += get_text(piece, "id") or ""
                name += get_text(function, "name") or ""
                arguments += get_text(function, "arguments") or ""
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _choices(chunks: list[JsonObject]) -> Iterator[JsonObject]:
    for chunk in chunks:
        yield from filter(is_object, get_list(chunk, "choices"))
