"""One file per agent program: where it comes from, how to configure and call it.

Each module but `driver` exposes one constant `DRIVER`; a new program is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.compat.drivers.driver import Driver


def all_drivers() -> tuple[Driver, ...]:
    """Return every driver of this package, by name of its module."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names if name != "driver")
    return tuple(module.DRIVER for module in modules)
