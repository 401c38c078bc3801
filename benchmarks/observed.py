"""`codexrelay serve`, observed from within: a program of its own, started by `observing.py`.

Run: `python -P observed.py calls|samples FILE serve …`. SIGUSR1 begins, which FILE.begun shows;
SIGUSR2 ends and writes FILE, which appears whole.

`calls` counts every call of the main thread, as cProfile writes it. `samples` notes the main
thread's stack 200 times for each second of CPU time, as lines `outermost;…;innermost COUNT`, and
needs no permission to look into another process.
"""

from __future__ import annotations

import collections
import cProfile
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from codexrelay.cli import main

if TYPE_CHECKING:
    from types import FrameType

#: Of CPU time. The kernel rarely looks more often than 250 times a second.
_EVERY_S: Final = 0.005


class Observer(Protocol):
    """Looks at the process while it is on."""

    def begin(self) -> None:
        """Look from now on."""

    def end(self, path: Path) -> None:
        """Look no longer, and write what was seen."""


class Calls:
    """Counts calls."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def begin(self) -> None:
        """Count from now on."""
        self._profile = cProfile.Profile()
        self._profile.enable()

    def end(self, path: Path) -> None:
        """Write the counts."""
        self._profile.disable()
        self._profile.dump_stats(path)


class Samples:
    """Notes where the main thread is."""

    def __init__(self) -> None:
        self._seen: collections.Counter[str] = collections.Counter()

    def begin(self) -> None:
        """Look from now on."""
        self._seen.clear()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def end(self, path: Path) -> None:
        """Write the stacks."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = (f"{stack} {times}\n" for stack, times in self._seen.items())
        path.write_text("".join(lines), "utf-8")

    def _look(self, _: int, frame: FrameType | None) -> None:
        stack: list[str] = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{code.co_qualname} ({code.co_filename})")
            frame = frame.f_back
        self._seen[";".join(reversed(stack))] += 1


def observe(observer: Observer, path: Path) -> None:
    """Let the two signals begin and end."""

    def begin(*_: object) -> None:
        path.with_suffix(".begun").touch()
        observer.begin()

    def end(*_: object) -> None:
        unfinished = path.with_suffix(".unfinished")
        observer.end(unfinished)
        os.replace(unfinished, path)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if __name__ == "__main__":
    kind, file, *sys.argv[1:] = sys.argv[1:]
    observe(Calls() if kind == "calls" else Samples(), Path(file))
    main()
