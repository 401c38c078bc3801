"""A backend of another kind, made of its block of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import httpx

from codexrelay.backends.openai.backend import OpenAIBackend
from codexrelay.backends.openai.key import Key
from codexrelay.backends.openai.lender import KeyLender
from codexrelay.backends.openai.listing import Listing
from codexrelay.backends.openai.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.backends.openai.settings import OpenAIBackendSettings


@attrs.frozen(kw_only=True)
class Opened:
    """A backend with all that turns need of it. Nothing of it must be closed but its transport."""

    backend: OpenAIBackend
    lender: KeyLender
    listing: Listing


def opened(
    name: str,
    settings: OpenAIBackendSettings,
    *,
    transport: httpx.AsyncBaseTransport,
    from_variable: str | None,
    wall_clock: Callable[[], float],
) -> Opened:
    """Return the backend of a block.

    Args:
        name: canonical name of the backend.
        settings: the block.
        transport: the way there, opened as the block says.
        from_variable: what the environment variable holds that `api_key_env` names; None: it is
            not set, or none is named.
        wall_clock: Unix seconds.
    """
    key = Key.of(name, settings, from_variable=from_variable)
    backend = OpenAIBackend(
        transport=transport,
        base_url=httpx.URL(settings.api_base_url),
        connect_s=settings.budgets.connect_s,
        wall_clock=wall_clock,
        place=Place.of(name, settings),
        key=key,
        further=dict(settings.headers),
    )
    return Opened(
        backend=backend,
        lender=KeyLender(name=name, key=key, wall_clock=wall_clock),
        listing=Listing(backend),
    )
