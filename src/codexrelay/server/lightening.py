"""What makes a request lighter before it is sent: history compaction, then compression of outputs.

Both work on the client's own body, before anything is translated, and both are a convenience: what
goes wrong with one of them costs its saving and never the turn.
"""

from __future__ import annotations

import contextlib
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.compaction.estimate import characters_of
from codexrelay.compaction.history import compact
from codexrelay.protocol.raw import JsonObject, get_list, is_object
from codexrelay.sessions.state import NOTHING_SAVED, Savings

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.compaction.compress import Compressed
    from codexrelay.compaction.history import Compacted
    from codexrelay.compaction.settings import CompressionSettings
    from codexrelay.server.services import Services
    from codexrelay.sessions.identity import SessionKey
    from codexrelay.sessions.state import TurnPlan

#: Messages, items and calls; a longer history takes more than some 20 ms (measured).
_MOST_ITEMS_AT_ONCE: Final = 200

_log = structlog.get_logger("codexrelay.compaction")


@attrs.define(kw_only=True)
class Lightened:
    """A request that is as light as it may be, and what was taken off."""

    #: Empty once it will not be sent again.
    body: JsonObject = attrs.field(repr=False)
    #: Its history was compacted.
    compacted: bool = False
    compaction: Savings = NOTHING_SAVED
    compression: Savings = NOTHING_SAVED
    #: What the session's estimate of tokens is measured by; None where none is made.
    characters: int | None = None


async def lighten(
    body: JsonObject, plan: TurnPlan, key: SessionKey, services: Services, *, family: bool
) -> Lightened:
    """Return the request without what need not be sent; `body` itself is not changed.

    Never compacts what goes to the openai-codex `family`, or what the session's plan does not let
    it; compression acts on every backend.
    """
    settings = services.current.settings
    lightened = Lightened(body=body)
    if not (settings.compaction.enabled or settings.dynamic_compression.enabled):
        return lightened
    if settings.compaction.enabled and plan.compacts and not family:
        lightened = await _compacted(body, plan, key, services)
    if settings.dynamic_compression.enabled:
        lightened = await _compressed(
            lightened,
            key,
            settings.dynamic_compression,
            services,
            characters_per_token=plan.characters_per_token,
        )
    if settings.compaction.enabled and lightened.characters is None:
        lightened = attrs.evolve(lightened, characters=characters_of(lightened.body))
    return lightened


async def _compacted(
    body: JsonObject, plan: TurnPlan, key: SessionKey, services: Services
) -> Lightened:
    settings = services.current.settings.compaction
    work = partial(
        compact,
        body,
        settings,
        characters_per_token=plan.characters_per_token,
        always=plan.compacting,
    )
    try:
        compacted = await _beside_others(work, body, services)
    except Exception as error:  # noqa: BLE001 - the lightening border: the whole history is sent
        _tell_of_failure("history compaction", key, services, where=_where(error))
        return Lightened(body=body)
    if compacted.over_max and services.notices.first(key.cache_key, "over max_tokens"):
        _log.warning(
            "the history is above compaction.max_tokens, shortened as it is",
            session=key.cache_key,
            tokens=compacted.tokens_after,
            max_tokens=settings.max_tokens,
        )
    saved_tokens = compacted.tokens_before - compacted.tokens_after
    return Lightened(
        body=compacted.body,
        compacted=compacted.stubs > 0,
        compaction=Savings(saved_bytes=compacted.saved_bytes, saved_tokens=saved_tokens),
    )


async def _beside_others(
    work: Callable[[], Compacted], body: JsonObject, services: Services
) -> Compacted:
    """Do the work without holding up other turns.

    A history of 1,200 results (5 MB) takes a quarter of a second (measured), which no stream should
    have to wait for: a long one goes to a thread. There Python lets others run every few
    milliseconds. One at a time, so that threads do not pile up.
    """
    history = [*get_list(body, "messages"), *get_list(body, "input")]
    calls = sum(len(get_list(item, "tool_calls")) for item in history if is_object(item))
    if len(history) + calls <= _MOST_ITEMS_AT_ONCE:
        await trio.lowlevel.checkpoint()
        return work()
    # What a client that has left has asked for ends by itself, and nobody waits for it.
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=services.compacting)


async def _compressed(
    lightened: Lightened,
    key: SessionKey,
    settings: CompressionSettings,
    services: Services,
    *,
    characters_per_token: float,
) -> Lightened:
    try:
        compressed = await _step_by_step(lightened.body, settings, services)
    except Exception as error:  # noqa: BLE001 - the lightening border: outputs are sent as they came
        _tell_of_failure("compression of tool outputs", key, services, where=_where(error))
        return lightened
    for name in compressed.failed:
        _tell_of_failure(f"the compressor {name}", key, services)
    saved_bytes = compressed.saved_bytes
    return attrs.evolve(
        lightened,
        body=compressed.body,
        compression=Savings(
            saved_bytes=saved_bytes, saved_tokens=int(saved_bytes / characters_per_token)
        ),
    )


async def _step_by_step(
    body: JsonObject, settings: CompressionSettings, services: Services
) -> Compressed:
    """Compress, and let others run between the pieces. Cancelled, it leaves nothing behind."""
    steps = services.compressor.steps(body, settings, trio.current_time)
    with contextlib.closing(steps):
        while True:
            await trio.lowlevel.checkpoint()
            try:
                next(steps)
            except StopIteration as end:
                compressed: Compressed = end.value
                return compressed


def _where(error: Exception) -> str:
    """Say what failed and where. The error's own words may quote what a client said."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"


def _tell_of_failure(
    what: str, key: SessionKey, services: Services, *, where: str | None = None
) -> None:
    """Say, once for each session, what did not work."""
    if services.notices.first(key.cache_key, f"{what} failed"):
        _log.warning(
            f"{what} failed: requests of the session are sent without it",
            session=key.cache_key,
            where=where,
        )
