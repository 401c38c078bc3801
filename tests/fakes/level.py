"""What this process holds: before and behind a test that must leave nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from tests.fakes.relay import LiveRelay

_OPEN_FILES: Final = Path("/proc/self/fd")


@attrs.frozen
class Level:
    """What a process holds."""

    tasks: int
    #: 0 where the system does not tell.
    open_files: int
    burden: dict[str, int]

    @classmethod
    def of(cls, relay: LiveRelay) -> Level:
        """Take the level."""
        return cls(
            tasks=trio.lowlevel.current_statistics().tasks_living,
            open_files=len(os.listdir(_OPEN_FILES)) if _OPEN_FILES.is_dir() else 0,
            burden=relay.burden,
        )

    def is_within(self, other: Level) -> bool:
        """Tell whether nothing has come to `other`; what older tests left open may have gone."""
        files = self.open_files <= other.open_files
        return files and (self.tasks, self.burden) == (other.tasks, other.burden)
