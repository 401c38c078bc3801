"""A configuration as its owner may see it: every value, where it comes from, and no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.config.keys import (
    FIRST_BLOCK,
    KEYS,
    OTHER_KEYS,
    Given,
    Key,
    KeyPath,
    Origin,
    in_block,
    mapping_of,
    path_of,
)
from codexrelay.config.values import without_logins
from codexrelay.setting import without_login

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.config.loading import Loaded

_DEFAULT: Final = Origin("default")


@attrs.frozen(kw_only=True)
class Shown:
    """One key, or one entry of a key that is a mapping."""

    name: str
    #: Secrets are counted, not shown; URLs have no login.
    value: object
    origin: Origin
    #: Whether a running relay takes another value over.
    live: bool


def shown(loaded: Loaded) -> Iterator[Shown]:
    """Yield all keys in the order of the classes, those of other blocks behind the first's."""
    entries: dict[KeyPath, list[Given]] = {}
    for given in loaded.found.values():
        if mapping := mapping_of(given.key.path):
            entries.setdefault(mapping, []).append(given)
    for key in _keys(loaded):
        if not key.is_mapping:
            yield _shown(loaded.found[key.name])
        elif key.path in entries:
            yield from map(_shown, entries[key.path])
        else:
            yield Shown(name=key.name, value={}, origin=_DEFAULT, live=key.about.live)


def _keys(loaded: Loaded) -> Iterator[Key]:
    yield from KEYS.values()
    for instance, _ in loaded.settings.backends.further:
        for key in KEYS.values():
            if key.path[: len(FIRST_BLOCK)] == FIRST_BLOCK:
                yield in_block(key, path_of(instance)[-1])
    for name, _ in loaded.settings.backends.others:
        for key in OTHER_KEYS.values():
            yield in_block(key, path_of(name)[-1])


def _shown(given: Given) -> Shown:
    about, value = given.key.about, given.value
    if about.secret:
        masked: object = "<hidden>"
        if isinstance(value, tuple):
            masked = f"<{len(value)} hidden>" if value else value
    else:
        masked = (
            without_login(value) if about.url and isinstance(value, str) else _without_logins(value)
        )
    return Shown(name=given.key.name, value=masked, origin=given.origin, live=about.live)


def _without_logins(value: object) -> object:
    match value:
        case str():
            return without_logins(value)
        case tuple() | list():
            return [_without_logins(each) for each in value]
        case dict():
            return {name: _without_logins(each) for name, each in value.items()}
        case _:
            return value
