"""Which models there are: the backend's own list, or the packaged one while it gives none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

import attrs
import httpx
import trio

from codexrelay.errors import CodexRelayError
from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)

_log = logging.getLogger(__name__)

#: How long clients wait for the backend's list.
FETCH_S: Final = 5.0
#: How long the second-best list is used before the backend is asked again.
AGAIN_S: Final = 30.0
_PACKAGED: Final = "catalogue.json"


def packaged() -> list[JsonObject]:
    """Return the list that comes with codexrelay (the catalogue of Codex CLI 0.169)."""
    text = resources.files(__package__).joinpath(_PACKAGED).read_bytes()
    catalogue = parse_object(text)
    shared = get_object(catalogue, "shared")
    return [shared | model for model in get_list(catalogue, "models") if is_object(model)]


@attrs.define(eq=False)
class Catalogue:
    """Remembers the list; asks the backend when it is older than `ttl_s`.

    One request asks and the others wait for it. One that leaves while it asks leaves nothing
    behind: the next one asks anew.
    """

    #: Gets the backend's list. `LookupError`, `ValueError`, errors of ours and of httpx mean that
    #: it cannot be had now; anything else is a bug and reaches the request that asked.
    _fetch: Callable[[], Awaitable[list[JsonObject]]]
    #: Monotonic seconds.
    _clock: Callable[[], float] = trio.current_time
    _ttl_s: float = attrs.field(default=300.0, kw_only=True)
    #: The backend's last list, else the packaged one.
    _models: list[JsonObject] = attrs.field(factory=packaged, init=False)
    _asks_again_at_s: float = attrs.field(default=float("-inf"), init=False)
    _asking: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: Model -> the plans that offer it (None: its entry names none), by the backend's last list;
    #: None: there was none yet.
    _plans: dict[str, frozenset[str] | None] | None = attrs.field(default=None, init=False)
    _wanted: trio.Event = attrs.field(factory=trio.Event, init=False)

    def plans_offering(self, slug: str) -> frozenset[str] | None:
        """Return the plans that offer a model, by the backend's own last list.

        None where that does not say: there is no list yet, or the model's entry names no plans. No
        plan at all if the model is not in the list: it is unknown, or one that is never listed.
        """
        return None if self._plans is None else self._plans.get(slug, frozenset())

    @property
    def named_plans(self) -> frozenset[str]:
        """The plans that the backend's last list knows; it says nothing about any other."""
        return frozenset().union(*(plans for plans in (self._plans or {}).values() if plans))

    def want(self) -> None:
        """Let the list be asked for behind the scenes, if it is old."""
        if self._clock() >= self._asks_again_at_s:
            self._wanted.set()

    async def keep_fresh(self) -> None:
        """Ask for the list whenever it is wanted and old. Runs until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                await self.models()
            except Exception:  # noqa: BLE001 - task border: a bug that no request has met ends none
                _log.exception("the backend could not be asked for its model list")
                self._asks_again_at_s = self._clock() + AGAIN_S

    async def models(self) -> list[JsonObject]:
        """Return the catalogue entries, to be read only. Takes `FETCH_S` at most."""
        async with self._asking:
            if self._clock() >= self._asks_again_at_s:
                fetched = await self._try_fetch()
                if fetched:
                    self._models, self._plans = fetched, _plans_of(fetched)
                self._asks_again_at_s = self._clock() + (self._ttl_s if fetched else AGAIN_S)
            return self._models

    async def _try_fetch(self) -> list[JsonObject] | None:
        try:
            with trio.fail_after(FETCH_S):
                return await self._fetch()
        except (
            LookupError,
            ValueError,
            CodexRelayError,
            httpx.HTTPError,
            trio.TooSlowError,
        ) as why:
            told = str(why) or type(why).__name__
            _log.warning("the backend gave no model list, an older one is served: %s", told)
            return None


def _plans_of(models: list[JsonObject]) -> dict[str, frozenset[str] | None]:
    """Return the plans of each model (`available_in_plans`, wire notes 5)."""
    offers: dict[str, frozenset[str] | None] = {}
    for model in models:
        if slug := get_text(model, "slug"):
            plans = (p for p in get_list(model, "available_in_plans") if isinstance(p, str))
            offers[slug] = frozenset(plans) or None
    return offers
