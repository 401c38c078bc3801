"""One file per server program: how it is set up and called, and what its model says.

Each module but `kind` exposes one constant `KIND`; beside it stands a list of pinned packages.
What runs in the server's own interpreter (its model, its script) is in `programs`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.servers.kinds.kind import Kind


def all_kinds() -> tuple[Kind, ...]:
    """Return every kind of this package, by name of its module."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names if name != "kind")
    return tuple(module.KIND for module in modules)
