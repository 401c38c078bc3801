"""Every error that a client sees, in the OpenAI shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import structlog
from quart import Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from codexrelay.errors import RequestError
from codexrelay.protocol.openai_errors import error_body, error_object
from codexrelay.protocol.raw import Headers, JsonObject

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from codexrelay.relay.line import Client

_log = structlog.get_logger("codexrelay.server")


@attrs.frozen
class ErrorAnswer:
    """An answer that tells of an error, whoever sends it."""

    status: int
    error: JsonObject
    #: Headers besides those that tell what the body is.
    more: Headers = ()

    @property
    def body(self) -> bytes:
        """What is sent."""
        return error_body(self.error)

    async def send_to(self, client: Client) -> None:
        """Send it as the whole response."""
        body = self.body
        about = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
        await client.start(self.status, (*about, *self.more))
        await client.send(body)
        await client.end()

    def over_quart(self) -> Response:
        """Return it as quart sends it."""
        response = Response(self.body, self.status, content_type="application/json")
        for name, value in self.more:
            response.headers[name.decode("ascii")] = value.decode("ascii")
        return response


#: To new requests, once the relay is being stopped.
DRAINING: Final = ErrorAnswer(
    503,
    error_object(
        "codexrelay is being stopped; send the request again",
        type="service_unavailable_error",
        code="relay_shutting_down",
    ),
    more=((b"connection", b"close"),),
)
_UNFORESEEN: Final = ErrorAnswer(
    500,
    error_object(
        "codexrelay failed in a way nobody foresaw; its log has the details",
        type="server_error",
        code="internal_error",
    ),
)


def register(app: QuartTrio) -> None:
    """Teach `app` the shape of its errors."""

    # Async because quart runs other handlers in a thread.
    async def tell(error: Exception) -> Response:
        return answer_to(error).over_quart()

    app.register_error_handler(HTTPException, tell)
    app.register_error_handler(Exception, tell)


def answer_to(error: Exception) -> ErrorAnswer:
    """Return the answer to a request that has ended in `error`, before a response began.

    What nobody foresaw is logged with its traceback, and becomes a 500.
    """
    match error:
        case RequestError():
            return refusal(error)
        case HTTPException():
            return _not_found(error)
        case ExceptionGroup():  # of several, the first is told, as quart does
            return answer_to(error.exceptions[0])
        case _:
            _log.error("unforeseen error in a request", exc_info=error)
            return _UNFORESEEN


def refusal(error: RequestError) -> ErrorAnswer:
    """Return the answer to a request that is at fault."""
    told = error_object(error.message, type=error.type, code=error.code, param=error.param)
    return ErrorAnswer(error.status, told)


def _not_found(error: HTTPException) -> ErrorAnswer:
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
    more = [
        (b"allow", value.encode("latin-1"))
        for name, value in error.get_headers()
        if name.lower() == "allow"
    ]
    told = error_object(message, type="invalid_request_error", code=code)
    return ErrorAnswer(status, told, more)
