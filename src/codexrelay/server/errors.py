"""Every error that a client sees, in the OpenAI shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from quart import Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from codexrelay.errors import RequestError
from codexrelay.protocol.openai_errors import error_body, error_object

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from codexrelay.protocol.raw import JsonObject

_log = structlog.get_logger("codexrelay.server")


def register(app: QuartTrio) -> None:
    """Teach `app` the shape of its errors.

    The handlers are async because quart runs others in a thread.
    """
    app.register_error_handler(RequestError, _refuse_request)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _fail)


def refuse(error: RequestError) -> Response:
    """Return the answer to a request that is at fault."""
    return response(
        error.status,
        error_object(error.message, type=error.type, code=error.code, param=error.param),
    )


async def _refuse_request(error: RequestError) -> Response:
    return refuse(error)


def response(status: int, error: JsonObject) -> Response:
    """Return an error answer."""
    return Response(error_body(error), status, content_type="application/json")


async def _refuse_http(error: HTTPException) -> Response:
    """What the router refuses: unknown paths, wrong methods."""
    status = error.code or 500
    message: str
    code: str | None
    match status:
        case 404:
            message, code = "there is nothing at this path; see /v1/models", "not_found"
        case 405:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or []))
            message, code = f"this path takes {allowed or 'another method'}", "method_not_allowed"
        case _ if isinstance(error, WebsocketMismatch):
            message, code = "no WebSocket is served at this path; see /v1/responses", "no_websocket"
        case _:
            message, code = error.description or error.name, None
    answer = response(status, error_object(message, type="invalid_request_error", code=code))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            answer.headers["Allow"] = value
    return answer


async def _fail(error: Exception) -> Response:
    """Request border: what nobody foresaw is logged with its traceback and becomes a 500."""
    _log.error("unforeseen error in a request", exc_info=error)
    return response(
        500,
        error_object(
            "codexrelay failed in a way nobody foresaw; its log has the details",
            type="server_error",
            code="internal_error",
        ),
    )
