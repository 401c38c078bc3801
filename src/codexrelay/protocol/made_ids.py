"""Ids of items that the relay makes for the answers of backends that give none.

They come back in the history, also when a session goes on with the Codex backend, which looks for
what it has made itself under such an id. So they are known again by their form, and taken off.
"""

from __future__ import annotations

from typing import Final

_MARK: Final = "_relay_"


def made_id(prefix: str, suffix: str, place: int) -> str:
    """Return the id of the item at `place` of the answer that `suffix` names; `prefix` is `msg`."""
    return f"{prefix}{_MARK}{suffix}_{place}"


def is_made(id_: str) -> bool:
    """Tell whether `id_` was made here."""
    prefix, mark, _ = id_.partition(_MARK)
    return bool(mark) and "_" not in prefix
