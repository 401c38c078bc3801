"""The model list as clients want it: OpenAI's shape and Codex CLI's, in one body.

OpenAI clients read `data`; Codex CLI decodes `models`, its own catalogue entries, and complains
about a body without them (measured, Codex CLI 0.169). Neither minds the other's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.errors import RequestError
from codexrelay.protocol.raw import get_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import JsonObject


def openai_list(models: Sequence[JsonObject], *, created: int) -> JsonObject:
    """Return the body of `GET /v1/models`.

    `models` are catalogue entries and are passed on as they are, hidden ones too: Codex CLI looks
    up what it needs for reviews among them. `data` holds those that a person may choose.
    `created` is in Unix seconds; the catalogue knows no such date.
    """
    return {
        "object": "list",
        "data": [
            _openai_object(slug, created=created)
            for model in models
            if (slug := get_text(model, "slug")) and get_text(model, "visibility") in (None, "list")
        ],
        "models": list(models),
    }


def model_object(models: Sequence[JsonObject], slug: str, *, created: int) -> JsonObject:
    """Return the body of `GET /v1/models/{slug}`; a hidden model can be asked for.

    Raises:
        RequestError: 404, the catalogue has no such model.
    """
    if not any(get_text(model, "slug") == slug for model in models):
        raise RequestError(
            message=f"The model {slug!r} does not exist; GET /v1/models lists those that do.",
            param="model",
            code="model_not_found",
            status=404,
        )
    return _openai_object(slug, created=created)


def _openai_object(slug: str, *, created: int) -> JsonObject:
    return {"id": slug, "object": "model", "created": created, "owned_by": "openai"}
