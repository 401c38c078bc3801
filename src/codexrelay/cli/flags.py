"""One command-line flag for each configuration key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from codexrelay.config.keys import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def key_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for each key; the values are checked with the rest of the sources."""
    for key in reversed(tuple(KEYS.values())):
        # click takes identifiers only: `server__port` for `server.port`.
        option = click.option(key.flag, "__".join(key.path), metavar="VALUE", help=key.help)
        command = option(command)
    return command


def given(flags: Mapping[str, str | None]) -> dict[str, object]:
    """Return what `load` takes: by full key path, None where a flag was not given."""
    return {name.replace("__", "."): value for name, value in flags.items()}
