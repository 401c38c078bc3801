"""The web application: every path, and what is checked before any of them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from quart import Response, request, websocket
from quart.routing import QuartMap, QuartRule

from codexrelay.server import chat, compact, errors, health, metrics, models, responses
from codexrelay.server import websocket as responses_socket
from codexrelay.server.admission import turned_away
from codexrelay.server.asgi import DeliveredResponse, RelayApp
from codexrelay.server.asked import Asked, asked_over, handshake_of
from codexrelay.server.hot_routes import hot_routes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.server.hot_routes import View
    from codexrelay.server.services import Services

#: Droid once left out `/v1` (reported); Codex CLI and pi use the backend's own path when told so.
_PREFIXES: Final = ("/v1", "", "/backend-api/codex")
# The views, by the paths that lead to them.
_RESPONSES: Final = "/responses"
_CHAT: Final = "/chat/completions"
_COMPACT: Final = "/responses/compact"
_MODELS: Final = "/models"
_MODEL: Final = "/models/<path:slug>"
_HEALTH: Final = "/healthz"
_METRICS: Final = "/metrics"
_WEBSOCKET: Final = "WebSocket"  # at the path of `_RESPONSES`
#: What is served below each of `_PREFIXES`.
_METHODS: Final = {
    _RESPONSES: "POST",
    _CHAT: "POST",
    _COMPACT: "POST",
    _MODELS: "GET",
    _MODEL: "GET",
}
#: The views that carry turns.
_HOT: Final[Mapping[str, View]] = {_RESPONSES: responses.answer, _CHAT: chat.answer}


def create_app(services: Services) -> RelayApp:
    """Return the application that serves `services`."""
    app = RelayApp(__name__, static_folder=None)
    # Turns have budgets of their own, bodies are counted while they are read.
    app.config |= {"RESPONSE_TIMEOUT": None, "BODY_TIMEOUT": None, "MAX_CONTENT_LENGTH": None}
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # no CORS: a preflight gets no permission
    app.url_map = _url_map()
    errors.register(app)
    _register_checks(app, services)
    _register_views(app, services)
    app.hot_routes = hot_routes(app.url_map, _HOT, services)
    return app


@cache
def _url_map() -> QuartMap:
    """Return which path and method lead to which view; it is the same for every application.

    werkzeug compiles code for each rule, which is most of what an application costs to make.
    """
    rules = [
        QuartRule(prefix + path, endpoint=path, methods=[method])
        for prefix in _PREFIXES
        for path, method in _METHODS.items()
    ]
    # `app.websocket` would give these the method GET, and a 405 would then offer that for POST,
    # although a GET that is no WebSocket is a 405 too.
    rules += [
        QuartRule(prefix + _RESPONSES, endpoint=_WEBSOCKET, websocket=True) for prefix in _PREFIXES
    ]
    rules += [QuartRule(path, endpoint=path, methods=["GET"]) for path in (_HEALTH, _METRICS)]
    return QuartMap(rules)


def _register_views(app: RelayApp, services: Services) -> None:
    def deliver(view: View) -> DeliveredResponse:
        asked = asked_over(request)
        return DeliveredResponse(lambda client: view(asked, client, services))

    @app.endpoint(_RESPONSES)
    async def post_responses() -> DeliveredResponse:
        return deliver(_HOT[_RESPONSES])

    @app.endpoint(_CHAT)
    async def post_chat() -> DeliveredResponse:
        return deliver(_HOT[_CHAT])

    @app.endpoint(_COMPACT)
    async def post_compact() -> Response:
        return await compact.answer(asked_over(request), services)

    @app.endpoint(_MODELS)
    async def get_models() -> Response:
        return await models.answer_list(services)

    @app.endpoint(_MODEL)
    async def get_model(slug: str) -> Response:
        return await models.answer_one(services, slug)

    @app.endpoint(_HEALTH)
    async def get_health() -> Response:
        return await health.answer(services)

    @app.endpoint(_METRICS)
    async def get_metrics() -> Response:
        return await metrics.answer(services)

    @app.endpoint(_WEBSOCKET)
    async def websocket_responses() -> None:
        await responses_socket.answer(services)


def _register_checks(app: RelayApp, services: Services) -> None:
    @app.before_request
    async def check_request() -> Response | None:
        return _turned_away(asked_over(request), services)

    @app.before_websocket
    async def check_websocket() -> Response | None:
        return _turned_away(handshake_of(websocket), services)


def _turned_away(asked: Asked, services: Services) -> Response | None:
    answer = turned_away(asked, services)
    return None if answer is None else answer.over_quart()
