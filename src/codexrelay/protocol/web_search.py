"""The backend's own search tool, `web_search`: clients of the public API know an older name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.raw import get_text

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject


def renamed(tool: JsonObject) -> JsonObject:
    """Return a tool (or the choice of one) with the backend's name for it; itself if it has that.

    The older name is `web_search_preview`, also with a date behind.
    """
    if (get_text(tool, "type") or "").startswith("web_search_preview"):
        return tool | {"type": "web_search"}
    return tool
