"""The command line's flags as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.config.keys import Given, Reading, key_named
from codexrelay.config.values import from_text

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(flags: Mapping[str, object]) -> Reading:
    """Read flags by full key path; None is a flag that was not given.

    Raises:
        KeyError: a path is no key, which is a mistake in the command that declares the flag.
    """
    return Reading(
        found=tuple(_given(name, value) for name, value in flags.items() if value is not None)
    )


def _given(name: str, value: object) -> Given:
    key = key_named(name)
    said = from_text(value, key.wanted) if isinstance(value, str) else value
    return Given(key=key, value=said, where=key.flag)
