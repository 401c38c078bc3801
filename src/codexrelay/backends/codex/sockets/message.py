"""What a request is in a WebSocket message: its body, and what over HTTP stands in its headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.backends.codex.headers import LITE
from codexrelay.backends.codex.identity import name_for
from codexrelay.protocol.raw import JsonObject, get_object, parse_object

if TYPE_CHECKING:
    from codexrelay.backends.backend import UpstreamRequest
    from codexrelay.backends.codex.identity import Identity

_LITE: Final = f"ws_request_header_{LITE.replace('-', '_')}"
_STARTED: Final = "x-codex-ws-stream-request-start-ms"


def body_of(request: UpstreamRequest, identity: Identity, *, now_unix_s: float) -> JsonObject:
    """Return the body that goes into the message (wire notes 7, measured).

    A model of the lite kind is named so in the metadata and not in the handshake, which later turns
    share. Codex CLI also says when it began; where a request has metadata and goes out under its
    name, the relay does the same.
    """
    body = request.content or parse_object(request.body)
    added: JsonObject = {}
    if (lite := dict(request.headers).get(LITE)) is not None:
        added[_LITE] = lite
    is_codex = name_for(identity, request.headers).version is not None
    if is_codex and isinstance(body.get("client_metadata"), dict):
        added[_STARTED] = str(int(now_unix_s * 1000))
    if not added:
        return body
    return {**body, "client_metadata": get_object(body, "client_metadata") | added}
