"""Tool-call reactors, one file each: what may look at the model's tool calls, or refuse one.

They run where `bypass_tool_call_reactor` is false. A reactor never executes, renames or repairs a
call. Each module exposes one `REACTOR`; a new file here is a new name for `tool_call_reactors`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from codexrelay.relay.reactors.reactor import deciding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.relay.reactors.reactor import ToolCallReactor

__all__ = ["deciding", "find_reactors"]


def find_reactors() -> Mapping[str, ToolCallReactor]:
    """Return the reactors by name."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if found.name != "reactor"
    )
    reactors: list[ToolCallReactor] = [module.REACTOR for module in modules]
    return {reactor.name: reactor for reactor in reactors}
