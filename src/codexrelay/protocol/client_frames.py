"""What a client says on its WebSocket: a message read, and what it means for headers and body.

Source: wire notes 7 (Codex CLI 0.169). Whatever is said in a message is said for the rest of its
turn; what belongs to the WebSocket itself is taken out, so that the body is that of a POST.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    get_object,
    get_text,
    is_object,
    kind_of,
    parse,
)

_CREATE: Final = "response.create"
_PROCESSED: Final = "response.processed"
_INTERRUPT: Final = "response.interrupt"

#: Of the message, not of the request that it holds.
_OF_THE_MESSAGE: Final = frozenset({"type", "generate", "previous_response_id", "background"})
_METADATA: Final = "client_metadata"
#: How keys of `client_metadata` begin that stand for headers, which a message has not.
_STANDS_FOR_HEADER: Final = "ws_request_header_"
#: The one that is known, and the header that a POST would have.
_LITE: Final = "ws_request_header_x_openai_internal_codex_responses_lite"
_LITE_HEADER: Final = "x-openai-internal-codex-responses-lite"
#: When the client has sent the message; over HTTP nobody says so.
_STARTED: Final = "x-codex-ws-stream-request-start-ms"
#: Headers of a turn, which the handshake has of the turn that it was made for, if at all.
_OF_THE_TURN: Final = frozenset(
    {"x-codex-turn-metadata", "x-codex-turn-state", "x-codex-window-id", "x-openai-subagent"}
)


@attrs.frozen(kw_only=True)
class Create:
    """A response is asked for."""

    #: As that of a POST that wants a stream, but that it may go on from an earlier answer.
    body: JsonObject = attrs.field(repr=False)
    #: False only warms the backend up: the answer is created and completed, with no output.
    generate: bool = True
    #: The answer that `input` goes on from.
    previous_response_id: str | None = None
    #: Headers that the message says, lower-case, where a POST would have them.
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def over(self, handshake: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of the turn: the handshake's, and over them what is newer.

        A header that neither the handshake has nor belongs to a turn stays out: over HTTP it would
        not be there either.
        """
        newer = {
            name: value
            for name, value in self.headers.items()
            if name in handshake or name in _OF_THE_TURN or name == _LITE_HEADER
        }
        return {**handshake, **newer}


@attrs.frozen
class Processed:
    """The client has taken an answer in. Nothing is said to that."""


@attrs.frozen
class Interrupt:
    """The running response is to be ended."""


Said: TypeAlias = Create | Processed | Interrupt


def read(text: str | bytes) -> Said:
    """Return what a text message says.

    Raises:
        RequestError: 400, it is no message that a client can send; the WebSocket stays usable.
    """
    message = _parsed(text)
    kind = message.get("type")
    if kind == _PROCESSED:
        return Processed()
    if kind == _INTERRUPT:
        return Interrupt()
    if kind != _CREATE:
        told = repr(kind[:80]) if isinstance(kind, str) else kind_of(kind)
        raise RequestError(
            message=f"a message of the type {told} is unknown here; send one of {_CREATE}, "
            f"{_PROCESSED}, {_INTERRUPT}",
            param="type",
            code="unknown_message_type",
        )
    _check(message, "stream", bool, "a boolean")
    _check(message, "background", bool, "a boolean")
    if message.get("background"):
        raise RequestError(
            message="`background` responses are not available over a WebSocket",
            param="background",
            code="unsupported_parameter",
        )
    body = {key: value for key, value in message.items() if key not in _OF_THE_MESSAGE}
    told_headers = _without_headers(body)
    body["stream"] = True
    previous = _check(message, "previous_response_id", str, "a string")
    return Create(
        body=body,
        generate=_check(message, "generate", bool, "a boolean") is not False,
        previous_response_id=previous if isinstance(previous, str) else None,
        headers=told_headers,
    )


def _parsed(text: str | bytes) -> JsonObject:
    try:
        value = parse(text)
    except ValueError as error:
        # What was said of the place; nothing is quoted.
        told = "it is empty" if not text.strip() else str(error)
        raise RequestError(
            message=f"The message is not valid JSON: {told}. Send one JSON object.",
            code="invalid_json",
        ) from None
    if not is_object(value):
        raise RequestError(
            message=f"The message must be a JSON object, not {kind_of(value)}.",
            code="invalid_json",
        )
    return value


def _check(message: JsonObject, field: str, expected: type, name: str) -> Json:
    value = message.get(field)
    if value is not None and not isinstance(value, expected):
        raise RequestError(
            message=f"`{field}` must be {name}, not {kind_of(value)}",
            param=field,
            code="invalid_type",
        )
    return value


def _without_headers(body: JsonObject) -> dict[str, str]:
    """Take out of the metadata what stands for headers; return those that the message says."""
    told = get_object(body, _METADATA)
    framing = [key for key in told if key == _STARTED or key.startswith(_STANDS_FOR_HEADER)]
    if framing:
        body[_METADATA] = {key: value for key, value in told.items() if key not in framing}
    headers = {
        name: as_header
        for name, value in told.items()
        if name not in framing
        and (name.startswith("x-codex-") or name in _OF_THE_TURN)
        and isinstance(value, str)
        and (as_header := _as_header(value)) is not None
    }
    if get_text(told, _LITE) == "true":
        headers[_LITE_HEADER] = "true"
    return headers


def _as_header(value: str) -> str | None:
    """Return a text as a header's value is read from the wire, None where it can be none."""
    if not value or not value.isprintable():
        return None
    try:
        return value.encode("utf-8").decode("latin-1")
    except UnicodeEncodeError:
        return None
