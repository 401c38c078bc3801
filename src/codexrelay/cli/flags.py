"""One command-line flag for each configuration key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from codexrelay.config.dropped import why_flag_dropped
from codexrelay.config.keys import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class KeyedCommand(click.Command):
    """Has the flags of all keys, and says of those that other relays have why there are none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises click.UsageError: a flag is unknown, or refused."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            reason = why_flag_dropped(error.option_name)
            if reason is None:
                raise
            raise click.UsageError(f"{error.option_name}: not supported: {reason}", ctx) from None


def key_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for each key; the values are checked with the rest of the sources."""
    for key in reversed(tuple(KEYS.values())):
        alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if key.is_switch else {}
        option = click.option(
            *key.flags,
            "__".join(key.path),  # click takes identifiers only: `server__port` for `server.port`
            metavar="VALUE",
            help=key.help,
            **alone,
        )
        command = option(command)
    return command


def given(flags: Mapping[str, str | None]) -> dict[str, object]:
    """Return what `load` takes: by full key path, None where a flag was not given."""
    return {name.replace("__", "."): value for name, value in flags.items()}
