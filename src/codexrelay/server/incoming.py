"""A request as the routes see it: an id, headers with lower-case names, a JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from codexrelay.protocol.model_id import read_model_id
from codexrelay.protocol.raw import JsonObject
from codexrelay.server.decode import parse_body, read_body

if TYPE_CHECKING:
    from quart import Request, Websocket

    from codexrelay.server.services import Services


@attrs.frozen(kw_only=True)
class Incoming:
    """One decoded client request. Its repr shows nothing that a client said."""

    id: str
    #: Lower-case names; of repeated headers the last one.
    headers: Mapping[str, str] = attrs.field(repr=False)
    #: Its `model` is the name that the backend knows.
    body: JsonObject = attrs.field(repr=False)
    #: The instance of the backend that the client's name of the model asks for, None for any.
    instance: str | None = attrs.field(default=None, repr=False)


async def receive(request: Request, services: Services) -> Incoming:
    """Read and decode a request.

    Raises:
        RequestError: too large, wrongly encoded, or no JSON object.
    """
    data = await read_body(request, max_bytes=services.settings.max_body_bytes)
    body, instance = parse_body(data), None
    if isinstance(named := body.get("model"), str):
        model = read_model_id(named)
        instance, body["model"] = model.instance, model.slug
    return Incoming(
        id=f"req_{services.new_id()}", headers=headers_of(request), body=body, instance=instance
    )


def values_of(request: Request | Websocket, name: bytes) -> list[str]:
    """Return every value that a header was sent with; `name` is in lower case."""
    return [
        value.decode("latin-1") for sent, value in request.scope["headers"] if sent.lower() == name
    ]


def headers_of(request: Request | Websocket) -> dict[str, str]:
    """Return a request's headers with lower-case names."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in request.scope["headers"]
    }
