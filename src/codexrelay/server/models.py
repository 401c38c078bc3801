"""Models: `GET /v1/models`, what a client may call one, and how the backend is asked for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
import trio
from quart import Response, request

from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.standing import plan_of, plans_of
from codexrelay.backends.backend import UpstreamRequest
from codexrelay.backends.codex import identity
from codexrelay.backends.codex.catalogue import Catalogue, Models, packaged
from codexrelay.backends.codex.catalogue_file import CatalogueFile, read_list
from codexrelay.backends.codex.headers import question_headers
from codexrelay.backends.codex.listing import Listing, models_in, union
from codexrelay.errors import NeedsReauthError
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.fit import fit
from codexrelay.protocol.model_choice import EFFORTS, Others, choose_all
from codexrelay.protocol.models_list import model_object, openai_list, unknown_model
from codexrelay.protocol.raw import dump
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.climb import Wish
from codexrelay.relay.instances import plans_at
from codexrelay.relay.record import Record
from codexrelay.relay.unary import fetch
from codexrelay.server.offer import available, offered, reaches_nothing

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
    )

    from codexrelay.accounts.account import Account
    from codexrelay.config.settings import Settings
    from codexrelay.protocol.model_choice import ModelChoice
    from codexrelay.protocol.raw import JsonObject
    from codexrelay.relay.instances import Instance, Instances
    from codexrelay.relay.turn import Relay
    from codexrelay.server.services import Services


# what clients ask for


async def choose_models(text: str, services: Services) -> tuple[ModelChoice, ...]:
    """Read the name of a model, or of a route, as a client wrote it; see `choose_all`.

    Waits only while there is no list of Codex's at all, and that could make a difference: before a
    model is refused, and where the end of the name may be an effort. Of models of other backends
    nothing is refused, and none is asked for them.

    Raises:
        RequestError: 400, a parameter of the name is wrong; or `models.strict` is on, and the
            catalogue has no such model.
    """
    settings, catalogue = services.current.settings, services.catalogue
    names = services.names_by(catalogue.now)
    if (read := names.get(text)) is not None:
        return read
    choose = partial(
        choose_all,
        text,
        aliases=settings.models.aliases,
        routes=settings.models.routes,
        others=settings.others,
    )
    choices = choose(known=catalogue.now.by_slug)
    unknown = _unknown(choices, catalogue.now.by_slug, settings)
    strict = settings.models.strict
    if unknown and (strict or any(slug.rpartition("-")[2].lower() in EFFORTS for slug in unknown)):
        known = (await _models(services)).by_slug
        choices = choose(known=known)
        if strict and (unknown := _unknown(choices, known, settings)):
            raise unknown_model(unknown[0], available(catalogue, services.relay.instances))
        return choices
    names.keep(text, choices)
    return choices


def is_other(choice: ModelChoice, settings: Settings) -> bool:
    """Tell whether a model is of a backend of another kind."""
    return any(choice.instance == name for name, _ in settings.backends.others)


def _unknown(
    choices: Iterable[ModelChoice], known: Collection[str], settings: Settings
) -> tuple[str, ...]:
    """Return the models that should be in the catalogue and are not."""
    return tuple(
        choice.slug
        for choice in choices
        if not is_other(choice, settings) and choice.slug not in known
    )


def fit_model(
    body: JsonObject,
    choice: ModelChoice,
    services: Services,
    *,
    spoken: Literal["responses", "chat"],
) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body as its model takes it, and what was adjusted: see `fit`.

    What a model of another backend takes is not known here: its body is returned as it came, and
    what the model's name says is written into it where the request is made.
    """
    if (defaults := services.policy(choice.instance).fits) is None:
        return body, ()
    entry = services.catalogue.now.by_slug.get(choice.slug)
    return fit(body, choice, entry, defaults, spoken=spoken)


async def answer_list(services: Services) -> Response:
    """Serve the models: `data` in the OpenAI shape and `models` in Codex's, in one body.

    Codex CLI looks up the models itself, so it is told of all of them; other backends' are not for
    it.
    """
    models, elsewhere = await _all_models(services)
    named = _named(services, models)
    those = offered(services.catalogue, services.relay.instances)
    choices = {slug: entry for slug, entry in those.items() if slug.lower() not in named.broken}
    etag = etag_of(models, choices, named, elsewhere)
    if request.if_none_match.contains_weak(etag):
        answer = Response(b"", 304)
        answer.headers.pop("content-type", None)
    else:
        told = openai_list(
            choices,
            aliases=named.aliases,
            routes=named.routes,
            others=named.others,
            elsewhere=elsewhere,
            created=int(services.wall_clock()),
        )
        answer = _json(told | {"models": list(models.by_slug.values())})
    answer.set_etag(etag, weak=True)
    return answer


async def answer_one(services: Services, text: str) -> Response:
    """Serve one model, by any of its names.

    Raises:
        RequestError: 404, nothing of that name is in the catalogue or another backend's list.
    """
    models, elsewhere = await _all_models(services)
    named = _named(services, models)
    told = model_object(
        {slug: entry for slug, entry in models.by_slug.items() if slug.lower() not in named.broken},
        text,
        aliases=named.aliases,
        routes=named.routes,
        others=named.others,
        elsewhere=elsewhere,
        created=int(services.wall_clock()),
        available=available(services.catalogue, services.relay.instances),
    )
    return _json(told)


async def _models(services: Services) -> Models:
    """Return the models; see `Catalogue.models`. A relay that is being stopped waits no more."""
    async with _while_serving(services):
        await _learn(services)
    return services.catalogue.now


async def _all_models(services: Services) -> tuple[Models, Mapping[str, tuple[str, ...]]]:
    """Return the models as `_models` does, and those of each backend of another kind.

    One whose models the configuration does not give is asked; what does not answer in time has none
    until it does.
    """
    elsewhere = {name: block.models for name, block in services.current.settings.backends.others}

    async def ask(name: str, listed: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        elsewhere[name] = await listed()

    async with _while_serving(services) as nursery:
        nursery.start_soon(_learn, services)
        for name, other in services.relay.others.items():
            if elsewhere.get(name) == ():
                nursery.start_soon(ask, name, other.listing.listed)
    return services.catalogue.now, elsewhere


async def _learn(services: Services) -> None:
    """See that Codex's models are known."""
    for instance in services.relay.instances.members:
        await instance.lender.look()  # somebody may have signed in
    await services.catalogue.models()


@asynccontextmanager
async def _while_serving(services: Services) -> AsyncIterator[trio.Nursery]:
    """Do what stands in the block, and the tasks begun in it, unless the relay is being stopped."""

    async def stop_waiting() -> None:
        await services.drain.begun.wait()
        waiting.cancel_scope.cancel()

    async with trio.open_nursery() as waiting:
        waiting.start_soon(stop_waiting)
        async with trio.open_nursery() as nursery:
            yield nursery
        waiting.cancel_scope.cancel()


@attrs.frozen(kw_only=True)
class _Named:
    """The names that the configuration gives."""

    #: Those that may reach a model.
    aliases: Mapping[str, str]
    routes: Mapping[str, tuple[str, ...]]
    #: The rest of them, in lower case.
    broken: frozenset[str]
    others: Others


def _named(services: Services, models: Models) -> _Named:
    settings = services.current.settings
    others = settings.others
    instances = [instance.name for instance in services.relay.instances.members]
    reach = partial(
        reaches_nothing,
        models=settings.models,
        known=models.by_slug,
        instances=instances,
        others=others,
    )
    aliases, routes = settings.models.aliases, settings.models.routes
    broken = frozenset(name.lower() for name in (*aliases, *routes) if reach(name) is not None)
    return _Named(
        aliases={alias: m for alias, m in aliases.items() if alias.lower() not in broken},
        routes={route: m for route, m in routes.items() if route.lower() not in broken},
        broken=broken,
        others=others,
    )


def etag_of(
    models: Models,
    choices: Collection[str],
    named: _Named,
    elsewhere: Mapping[str, tuple[str, ...]],
) -> str:
    """Return the tag of our own list, without its quotes: it changes when the list does."""
    told: JsonObject = {
        "models": list(models.entries),
        "choices": list(choices),
        "aliases": dict(named.aliases),
        "routes": {route: list(means) for route, means in named.routes.items()},
        "elsewhere": {name: list(listed) for name, listed in elsewhere.items()},
        "default": named.others.default,
    }
    return hashlib.sha256(dump(told)).hexdigest()[:32]


def _json(value: JsonObject) -> Response:
    return Response(dump(value), 200, content_type="application/json")


# what the backend is asked


@attrs.frozen(kw_only=True)
class Known:
    """What is known of the models without the backend."""

    #: The owner's list, else the packaged one.
    otherwise: Models
    #: The backend's lists of an earlier run.
    kept: tuple[Listing, ...] = ()

    @property
    def models(self) -> Models:
        """The best of it."""
        if not self.kept:
            return self.otherwise
        return Models(union(self.kept), "cache", self.kept)


def read_known(settings: Settings, warn: Callable[[str], None]) -> Known:
    """Return what the disk knows of the models. Blocks.

    What is wrong with a file is told to `warn`, and another list is used.
    """
    known = Known(otherwise=Models(packaged(), "packaged"))
    own = settings.backends.openai_codex.extra.codex.model_catalog
    if own.fallback_path is not None:
        try:
            models = Models(read_list(Path(own.fallback_path)), "file")
            known = attrs.evolve(known, otherwise=models)
        except BrokenFileError as error:
            warn(f"{error}; the packaged list of models is used (model_catalog.fallback_path)")
    if _asked(settings):
        try:
            known = attrs.evolve(known, kept=tuple(shelf_of(settings).load()))
        except BrokenFileError as error:
            warn(f"{error}; it is not used, and is replaced when the backend gives a list")
    return known


async def open_catalogue(
    settings: Settings,
    relay: Relay,
    *,
    wall_clock: Callable[[], float],
    warn: Callable[[str], None],
    insists: bool = False,
) -> Catalogue:
    """Return the catalogue as the configuration wants it, with what an earlier run has learnt.

    `warn` is told as by `read_known`. `insists`: see `Wish`.
    """
    asked = _asked(settings)
    known = await trio.to_thread.run_sync(read_known, settings, warn)
    # A question behind the scenes is no turn: who waits for the turns to end need not wait for it.
    apart = attrs.evolve(relay, active=ActiveTurns())
    fetch = partial(
        fetch_listing,
        apart,
        asked,
        wall_clock=wall_clock,
        refused={},
        insists=insists,
    )
    own = settings.backends.openai_codex.extra.codex.model_catalog
    catalogue = Catalogue(
        fetch if asked else None,
        partial(_plans, relay.instances, asked),
        accounts=partial(_signed_in, relay.instances, asked),
        otherwise=known.otherwise,
        shelf=shelf_of(settings),
        fetch_s=own.discovery_timeout_seconds,
    )
    catalogue.remember(known.kept, client_version=identity.VERSION, now_unix_s=wall_clock())
    return catalogue


def _asked(settings: Settings) -> frozenset[str]:
    """Return the instances that may be asked."""
    family = settings.backends.family
    return frozenset(n for n, c in family if c.extra.codex.model_catalog.discovery_enabled)


def shelf_of(settings: Settings) -> CatalogueFile:
    """Return where the backend's lists are kept."""
    backends = tuple(codex.api_base_url for _, codex in settings.backends.family)
    return CatalogueFile(Path(settings.sessions.state_path), backends)


@attrs.frozen
class _OfPlan:
    """Asks accounts of one plan only: see `climb.Offer`."""

    _plan: str | None
    available = ()

    @property
    def plans(self) -> frozenset[str] | None:
        """The plan; None: any will do."""
        return None if self._plan is None else frozenset({self._plan})

    async def learn(self) -> None:
        """See `Offer.learn`. There is nothing to find out."""


async def fetch_listing(
    relay: Relay,
    asked: frozenset[str],
    plan: str | None,
    *,
    wall_clock: Callable[[], float],
    refused: dict[str, None],
    insists: bool,
) -> Listing:
    """Ask the backend for its models, on an account of `plan`, of one of the instances `asked`.

    `refused` are the accounts that got no list when they were asked last, in that order, and is
    kept so: the next question goes to another one. `insists`: see `Wish`.

    Raises:
        LookupError: there is no account, or the backend gave no list; the message says which.
    """
    question = UpstreamRequest(
        method="GET",
        # Models whose `minimal_client_version` is higher are left out (wire notes 5).
        path=f"/models?client_version={identity.VERSION}",
        headers=question_headers(),
    )
    members = [i for i in relay.instances.members if i.name in asked]
    having = {i.name for i, account in _accounts(relay.instances, asked) if _has(account, plan)}
    wish = Wish(
        route=tuple(i for i in members if i.name in having) or tuple(members),
        offer=_OfPlan(plan),
        aside=True,
        insists=insists,
        avoid=tuple(refused),
    )
    record = Record()
    try:
        result = await fetch(lambda _, stripped: question, relay, wish, record)  # noqa: ARG005 - named by the seam
    finally:  # also of one that took too long
        for tried in record.tried:
            refused.pop(tried.account, None)
            if not tried.served:
                refused[tried.account] = None
    if isinstance(result, Fault):
        # Of accounts of other plans the pool says that they lack a model, which nobody asked for.
        unable = result.kind is FaultKind.UNSUPPORTED
        why = _why_nobody(relay.instances, asked, plan) if unable else result.message
        raise LookupError(why)  # noqa: TRY004 - no type is wrong
    try:
        models = models_in(result.body)
    except LookupError as error:
        raise LookupError(f"the backend's answer is no catalogue: {error}") from None
    return Listing(
        plan=_plan_of(relay.instances, result.account_id) or plan,
        models=models,
        etag=result.head.headers.get("etag"),
        fetched_unix_s=wall_clock(),
        client_version=identity.VERSION,
    )


def _plans(instances: Instances, asked: frozenset[str]) -> frozenset[str | None]:
    """Return the plans of the accounts that are asked; only None where none has one."""
    plans = plans_at(i for i in instances.members if i.name in asked)
    return plans - {None} or plans


def _signed_in(instances: Instances, asked: frozenset[str]) -> object:
    """Return what differs when somebody has signed in, or tokens are other ones."""
    return [(i.name, i.lender.census.sign_ins) for i in instances.members if i.name in asked]


def _why_nobody(instances: Instances, asked: frozenset[str], plan: str | None) -> str:
    """Say why no account of a plan can be asked."""
    dead: dict[Instance, list[Account]] = {}
    for instance, account in _accounts(instances, asked):
        if _has(account, plan) and account.needs_reauth is not None:
            dead.setdefault(instance, []).append(account)
    told = [
        str(
            NeedsReauthError(
                reasons=tuple((account.id, account.needs_reauth or "") for account in accounts),
                legacy=all(account.origin == "legacy" for account in accounts),
                instance=None if instance.is_first else instance.name,
            )
        )
        for instance, accounts in dead.items()
    ]
    return "; ".join(told) or f"no account of plan {plan} can be asked"


def _accounts(instances: Instances, asked: frozenset[str]) -> tuple[tuple[Instance, Account], ...]:
    return tuple((i, account) for i, account in instances.accounts() if i.name in asked)


def _has(account: Account, plan: str | None) -> bool:
    return plan is None or plan in plans_of(account)


def _plan_of(instances: Instances, account_id: str) -> str | None:
    for instance, account in instances.accounts():
        if instance.qualified(account.id) == account_id:
            return plan_of(account)
    return None
