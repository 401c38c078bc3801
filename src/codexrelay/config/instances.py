"""Further instances of the backend: blocks beside the first, shaped like it.

A key that such a block does not give is taken over from the first one, whatever source that has it
from: who moves the backend moves all of it. What says whose turns and which accounts a block has is
its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.config.keys import FIRST_BLOCK, KEYS, Given, Key, Reading, in_block

if TYPE_CHECKING:
    from collections.abc import Mapping


def number_of(block: str) -> int:
    """Return the number in the name of a further block, 2 of `openai_codex.2`."""
    return int(block.rpartition(".")[2])


def not_given(block: str, *, values: Mapping[str, object], places: Mapping[str, str]) -> Reading:
    """Return the keys of a further block that are missing in `values`, with what they are then.

    Both mappings are by full key path and have every key of the first block.
    """
    return Reading(
        found=tuple(
            _not_given(key, block, values, places)
            for key in KEYS.values()
            if key.path[: len(FIRST_BLOCK)] == FIRST_BLOCK
            and in_block(key, block).name not in values
        )
    )


def _not_given(
    first: Key, block: str, values: Mapping[str, object], places: Mapping[str, str]
) -> Given:
    key = in_block(first, block)
    match first.path[len(FIRST_BLOCK) :]:
        case ("weight",) | ("auth_path",) | (*_, "managed_oauth", "accounts"):
            own = first.field.default
        case (*_, "managed_oauth", "storage_path"):
            own = f"{values[first.name]}.{number_of(block)}"
        case (*_, "managed_oauth", "allow_legacy_fallback"):
            own = values.get(".".join(("backends", block, "auth_path"))) is not None
        case _:
            return Given(key=key, value=values[first.name], where=places[first.name])
    return Given(key=key, value=own, where=key.name)
