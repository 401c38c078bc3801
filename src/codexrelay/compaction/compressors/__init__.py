"""Compressors of tool outputs, one file each: what can go from a text without being missed.

Each module exposes one `COMPRESSOR`; a new file here acts as soon as it is there. The seam is in
`compressor.py`, the driver in `codexrelay.compaction.compress`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from codexrelay.compaction.compressors.compressor import Role

if TYPE_CHECKING:
    from codexrelay.compaction.compressors.compressor import Compressor


@functools.cache
def find_compressors() -> tuple[Compressor, ...]:
    """Return the compressors, in the order in which they have their turns."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if found.name != "compressor"
    )
    found: list[Compressor] = [module.COMPRESSOR for module in modules]
    roles = list(Role)
    return tuple(sorted(found, key=lambda each: (roles.index(each.role), each.order, each.name)))
