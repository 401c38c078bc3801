"""Agent programs that can be told of the relay, one file each.

Each module but `program` exposes one `PROGRAM`; a new program is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.cli.client_config.programs.program import Program


def find_programs() -> Mapping[str, Program]:
    """Return the programs by name."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if found.name != "program"
    )
    programs: list[Program] = [module.PROGRAM for module in modules]
    return {program.name: program for program in programs}
