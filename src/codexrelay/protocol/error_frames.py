"""Refusals that come as WebSocket messages: what over HTTP is an answer that is not 2xx.

`{"type":"error","status":429,"error":{…},"headers":{…}}`, also with `status_code`, also with the
error inside `body` (wire notes 7). An error that names no status is an event of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from codexrelay.protocol.raw import JsonObject, dump, get_number, get_object, get_text, parse_object

#: The backend has closed down what an older WebSocket may be used for.
CONNECTION_LIMIT: Final = "websocket_connection_limit_reached"
#: It does not know (any more) what the request goes on from.
NOT_FOUND: Final = "previous_response_not_found"


@attrs.frozen(kw_only=True)
class ErrorFrame:
    """An error that came as a message."""

    #: As an HTTP answer would have it; None: it is no more than an event.
    status: int | None
    #: Lower-case names.
    headers: Mapping[str, str]
    #: As an HTTP answer would have it.
    body: bytes
    code: str | None


def read(text: bytes) -> ErrorFrame | None:
    """Return what a message of the type `error` says; None: it is no JSON object."""
    try:
        message = parse_object(text)
    except ValueError:
        return None
    inside = get_object(message, "body")
    error = get_object(message, "error") or get_object(inside, "error")
    told: JsonObject = (
        {"error": error} if error else {n: v for n, v in message.items() if n != "type"}
    )
    headers = get_object(message, "headers") or get_object(inside, "headers")
    return ErrorFrame(
        status=_status_in(message) or _status_in(inside),
        headers={
            name.lower(): str(value)
            for name, value in headers.items()
            if isinstance(value, str | int | float)
        },
        body=dump(told),
        code=get_text(error, "code") or get_text(message, "code"),
    )


def _status_in(message: JsonObject) -> int | None:
    for name in ("status", "status_code"):
        status = get_number(message, name)
        if status is not None and 400 <= status < 600:
            return int(status)
    return None
