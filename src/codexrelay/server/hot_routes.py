"""The routes that carry turns, served below quart where the server hands an `Exchange` over.

Quart stays the owner of routing and of errors: which paths these are is read off its map, and what
goes wrong is answered as its handlers answer it. What is spared are its request, its contexts, its
signals and its tasks. `app` has the same views for a request that comes through quart.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from codexrelay.server import errors
from codexrelay.server.admission import turned_away
from codexrelay.server.asked import Asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypercorn.typing import HTTPScope
    from werkzeug.routing import Map

    from codexrelay.relay.line import Client
    from codexrelay.server.asgi import HotRoute
    from codexrelay.server.exchange import Exchange
    from codexrelay.server.services import Services

_log = logging.getLogger(__name__)


class View(Protocol):
    """Serves one request."""

    async def __call__(self, asked: Asked, client: Client, services: Services) -> None:
        """Answer `client`; an exception may leave before it has been told anything."""


def hot_routes(url_map: Map, views: Mapping[str, View], services: Services) -> dict[str, HotRoute]:
    """Return what serves each path that leads to one of `views`, which are known by endpoint.

    The paths hold for POST, and have no variable parts.
    """
    return {
        rule.rule: partial(_serve, views[rule.endpoint], services)
        for rule in url_map.iter_rules()
        if rule.endpoint in views
    }


async def _serve(view: View, services: Services, scope: HTTPScope, exchange: Exchange) -> None:
    """Serve one request; cancelled when its client leaves."""
    exchange.take()
    asked = Asked(tuple(scope["headers"]), exchange.body)
    try:
        if (answer := turned_away(asked, services)) is None:
            await view(asked, exchange, services)
        else:
            await answer.send_to(exchange)
    except Exception as error:  # noqa: BLE001 - the request border, as quart's
        if exchange.started:  # only the log can be told; the server cuts the response
            _log.exception("a response was cut by an unforeseen error")
        else:
            await errors.answer_to(error).send_to(exchange)
