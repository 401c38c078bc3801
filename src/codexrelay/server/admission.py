"""Who is served at all: asked before any view, on every way to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.server import errors
from codexrelay.server.incoming import refusal_of

if TYPE_CHECKING:
    from codexrelay.server.asked import Asked
    from codexrelay.server.errors import ErrorAnswer
    from codexrelay.server.services import Services


def turned_away(asked: Asked, services: Services) -> ErrorAnswer | None:
    """Return what is told to a client that is not served; None: it is."""
    if (refusal := refusal_of(asked, services)) is not None:
        return errors.refusal(refusal)
    return errors.DRAINING if services.drain.draining else None
