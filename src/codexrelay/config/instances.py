"""Further instances of the backend: blocks beside the first, shaped like it.

A key that such a block does not give is taken over from the first one, whatever source that has it
from: who moves the backend moves all of it. What says whose turns and which accounts a block has is
its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.config.keys import FIRST_BLOCK, Given, Origin, Reading, in_block

if TYPE_CHECKING:
    from collections.abc import Mapping


def number_of(block: str) -> int:
    """Return the number in the name of a further block, 2 of `openai_codex.2`."""
    return int(block.rpartition(".")[2])


def not_given(block: str, known: Mapping[str, Given]) -> Reading:
    """Return the keys of a further block that are missing in `known`, with what they are then.

    `known` is by full key path and has every key of the first block.
    """
    return Reading(
        found=tuple(
            _not_given(first, block, known)
            for first in known.values()
            if first.key.path[: len(FIRST_BLOCK)] == FIRST_BLOCK
            and in_block(first.key, block).name not in known
        )
    )


def _not_given(first: Given, block: str, known: Mapping[str, Given]) -> Given:
    key = in_block(first.key, block)
    match first.key.path[len(FIRST_BLOCK) :]:
        case ("weight",) | ("auth_path",) | (*_, "managed_oauth", "accounts"):
            own = key.default
        case (*_, "managed_oauth", "storage_path"):
            own = f"{first.value}.{number_of(block)}"
        case (*_, "managed_oauth", "allow_legacy_fallback"):
            auth_path = known.get(".".join(("backends", block, "auth_path")))
            own = auth_path is not None and auth_path.value is not None
        case _:
            taken_over = first.origin.kind != "default"
            origin = attrs.evolve(first.origin, taken_over=taken_over)
            return attrs.evolve(first, key=key, origin=origin)
    return Given(key=key, value=own, where=key.name, origin=Origin("default"))
