"""The error shape that OpenAI clients understand: `{"error": {message, type, code, param}}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


def error_object(
    message: str, *, type: str, code: str | None = None, param: str | None = None, **more: Json
) -> JsonObject:
    """Return the inner object. `more` are further keys, as upstream's `resets_at`."""
    return {"message": message, "type": type, "code": code, "param": param, **more}


def error_body(error: JsonObject) -> bytes:
    """Return the body of an error answer."""
    return dump({"error": error})
