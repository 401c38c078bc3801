"""Backends of other kinds: whether each can be reached, takes its key, and has the models named.

Each is asked for its models, which costs nothing. Its key goes to it alone, as in any turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.files import why_open_to_others
from codexrelay.accounts.wire import words
from codexrelay.backends.openai.listing import ask, models_in
from codexrelay.backends.openai.opening import Opened, opened
from codexrelay.backends.openai.place import shown
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.backends.openai.words import unreachable
from codexrelay.cli.doctor.finding import broken, ok, warn
from codexrelay.cli.process import way_to
from codexrelay.errors import ConfigError, KeyUnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.wire import RawAnswer
    from codexrelay.backends.openai.place import Place
    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Site

#: For name, connection, TLS and the whole answer together.
ANSWER_S: Final = 5.0
_SERVER_AT_FAULT: Final = 500
#: Models that a finding names.
_MAX_NAMED: Final = 8


@attrs.frozen
class Other:
    """One block."""

    name: str
    settings: OpenAIBackendSettings


def others_of(site: Site) -> tuple[Other, ...]:
    """Return the backends of other kinds that are configured."""
    return tuple(Other(name, settings) for name, settings in site.settings.backends.others)


async def check(other: Other, site: Site, *, offline: bool) -> list[Finding]:
    """Look at the backend's key, and ask it for its models unless `offline`."""
    settings, world = other.settings, site.call.world
    try:
        async with way_to(
            (settings.api_base_url,), settings, backend=other.name, proxy_for=world.proxy_for
        ) as transport:
            made = opened(
                other.name,
                settings,
                transport=transport,
                from_variable=world.environ.get(settings.api_key_env or ""),
                wall_clock=world.wall_clock,
            )
            made.backend.key.warns = False  # it is a finding
            found = [*_look_at_file(made)]
            try:
                await made.backend.key.look()
            except KeyUnusableError as error:
                told, _, mend = str(error.problem).partition("; ")
                return [*found, broken(other.name, told, mend)]
            return found if offline else [*found, *await _ask(made, settings)]
    except ConfigError as error:
        return [
            broken(other.name, str(problem), f"{problem.where}: one that works")
            for problem in error.problems
        ]


def _look_at_file(made: Opened) -> Iterator[Finding]:
    key = made.backend.key
    if key.file is not None and (why := why_open_to_others(key.file)):
        told, _, mend = why.partition(": ")
        yield warn(made.backend.place.name, f"{key.file}, with its API key, {told}", mend)


async def _ask(made: Opened, settings: OpenAIBackendSettings) -> list[Finding]:
    place, url = made.backend.place, shown(made.backend.base_url)
    answer: RawAnswer | None = None
    with trio.move_on_after(ANSWER_S):
        try:
            answer = await ask(made.backend)
        except httpx.RequestError as error:
            told, _, mend = unreachable(words(error), place, url=url).rpartition("; ")
            return [broken(place.name, told, mend)]
    if answer is None:
        told = f"{url} gives no answer within {ANSWER_S:.0f} s"
        mend = f"see what it is busy with, and whether {place.key('api_base_url')} is right"
        return [broken(place.name, told, mend)]
    return [_answered(answer, place, settings, url=url)]


def _answered(
    answer: RawAnswer, place: Place, settings: OpenAIBackendSettings, *, url: str
) -> Finding:
    """Say what an answer to the question for the models means."""
    status, about = answer.status, place.name
    if status in (401, 403):
        told = f"{url} does not take its key" if place.has_key else f"{url} wants a key"
        return broken(about, f"{told} ({status})", f"{place.key_told}: the right key")
    if 300 <= status < 400:
        told = f"{url} redirects ({status}), which is not followed"
        return broken(about, told, f"{place.key('api_base_url')}: where it leads to")
    if status >= _SERVER_AT_FAULT:
        told = f"{url} answers ({status}), which means that it is in trouble"
        return warn(about, told, "see its log, then: codexrelay doctor")
    models = models_in(answer)
    if models is None:
        told = f"{url} answers, but has no list of models at /models ({status})"
        mend = f"{place.key('api_base_url')}: with its /v1, or {place.key('models')}: its models"
        return warn(about, told, mend)
    missing = [name for name in settings.models if name not in models]
    if missing:
        told = f"{url} has no model called {', '.join(missing)}; it has {_named(models)}"
        return warn(about, told, f"{place.key('models')}: names that it has")
    return ok(about, f"{url} answers ({status}); models: {_named(models)}")


def _named(models: tuple[str, ...]) -> str:
    if not models:
        return "none"
    more = len(models) - _MAX_NAMED
    return ", ".join(models[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
