"""`GET /v1/models` and `/v1/models/{id}`: one body for OpenAI clients and for Codex CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Response

from codexrelay.backends.backend import UpstreamRequest
from codexrelay.backends.codex import identity
from codexrelay.backends.codex.headers import request_headers
from codexrelay.protocol.faults import Fault
from codexrelay.protocol.models_list import model_object, openai_list
from codexrelay.protocol.raw import dump, get_list, is_object, parse_object
from codexrelay.relay.climb import Wish
from codexrelay.relay.unary import fetch

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from codexrelay.relay.turn import Relay
    from codexrelay.server.services import Services


async def answer_list(services: Services) -> Response:
    """Serve the catalogue: `data` in the OpenAI shape and `models` in Codex's, in one body."""
    models = await services.catalogue.models()
    created = int(services.wall_clock())
    return _json(openai_list(models, created=created))


async def answer_one(services: Services, slug: str) -> Response:
    """Serve one model.

    Raises:
        RequestError: 404, nothing of that name is in the catalogue.
    """
    models = await services.catalogue.models()
    return _json(model_object(models, slug, created=int(services.wall_clock())))


async def fetch_models(relay: Relay, *, session_id: str) -> list[JsonObject]:
    """Ask the backend for its catalogue, on any account.

    Raises:
        LookupError: there is no account, or the backend gave no catalogue; the message says which.
    """
    request = UpstreamRequest(
        method="GET",
        # Models whose `minimal_client_version` is higher are left out (wire notes 5).
        path=f"/models?client_version={identity.VERSION}",
        headers=request_headers({}, session_id=session_id, turn_state=None, accept="*/*"),
    )
    wish = Wish(route=relay.instances.members, aside=True)
    result = await fetch(lambda _, stripped: request, relay, wish)  # noqa: ARG005 - named by the seam
    if isinstance(result, Fault):
        raise LookupError(result.message)  # noqa: TRY004 - no type is wrong
    try:
        models = get_list(parse_object(result.body), "models")
    except ValueError as error:
        raise LookupError(f"the backend's catalogue is no JSON object: {error}") from None
    found = [model for model in models if is_object(model)]
    if not found:
        raise LookupError("the backend's catalogue is empty")
    return found


def _json(value: JsonObject) -> Response:
    return Response(dump(value), 200, content_type="application/json")
