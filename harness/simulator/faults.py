"""The ways in which an answer goes wrong, by name.

Four tables: `INSTEAD` answers in place of the model, `WITHIN` spoils the stream of a 200, both over
HTTP and over a WebSocket; `OF_MESSAGES` holds what only a WebSocket can do, `OF_HANDSHAKES` what
becomes of one that is asked for. A fault waits until something comes that it can happen to, others
behind it or not. What the bodies look like: wire notes 2.4, 3, 4.2 and 7, and observed frames.

Over a WebSocket a refusal is one error message with the status; a reset and a close without
an answer come without a close frame; a stream that ends too early is a close frame 1000; half an
event is half a frame; and pings are answered through every silence but the half-open one.

| fault | what the client gets |
| --- | --- |
| `429` | usage limit reached, resets in an hour |
| `429short` | usage limit reached, resets within two seconds |
| `429plain` | too fast: `Retry-After: 2` |
| `no_codex` | the account's plan has no Codex: 429 `usage_not_included` |
| `deactivated` | the workspace is deactivated: 402 `deactivated_workspace` |
| `401` | token expired (the token works again on the next request) |
| `400` | a refusal of the front end |
| `403html` | a web page of the edge |
| `500`, `503` | server error, overloaded |
| `drop_early`, `reset_early`, `hang_early` | connection closed, reset, silence: before any header |
| `reset_sending` | reset while the request's body is being sent (see `BEFORE`) |
| `hang_first` | headers, then silence |
| `failed_early`, `error_early` | overloaded, inside the 200, before any output |
| `limit_event`, `throttle_event` | usage limit, too fast: inside the 200, before any output |
| `failed`, `error_event` | failure after the first delta |
| `drop`, `eof`, `cut`, `hang` | after the first delta: reset, clean end, half an event, silence |
| `drop_created` | reset after `response.created` |
| `oversized` | all is well, but an event of 4 MiB comes after the first delta |
| `late` | all is well, but one more delta comes 50 ms after the terminal event |
| `garbage` | a web page and broken JSON after the first delta, then the rest |
| `no_usage`, `no_output` | all is well, but the terminal event has no `usage`, or `output: []` |

Over a WebSocket only; CODE is 1000, 1009 or 1011:

| fault | what the client gets |
| --- | --- |
| `closeCODE_early`, `closeCODE_created` | close frame before any event, after `response.created` |
| `closeCODE` | close frame after the first delta |
| `half_open_early`, `half_open` | no event, or no second delta; and never a pong again |
| `connection_limit` | `websocket_connection_limit_reached`, for the rest of the connection |
| `previous_not_found` | the connection has forgotten its responses |
| `binary` | the first delta is a binary message |

Instead of a WebSocket:

| fault | what the client gets |
| --- | --- |
| `upgrade400`, `upgrade404`, `upgrade426` | a refusal with that status |
| `upgrade401`, `upgrade429`, `upgrade403html`, `upgrade500`, `upgrade503` | as over HTTP |
| `upgrade_drop`, `upgrade_reset`, `upgrade_hang` | connection closed, reset, silence |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import dump, get_object, get_text
from harness.simulator.issuer import EXPIRED_401
from harness.simulator.quota import Quota
from harness.simulator.steps import (
    Answer,
    Binary,
    Chunk,
    Close,
    CloseFrame,
    Cut,
    Deafen,
    End,
    Hang,
    Pause,
    Reset,
    Step,
    reply,
    reply_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.steps import Headers
    from harness.simulator.stream import ResponseStream

OVERLOADED: Final[JsonObject] = {
    "code": "server_is_overloaded",
    "message": "Our servers are currently overloaded. Please try again later.",
}
#: The one refusal after which Codex CLI goes on over HTTP at once (wire notes 7).
UPGRADE_REQUIRED: Final[JsonObject] = {"detail": "Upgrade Required"}
#: Status and body for a workspace that is no more (wire notes 2.4, not confirmed there).
DEACTIVATED: Final[tuple[int, JsonObject]] = (402, {"detail": {"code": "deactivated_workspace"}})
#: The wait that a throttle asks for, in seconds.
DEFAULT_WAIT_S: Final = 2.0
_SHORT_S: Final = 1.0
_SERVER_ERROR: Final[JsonObject] = {
    "code": "server_error",
    "message": "An error occurred while processing your request. You can retry your request.",
}
_PAGE: Final = (
    b"<html>\n<head><title>%s</title></head>\n<body>\n<center><h1>%s</h1></center>\n"
    b"</body>\n</html>\n"
)
_OVERSIZED_CHARACTERS: Final = 4 * 2**20
_LATE_S: Final = 0.05
_CODES: Final[Mapping[int, str]] = {
    1000: "",
    1009: "message too big",
    1011: "keepalive ping timeout",
}
_FORBIDDEN: Final = b"403 Forbidden"
_BAD_GATEWAY: Final = b"502 Bad Gateway"


@attrs.frozen(kw_only=True)
class Situation:
    """What a fault may want to know."""

    quota: Quota
    now_unix_s: float
    #: The wait that a throttle asks for, in seconds.
    wait_s: float = DEFAULT_WAIT_S

    @property
    def codex_headers(self) -> Headers:
        """The `x-codex-*` headers of a spent account."""
        return self.quota.headers(now_unix_s=self.now_unix_s, used_percent=100)

    @property
    def limit_error(self) -> JsonObject:
        """The error object of a reached usage limit."""
        return self.quota.limit_error(now_unix_s=self.now_unix_s)


def limit_reached(situation: Situation) -> Answer:
    """Return the 429 of a reached usage limit."""
    return reply(429, {"error": situation.limit_error}, headers=situation.codex_headers)


def _limit_reached_for_a_moment(situation: Situation) -> Answer:
    # A whole second, because that is what the body can say; never one that has passed.
    resets_at_unix_s = math.ceil(situation.now_unix_s + _SHORT_S)
    quota = attrs.evolve(situation.quota, resets_at_unix_s=resets_at_unix_s)
    return limit_reached(attrs.evolve(situation, quota=quota))


def _throttle_words(situation: Situation) -> str:
    return f"Rate limit reached for this model. Please try again in {situation.wait_s:g}s."


def _throttled(situation: Situation) -> Answer:
    error = error_object(
        _throttle_words(situation), type="rate_limit_error", code="rate_limit_exceeded"
    )
    headers = (("retry-after", str(math.ceil(situation.wait_s))),)
    return reply(429, {"error": error}, headers=headers)


def _no_codex(_: Situation) -> Answer:
    error: JsonObject = {
        "type": "usage_not_included",
        "message": "To use Codex with your ChatGPT plan, upgrade to Plus.",
    }
    return reply(429, {"error": error})


def _server_error(_: Situation) -> Answer:
    return reply(500, {"error": _SERVER_ERROR | {"type": "server_error", "param": None}})


def _overloaded(_: Situation) -> Answer:
    return reply(503, {"error": OVERLOADED | {"type": "service_unavailable_error", "param": None}})


def _forbidden_page(_: Situation) -> Answer:
    return reply_bytes(
        403, _PAGE % (_FORBIDDEN, _FORBIDDEN), content_type="text/html; charset=UTF-8"
    )


#: Faults that answer in place of the model.
INSTEAD: Final[Mapping[str, Callable[[Situation], Answer]]] = {
    "429": limit_reached,
    "429short": _limit_reached_for_a_moment,
    "429plain": _throttled,
    "no_codex": _no_codex,
    "deactivated": lambda _: reply(*DEACTIVATED),
    "401": lambda _: reply(401, EXPIRED_401),
    "400": lambda _: reply(400, {"detail": "Instructions are not valid"}),
    "403html": _forbidden_page,
    "500": _server_error,
    "503": _overloaded,
    "drop_early": lambda _: (Close(),),
    "reset_early": lambda _: (Reset(),),
    "reset_sending": lambda _: (Reset(),),
    "hang_early": lambda _: (Hang(),),
}

#: Faults that come while the request is still arriving, hence are chosen by its path and bearer
#: alone: they meet side requests too. One that the prompt or chance asks for comes when the body is
#: here, which is too late to cut it off; and a small body has left the client before it is cut off.
BEFORE: Final = frozenset({"reset_sending"})


def chunk(event: JsonObject) -> Chunk:
    """Return an event as one chunk of the body, as the backend writes it."""
    name = get_text(event, "type") or ""
    return Chunk(sse.write(name, dump(event)), delta=name.endswith(".delta"))


Events: TypeAlias = "Iterator[JsonObject]"
Spoil: TypeAlias = "Callable[[Events, ResponseStream, Situation], Iterator[Step]]"


def unspoilt(events: Events) -> Iterator[Step]:
    """Yield the steps of a stream that nothing spoils."""
    yield from map(chunk, events)
    yield End()


def _handshake(events: Events) -> Iterator[Step]:
    """Yield `response.created` and `response.in_progress`."""
    yield chunk(next(events))
    yield chunk(next(events))


def _until_first_delta(events: Events) -> Iterator[Step]:
    """Yield what comes up to the first delta, that one included (everything, if there is none)."""
    for event in events:
        yield (step := chunk(event))
        if step.delta:
            return


def _after_first_delta(*steps: Step) -> Spoil:
    def spoil(events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
        yield from _until_first_delta(events)
        yield from steps

    return spoil


def _early(*steps: Step) -> Spoil:
    def spoil(_events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
        yield from steps

    return spoil


def _created(*steps: Step) -> Spoil:
    def spoil(events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
        yield chunk(next(events))
        yield from steps

    return spoil


def _cut(events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from _until_first_delta(events)
    yield Cut(chunk(next(events)).data)


def _failed(events: Events, stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from _until_first_delta(events)
    yield chunk(stream.failed(_SERVER_ERROR))
    yield End()


def _failed_early(events: Events, stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from _handshake(events)
    yield chunk(stream.failed(OVERLOADED))
    yield End()


def _error_event(events: Events, stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from _until_first_delta(events)
    error: JsonObject = _SERVER_ERROR | {"type": "server_error", "param": None}
    yield chunk(stream.event("error", error=error))
    yield End()


def _error_early(events: Events, stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    # The backend was seen to send both events, one after the other.
    yield from _handshake(events)
    error: JsonObject = OVERLOADED | {"type": "service_unavailable_error", "param": None}
    yield chunk(stream.event("error", error=error))
    yield chunk(stream.failed(OVERLOADED))
    yield End()


def _limit_event(events: Events, stream: ResponseStream, situation: Situation) -> Iterator[Step]:
    yield from _handshake(events)
    headers: JsonObject = {name.title(): value for name, value in situation.codex_headers}
    yield chunk(
        stream.event("error", error=situation.limit_error, headers=headers, status_code=429)
    )
    yield End()


def _throttle_event(events: Events, stream: ResponseStream, situation: Situation) -> Iterator[Step]:
    yield from _handshake(events)
    error: JsonObject = {
        "code": "rate_limit_exceeded",
        "message": _throttle_words(situation),
    }
    yield chunk(stream.failed(error))
    yield End()


def _garbage(events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from _until_first_delta(events)
    yield Chunk(_PAGE % (_BAD_GATEWAY, _BAD_GATEWAY) + b"\n")
    yield Chunk(sse.write("response.output_text.delta", b'{"type":"response.output_text.delta",'))
    yield from map(chunk, events)
    yield End()


def _oversized(events: Events, stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from _until_first_delta(events)
    yield chunk(
        stream.event(
            "response.image_generation_call.partial_image",
            item_id=stream.ids.of("ig"),
            output_index=0,
            partial_image_b64="A" * _OVERSIZED_CHARACTERS,
            partial_image_index=0,
        )
    )
    yield from map(chunk, events)
    yield End()


def _late(events: Events, stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    yield from map(chunk, events)
    yield Pause(_LATE_S)
    item_id = stream.ids.of("msg")
    yield chunk(
        stream.event(
            "response.output_text.delta",
            content_index=0,
            delta="too late",
            item_id=item_id,
            output_index=0,
        )
    )
    yield End()


def _completed(change: Callable[[JsonObject], object]) -> Spoil:
    """Let all go well, and change the `response` object of the terminal event."""

    def spoil(events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
        for event in events:
            if event["type"] == "response.completed":
                change(get_object(event, "response"))
            yield chunk(event)
        yield End()

    return spoil


#: Faults within a stream that began well.
WITHIN: Final[Mapping[str, Spoil]] = {
    "failed": _failed,
    "failed_early": _failed_early,
    "error_event": _error_event,
    "error_early": _error_early,
    "limit_event": _limit_event,
    "throttle_event": _throttle_event,
    "drop": _after_first_delta(Reset()),
    "drop_created": _created(Reset()),
    "oversized": _oversized,
    "late": _late,
    "eof": _after_first_delta(End()),
    "cut": _cut,
    "garbage": _garbage,
    "hang": _after_first_delta(Hang()),
    "hang_first": _early(Hang()),
    "no_usage": _completed(lambda response: response.pop("usage")),
    "no_output": _completed(lambda response: response.update(output=[])),
}


def _binary(events: Events, _stream: ResponseStream, _situation: Situation) -> Iterator[Step]:
    for event in events:
        step = chunk(event)
        if step.delta:
            yield Binary(dump(event))
            break
        yield step
    yield from unspoilt(events)


def _closes() -> Iterator[tuple[str, Spoil]]:
    for code, reason in _CODES.items():
        close = CloseFrame(code, reason)
        yield f"close{code}_early", _early(close)
        yield f"close{code}_created", _created(close)
        yield f"close{code}", _after_first_delta(close)


#: Faults that only a message can meet.
OF_MESSAGES: Final[Mapping[str, Spoil]] = {
    **dict(_closes()),
    "half_open_early": _early(Deafen()),
    "half_open": _after_first_delta(Deafen()),
    "binary": _binary,
}

#: Faults of the connection, which come before it looks into the message: a prompt cannot ask for
#: them.
CONNECTION_LIMIT: Final = "connection_limit"
FORGET: Final = "previous_not_found"
OF_CONNECTIONS: Final = frozenset({CONNECTION_LIMIT, FORGET})

#: Faults that meet the request for a WebSocket.
OF_HANDSHAKES: Final[Mapping[str, Callable[[Situation], Answer]]] = {
    "upgrade400": lambda _: reply(400, {"detail": "Bad Request"}),
    "upgrade401": INSTEAD["401"],
    "upgrade403html": INSTEAD["403html"],
    "upgrade404": lambda _: reply(404, {"detail": "Not Found"}),
    "upgrade426": lambda _: reply(426, UPGRADE_REQUIRED),
    "upgrade429": INSTEAD["429"],
    "upgrade500": INSTEAD["500"],
    "upgrade503": INSTEAD["503"],
    "upgrade_drop": INSTEAD["drop_early"],
    "upgrade_reset": INSTEAD["reset_early"],
    "upgrade_hang": INSTEAD["hang_early"],
}

#: What a request can meet, a message, a handshake.
AT_REQUESTS: Final = frozenset(INSTEAD) | frozenset(WITHIN)
AT_MESSAGES: Final = AT_REQUESTS | frozenset(OF_MESSAGES)
AT_HANDSHAKES: Final = frozenset(OF_HANDSHAKES)
FAULTS: Final = AT_MESSAGES | OF_CONNECTIONS | AT_HANDSHAKES
