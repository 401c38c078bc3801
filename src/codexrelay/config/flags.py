"""The command line's flags as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.config.keys import Entry, Given, Origin, Reading, from_outside, key_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.errors import Problem


def read(flags: Mapping[str, object]) -> Reading:
    """Read flags by full key path; None is a flag that was not given.

    Raises:
        KeyError: a path is no key, which is a mistake in the command that declares the flag.
    """
    return Reading(
        found=tuple(
            found
            for name, value in flags.items()
            if value is not None
            for found in _found(name, value)
        )
    )


def _found(name: str, value: object) -> Iterator[Given | Problem | Entry]:
    key = key_named(name)
    place = "/".join(key.flags)  # any of them may have been written
    return from_outside(key.path, value, place=place, origin=Origin("flag", place))
