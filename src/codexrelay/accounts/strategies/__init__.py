"""Selection strategies, one file each: which of several usable accounts takes a turn.

Each module exposes one `STRATEGY`; a new file here is a new value of `selection_strategy`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.accounts.strategies.strategy import Strategy


def find_strategies() -> Mapping[str, Strategy]:
    """Return the strategies by name."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if found.name != "strategy"
    )
    strategies: list[Strategy] = [module.STRATEGY for module in modules]
    return {strategy.name: strategy for strategy in strategies}
