"""What a check has to say."""

from __future__ import annotations

import enum

import attrs


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    #: Works, but not as well or as safely as it could, or not for long.
    WARN = "warn"
    #: Turns fail because of it, or will.
    BROKEN = "broken"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at. Never holds a token."""

    level: Level
    #: What was looked at, in a few words.
    about: str
    #: How it is.
    what: str
    #: The command, or the line of the configuration, that mends it; None: nothing needs to be done.
    mend: str | None = None

    def __str__(self) -> str:
        told = f"{self.level.value:<7} {self.about}: {self.what}"
        return told if self.mend is None else f"{told} -> {self.mend}"


def ok(about: str, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(level=Level.OK, about=about, what=what)


def warn(about: str, what: str, mend: str | None = None) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(level=Level.WARN, about=about, what=what, mend=mend)


def broken(about: str, what: str, mend: str | None = None) -> Finding:
    """Return a finding that keeps turns from being served."""
    return Finding(level=Level.BROKEN, about=about, what=what, mend=mend)
