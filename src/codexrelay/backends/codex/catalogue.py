"""Which models there are: the backend's own lists, or another one while it gives none.

Requests read what is there and never wait, but for the very first one that wants a list while there
is none of the backend's at all. Asking is the process's own business (`keep_fresh`): whoever waits
for it may leave, and the question goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import cached_property, partial
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import attrs
import httpx
import trio

from codexrelay.backends.codex.listing import Listing, offers_in, union
from codexrelay.errors import CodexRelayError
from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

#: How long the backend is given to answer, where nobody says otherwise.
FETCH_S: Final = 10.0
#: How long a list is believed before the backend is asked again.
TTL_S: Final = 300.0
#: How long a list is used that is second best, before the backend is asked again; and how long it
#: is left alone whatever tags it shows.
AGAIN_S: Final = 30.0
_PACKAGED: Final = "catalogue.json"

#: Where a list is from: the backend now, the backend in an earlier run, codexrelay, the owner.
Source: TypeAlias = Literal["backend", "cache", "packaged", "file"]


def packaged() -> list[JsonObject]:
    """Return the list that comes with codexrelay (the catalogue of Codex CLI 0.169)."""
    text = resources.files(__package__).joinpath(_PACKAGED).read_bytes()
    catalogue = parse_object(text)
    shared = get_object(catalogue, "shared")
    return [shared | model for model in get_list(catalogue, "models") if is_object(model)]


class Shelf(Protocol):
    """Keeps the backend's lists for the next run. Its methods block."""

    def save(self, listings: Iterable[Listing]) -> None:
        """Replace what is kept; OSError: it cannot be."""


@attrs.frozen(eq=False)
class Models:
    """All models at one moment. Nothing of it may be changed."""

    entries: list[JsonObject]
    source: Source
    #: What the backend said, by plan; empty where the entries are not the backend's.
    listings: tuple[Listing, ...] = ()

    @cached_property
    def by_slug(self) -> Mapping[str, JsonObject]:
        """The entries by the names that the backend knows."""
        return {slug: entry for entry in self.entries if (slug := get_text(entry, "slug"))}

    @cached_property
    def offers(self) -> Mapping[str, frozenset[str] | None]:
        """Model -> the plans that offer it, by the backend's own word; None: it names none."""
        return offers_in(self.listings)

    @cached_property
    def named_plans(self) -> frozenset[str]:
        """The plans that the backend's lists know; they say nothing about any other."""
        return frozenset().union(*(plans for plans in self.offers.values() if plans))

    @cached_property
    def etags(self) -> frozenset[str]:
        """The backend's tags of its lists."""
        return frozenset(listing.etag for listing in self.listings if listing.etag is not None)

    @property
    def fetched_unix_s(self) -> float | None:
        """When the oldest of the backend's lists was had; None: none was."""
        return min((listing.fetched_unix_s for listing in self.listings), default=None)


@attrs.define(eq=False)
class Catalogue:
    """Remembers the backend's lists, and asks for them where they are wanted and old."""

    #: Gets the list of a plan, on an account of that plan; None: of any account. `LookupError`,
    #: `ValueError`, errors of ours and of httpx mean that it cannot be had now; anything else is a
    #: bug. None: the backend is never asked.
    _fetch: Callable[[str | None], Awaitable[Listing]] | None
    #: The plans of the accounts there are, None among them where one's is not known.
    _plans: Callable[[], Collection[str | None]] = lambda: (None,)
    #: What differs when the accounts do: a question that failed is then asked again at once.
    _accounts: Callable[[], object] = attrs.field(default=lambda: None, kw_only=True)
    #: Served while there is no list of the backend's.
    _otherwise: Models = attrs.field(factory=lambda: Models(packaged(), "packaged"), kw_only=True)
    _shelf: Shelf | None = attrs.field(default=None, kw_only=True)
    #: Monotonic seconds.
    _clock: Callable[[], float] = attrs.field(default=trio.current_time, kw_only=True)
    _ttl_s: float = attrs.field(default=TTL_S, kw_only=True)
    _fetch_s: float = attrs.field(default=FETCH_S, kw_only=True)
    #: Why the last question failed, by plan.
    failures: dict[str | None, str] = attrs.field(factory=dict, init=False)
    _now: Models = attrs.field(init=False)
    _listings: dict[str | None, Listing] = attrs.field(factory=dict, init=False)
    _asks_again_at_s: dict[str | None, float] = attrs.field(factory=dict, init=False)
    _asked_at_s: float = attrs.field(default=float("-inf"), init=False)
    #: The accounts when the backend was asked last.
    _asked_of: object = attrs.field(default=None, init=False, repr=False)
    #: Tags for which the backend was asked, and when: it need not have given the same tag then.
    _heard_at_s: dict[str, float] = attrs.field(factory=dict, init=False)
    _wanted: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: The lists that were wanted are being asked for.
    _asking: bool = attrs.field(default=False, init=False)
    #: Set when those have come, or cannot be had.
    _answered: trio.Event = attrs.field(factory=trio.Event, init=False)
    _unwritten: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._now = self._otherwise

    @property
    def now(self) -> Models:
        """The models as they are known now."""
        return self._now

    @property
    def asks(self) -> bool:
        """Whether the backend is ever asked."""
        return self._fetch is not None

    def plans_offering(self, slug: str) -> frozenset[str] | None:
        """Return the plans that offer a model, by the backend's own last lists.

        None where they do not say: there is no list yet, none of some plan of ours that may have
        the model, or the model's entry names no plans. No plan at all if the model is in no list:
        it is unknown, or one that is never listed.
        """
        offers = self._now.offers
        if slug in offers:
            return offers[slug]
        complete = bool(self._listings) and self._listings.keys() >= set(self._plans())
        return frozenset() if complete else None

    @property
    def named_plans(self) -> frozenset[str]:
        """The plans that the backend's last lists know; they say nothing about any other."""
        return self._now.named_plans

    def remember(
        self, listings: Iterable[Listing], *, client_version: str, now_unix_s: float
    ) -> None:
        """Begin with what was kept of an earlier run.

        Another version of the client may be told of other models, so that is old at once.
        """
        for listing in listings:
            self._listings[listing.plan] = listing
            age_s = now_unix_s - listing.fetched_unix_s
            is_fresh = listing.client_version == client_version and age_s >= 0
            left_s = self._ttl_s - age_s if is_fresh else 0.0
            self._asks_again_at_s[listing.plan] = self._clock() + left_s
        if self._listings:
            self._now = self._view("cache")

    def want(self) -> None:
        """Let the lists be asked for behind the scenes, those that are old."""
        if self._due():
            self._wanted.set()

    def noticed(self, etag: str | None) -> None:
        """Hear which list the backend has now, as a turn's answer told (`x-models-etag`).

        A tag of ours means that our list is as good as new; another one, that it is old.
        """
        if etag is None or self._fetch is None:
            return
        now_s = self._clock()
        if etag in self._now.etags:
            for plan, listing in self._listings.items():
                if listing.etag == etag:
                    self._asks_again_at_s[plan] = now_s + self._ttl_s
            return
        heard_at_s = self._heard_at_s.get(etag, float("-inf"))
        if now_s < heard_at_s + self._ttl_s or now_s < self._asked_at_s + AGAIN_S:
            return
        self._heard_at_s = {
            tag: at_s for tag, at_s in self._heard_at_s.items() if now_s < at_s + self._ttl_s
        }
        self._heard_at_s[etag] = now_s
        self._asks_again_at_s.clear()
        self._wanted.set()

    async def models(self) -> Models:
        """Return the models; waits only while there is no list of the backend's at all."""
        if self._listings:
            self.want()
        else:
            await self.refreshed()
        return self._now

    async def refreshed(self) -> Models:
        """Return the models once the old lists are new, or cannot be had in time.

        Somebody must run `keep_fresh`. A caller that is cancelled leaves the question running.
        """
        self.want()
        if self._asking or self._wanted.is_set():
            answered = self._answered
            with trio.move_on_after(self._fetch_s):
                await answered.wait()
        return self._now

    async def keep_fresh(self) -> None:
        """Ask for the lists whenever they are wanted and old. Runs until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted, self._asking = trio.Event(), True
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001 - task border: a bug that no request has met ends none
                _log.exception("the backend could not be asked for its model list")
            self._asking = False
            self._answered.set()
            self._answered = trio.Event()

    async def refresh(self, *, anyway: bool = False) -> None:
        """Ask for every list that is old, or for all of them, and keep what is answered."""
        if anyway:
            self._asks_again_at_s.clear()
        due = self._due()
        if not due:
            return
        self._asked_at_s, self._asked_of = self._clock(), self._accounts()
        for plan in due:  # also of a question that ends in a bug
            self._asks_again_at_s[plan] = self._asked_at_s + self._fetch_s + AGAIN_S
        found: list[Listing] = []
        async with trio.open_nursery() as nursery:
            for plan in due:
                nursery.start_soon(self._ask, plan, found)
        if found:
            self._take(found)
            await self._keep()

    def _due(self) -> list[str | None]:
        """Return the plans whose lists are old or not there."""
        if self._fetch is None:
            return []
        if self.failures and self._accounts() != self._asked_of:
            for plan in self.failures:
                self._asks_again_at_s.pop(plan, None)
        now_s, never = self._clock(), float("-inf")
        plans = dict.fromkeys(self._plans()) or {None: None}
        return [plan for plan in plans if self._asks_again_at_s.get(plan, never) <= now_s]

    async def _ask(self, plan: str | None, found: list[Listing]) -> None:
        assert self._fetch is not None
        try:
            with trio.fail_after(self._fetch_s):
                listing = await self._fetch(plan)
        except trio.TooSlowError:
            self._failed(plan, f"it did not answer within {self._fetch_s:g} s")
        except (LookupError, ValueError, CodexRelayError, httpx.HTTPError) as why:
            self._failed(plan, str(why) or type(why).__name__)
        else:
            self.failures.pop(plan, None)
            found.append(listing)
            for answered in (plan, listing.plan):
                self._asks_again_at_s[answered] = self._clock() + self._ttl_s

    def _failed(self, plan: str | None, why: str) -> None:
        self.failures[plan] = why
        self._asks_again_at_s[plan] = self._clock() + AGAIN_S
        of = "" if plan is None else f" for plan {plan}"
        _log.warning("the backend gave no model list%s, another one is served: %s", of, why)

    def _take(self, found: Iterable[Listing]) -> None:
        for listing in found:
            self._listings[listing.plan] = listing
        # A plan that no account has any more offers nothing; but better its list than none.
        ours = set(self._plans())
        for gone in [plan for plan in self._listings if plan not in ours]:
            if len(self._listings) > 1:
                del self._listings[gone]
        for gone in [plan for plan in self.failures if ours and plan not in ours]:
            del self.failures[gone]
        self._now = self._view("backend")

    def _view(self, source: Source) -> Models:
        listings = tuple(self._listings.values())
        return Models(union(listings), source, listings)

    async def _keep(self) -> None:
        if self._shelf is None:
            return
        try:
            await trio.to_thread.run_sync(partial(self._shelf.save, self._now.listings))
        except OSError as error:
            if not self._unwritten:
                _log.warning("the model list cannot be kept for the next run: %s", error)
            self._unwritten = True
        else:
            self._unwritten = False
