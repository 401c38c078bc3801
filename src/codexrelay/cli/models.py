"""`codexrelay models`: which models there are, for which plans, and what they may be called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from codexrelay.accounts.standing import plans_of
from codexrelay.backends.codex.catalogue import Models
from codexrelay.backends.codex.listing import plans_in
from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.failure import (
    AnsweredFailureError,
    ConfigFailureError,
    FailureError,
)
from codexrelay.cli.accounts.instance import Instance
from codexrelay.cli.accounts.running import run
from codexrelay.cli.accounts.screen import console_of, print_json, print_rows, tell
from codexrelay.cli.accounts.words import from_now, iso, visible
from codexrelay.cli.process import World, open_relay
from codexrelay.config.folders import legacy_folders
from codexrelay.config.loading import load
from codexrelay.config.settings import Settings
from codexrelay.errors import ConfigError
from codexrelay.protocol.fit import levels
from codexrelay.protocol.model_choice import Others, choose
from codexrelay.protocol.models_list import is_listed
from codexrelay.protocol.raw import get_list, get_number, get_text
from codexrelay.server.models import open_catalogue, read_known, shelf_of
from codexrelay.server.offer import reaches_nothing
from codexrelay.setting import without_login

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from codexrelay.backends.codex.listing import Listing
    from codexrelay.backends.openai.settings import OpenAIBackendSettings
    from codexrelay.protocol.raw import JsonObject

_COLUMNS: Final = ("MODEL", "EFFORTS", "CONTEXT", "PLANS", "SOURCE")
#: The columns that are given room first.
_BY_WEIGHT: Final = ("MODEL", "EFFORTS", "PLANS", "CONTEXT", "SOURCE")
#: Those that have blanks to be broken at.
_BROKEN: Final = frozenset({"EFFORTS", "PLANS"})
#: Blanks between two columns.
_GAP: Final = 2
#: Narrower than this the table has no column for where a model is known from.
_WIDE: Final = 100
#: More plans than this are counted, not named.
_MOST_PLANS: Final = 4
_ASK: Final = "`codexrelay models --refresh` asks the backend"

_NOT_KNOWN: Final = f"its models are not known; {_ASK}"
_NO_LIST: Final = "it was asked for its models and gave none; backends.*.models can name them"


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file of the relay; CODEXRELAY_CONFIG may name it too.",
)
@click.option("--refresh", is_flag=True, help="Ask the backend first, with the accounts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_context
def models(ctx: click.Context, config_path: Path | None, *, refresh: bool, as_json: bool) -> None:
    """List the models, with their efforts, context and plans, and the aliases and routes.

    The list is the one that the backend gave the relay last, else the packaged one; the relay need
    not run. The default effort is marked with *. Of backends of other kinds the models are listed
    that the configuration names; with --refresh the others are asked for theirs.

    Exit status 1 when the backend was to be asked and did not answer.
    """
    call = ctx.find_object(Call) or Call()
    settings = _settings(call, config_path)
    began_unix_s = call.now_unix_s()
    failures: dict[str | None, str] = {}
    elsewhere: Mapping[str, tuple[str, ...]] = {}
    if refresh:
        seen, failures, elsewhere = run(call, partial(_ask, call, settings))
    else:
        seen = read_known(settings, _warn).models
    report = _Report(
        models=seen,
        told_elsewhere=elsewhere,
        ours=_plans(call, settings),
        settings=settings,
        began_unix_s=began_unix_s,
        now_unix_s=call.now_unix_s(),
    )
    if as_json:
        print_json(report.facts(failures))
    else:
        for name, problem in report.broken.items():
            key = "routes" if name in settings.models.routes else "aliases"
            _warn(f"models.{key}: {name!r} means nothing that can be reached: {problem}")
        _print(console_of(call), report)
    why = tuple(f"the backend gave no list{_of_plan(p)}: {told}" for p, told in failures.items())
    if refresh and not any(map(report.is_new, seen.listings)):
        raise AnsweredFailureError("; ".join(why) or "the backend was not asked")
    for told in why:
        _warn(told)


def _settings(call: Call, config_path: Path | None) -> Settings:
    try:
        loaded = load(config_path=config_path, environ=call.world.environ, flags={})
    except ConfigError as error:
        raise ConfigFailureError(tuple(map(str, error.problems))) from None
    for warning in loaded.warnings:
        _warn(str(warning))
    return loaded.settings


def _warn(told: str) -> None:
    tell(f"codexrelay: warning: {visible(told)}")


def _plans(call: Call, settings: Settings) -> frozenset[str]:
    """Return the plans of the accounts that the relay would use. Reads their files."""
    plans: set[str] = set()
    for name, codex in settings.backends.family:
        folders = legacy_folders(settings, call.world.environ, instance=name)
        stock = Instance(name=name, codex=codex, legacy_folders=folders).look()
        for entry in stock.entries:
            if entry.unused is None:
                plans.update(plans_of(entry.account))
    return frozenset(plans)


async def _ask(
    call: Call, settings: Settings
) -> tuple[Models, dict[str | None, str], Mapping[str, tuple[str, ...]]]:
    """Ask as a relay does; return what is known then, and why a plan's list could not be had.

    The last is what backends of other kinds say, by name, where the configuration does not.
    """
    world = World(
        legacy_folders=lambda name: legacy_folders(settings, call.world.environ, instance=name),
        wall_clock=call.world.wall_clock,
        new_id=lambda: call.world.random_bytes(16).hex(),
        proxy_for=call.world.proxy_for,
        variable=call.world.environ.get,
    )
    async with open_relay(settings, world) as relay:
        catalogue = await open_catalogue(
            settings,
            relay,
            wall_clock=world.wall_clock,
            warn=_warn,
            insists=True,
        )
        if not catalogue.asks:
            raise FailureError(
                "the backend is never asked for its models: set "
                "backends.openai_codex.extra.codex.model_catalog.discovery_enabled to true"
            )
        await catalogue.refresh(anyway=True)
        elsewhere = {
            name: await relay.others[name].listing.listed()
            for name, block in settings.backends.others
            if not block.models
        }
        return catalogue.now, catalogue.failures, elsewhere


@attrs.frozen(kw_only=True)
class _Report:
    """What the command tells."""

    models: Models
    #: What backends of other kinds were asked for, by name.
    told_elsewhere: Mapping[str, tuple[str, ...]]
    #: The plans of the accounts.
    ours: frozenset[str]
    settings: Settings
    #: When the command began.
    began_unix_s: float
    now_unix_s: float

    @property
    def aliases(self) -> Mapping[str, str]:
        """Those of the configuration that may reach a model."""
        broken = self.broken
        return {a: means for a, means in self.settings.models.aliases.items() if a not in broken}

    @property
    def routes(self) -> Mapping[str, Sequence[str]]:
        """Those of the configuration that may reach a model."""
        broken = self.broken
        return {r: means for r, means in self.settings.models.routes.items() if r not in broken}

    @property
    def broken(self) -> Mapping[str, str]:
        """The aliases and routes that reach nothing, and why."""
        models = self.settings.models
        reach = partial(
            reaches_nothing,
            models=models,
            known=self.models.by_slug,
            instances=[name for name, _ in self.settings.backends.family],
            others=self.others,
        )
        whys = ((name, reach(name)) for name in (*models.aliases, *models.routes))
        return {name: why for name, why in whys if why is not None}

    @property
    def others(self) -> Others:
        """What names say of backends of other kinds."""
        return self.settings.others

    def elsewhere(self) -> Iterator[tuple[str, OpenAIBackendSettings, Sequence[str] | None]]:
        """Yield the backends of other kinds with their models; None: they are not known."""
        for name, block in self.settings.backends.others:
            yield name, block, block.models or self.told_elsewhere.get(name) or None

    def is_new(self, listing: Listing) -> bool:
        """Tell whether the backend gave the list just now."""
        return self.models.source == "backend" and listing.fetched_unix_s >= self.began_unix_s

    def listing_of(self, slug: str) -> Listing | None:
        """Return the newest of the backend's lists that has the model."""
        having = [
            listing
            for listing in self.models.listings
            if any(get_text(model, "slug") == slug for model in listing.models)
        ]
        return max(having, key=lambda listing: listing.fetched_unix_s, default=None)

    def source_of(self, listing: Listing | None) -> str:
        """Return where a model is known from, in a word."""
        if listing is None:
            return self.models.source
        return "backend" if self.is_new(listing) else "cache"

    def offered(self, entry: JsonObject) -> Sequence[str] | None:
        """Return which of our plans have the model; None: its entry does not say."""
        plans = plans_in(entry)
        return None if plans is None else sorted(plans & self.ours)

    def facts(self, failures: Mapping[str | None, str]) -> JsonObject:
        """Return all of it, for programs."""
        return {
            "source": self.models.source,
            "models": [self._model(slug, entry) for slug, entry in self.models.by_slug.items()],
            "aliases": [self._alias(alias, means) for alias, means in self.aliases.items()],
            "broken_aliases": [
                {"alias": alias, "means": self.settings.models.aliases[alias], "problem": why}
                for alias, why in self.broken.items()
                if alias in self.settings.models.aliases
            ],
            "routes": [{"route": name, "means": [*means]} for name, means in self.routes.items()],
            "broken_routes": [
                {"route": route, "means": [*self.settings.models.routes[route]], "problem": why}
                for route, why in self.broken.items()
                if route in self.settings.models.routes
            ],
            "backends": [
                {
                    "backend": name,
                    "api_base_url": without_login(block.api_base_url),
                    "models": None if models is None else [*models],
                    "source": "configuration" if block.models else "backend" if models else None,
                }
                for name, block, models in self.elsewhere()
            ],
            "default_backend": self.settings.default_backend,
            "strict": self.settings.models.strict,
            "plans": [*sorted(self.ours)],
            "lists": [self._list(listing) for listing in self.models.listings],
            "cache": str(shelf_of(self.settings).path),
            "failures": [{"plan": plan, "why": why} for plan, why in failures.items()],
        }

    def _model(self, slug: str, entry: JsonObject) -> JsonObject:
        listing = self.listing_of(slug)
        plans, offered = plans_in(entry), self.offered(entry)
        return {
            "slug": slug,
            "listed": is_listed(entry),
            "reasoning_efforts": list(levels(entry)),
            "default_reasoning_effort": get_text(entry, "default_reasoning_level"),
            "context_window": entry.get("context_window"),
            "max_context_window": entry.get("max_context_window"),
            "input_modalities": get_list(entry, "input_modalities"),
            "support_verbosity": entry.get("support_verbosity"),
            "plans": None if plans is None else [*sorted(plans)],
            "offered_to": None if offered is None else [*offered],
            "source": self.source_of(listing),
            "fetched_at": None if listing is None else iso(listing.fetched_unix_s),
            "age_s": None if listing is None else self._age_s(listing),
        }

    def _alias(self, alias: str, means: str) -> JsonObject:
        told: JsonObject = {"alias": alias, "means": means, "problem": None}
        known, others = self.models.by_slug, self.others
        choice = choose(alias, aliases=self.aliases, known=known, others=others)
        if choice.slug not in known and choice.instance not in others.models:
            told["problem"] = f"the list has no model {choice.slug!r}"
        return told | {
            "model": choice.slug,
            "instance": choice.instance,
            "reasoning_effort": choice.effort,
            "verbosity": choice.verbosity,
            "service_tier": choice.service_tier,
            "capabilities": dict(choice.capabilities),
        }

    def problem_of(self, alias: str) -> str | None:
        """Say what is wrong with an alias; None: nothing."""
        return get_text(self._alias(alias, self.aliases[alias]), "problem")

    def _list(self, listing: Listing) -> JsonObject:
        return {
            "plan": listing.plan,
            "models": len(listing.models),
            "source": self.source_of(listing),
            "fetched_at": iso(listing.fetched_unix_s),
            "age_s": self._age_s(listing),
            "etag": listing.etag,
            "client_version": listing.client_version,
        }

    def _age_s(self, listing: Listing) -> int:
        return max(0, round(self.now_unix_s - listing.fetched_unix_s))

    def age_of(self, listing: Listing) -> str:
        """Return how old a list is, in words."""
        return from_now(listing.fetched_unix_s, now_unix_s=self.now_unix_s)


def _print(console: Console, report: _Report) -> None:
    table, left_out = _table(report, width=console.width)
    print_rows(console, table)
    if aliases := report.aliases:
        click.echo()
        width = max(map(len, map(visible, aliases)))
        for alias, means in aliases.items():
            problem = report.problem_of(alias)
            told = "" if problem is None else f"  ({visible(problem)})"
            click.echo(f"{visible(alias):{width}}  means {visible(means)}{told}")
    if routes := report.routes:
        click.echo()
        width = max(map(len, map(visible, routes)))
        for route, models in routes.items():
            click.echo(f"{visible(route):{width}}  tries {visible(', then '.join(models))}")
    for name, block, listed in report.elsewhere():
        click.echo()
        click.echo(f"Backend {name}, {visible(without_login(block.api_base_url))}:")
        for model in listed or ():
            click.echo(f"  {visible(f'{name}:{model}')}")
        if listed is None:
            click.echo(f"  {_NO_LIST if name in report.told_elsewhere else _NOT_KNOWN}")
    click.echo()
    if left_out:
        click.echo(f"There is no room for: {', '.join(left_out)}.")
    for line in _origin(report):
        click.echo(line)


def _table(report: _Report, *, width: int) -> tuple[Table, tuple[str, ...]]:
    """Return the table with the columns that fit, and the names of those that do not."""
    rows = [
        _row(report, slug, entry)
        for slug, entry in report.models.by_slug.items()
        if is_listed(entry)
    ]
    columns = _fitting(rows, width=width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column not in _BROKEN, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table, tuple(column for column in _COLUMNS[:-1] if column not in columns)


def _row(report: _Report, slug: str, entry: JsonObject) -> dict[str, Text]:
    listing = report.listing_of(slug)
    source = report.source_of(listing)
    if listing is not None:
        source += f", {report.age_of(listing)}"
    texts = (
        Text(visible(slug), "bold"),
        Text(visible(_efforts(entry))),
        Text(_context(entry)),
        _offered(report, entry),
        Text(source, "dim"),
    )
    return dict(zip(_COLUMNS, texts, strict=True))


def _fitting(rows: Sequence[Mapping[str, Text]], *, width: int) -> tuple[str, ...]:
    """Return the columns for which there is room, without a word or a name broken."""
    taken, fitting = 0, set[str]()
    for column in _BY_WEIGHT:
        cells = [column, *(row[column].plain for row in rows)]
        need = max(cell_len(p) for c in cells for p in (c.split() if column in _BROKEN else [c]))
        gap = _GAP if fitting else 0
        too_wide = taken + gap + need > width or (column == "SOURCE" and width < _WIDE)
        if fitting and too_wide:
            continue
        taken += gap + need
        fitting.add(column)
    return tuple(column for column in _COLUMNS if column in fitting)


def _efforts(entry: JsonObject) -> str:
    default = get_text(entry, "default_reasoning_level")
    marked = (f"{level}*" if level == default else level for level in levels(entry))
    return " ".join(marked) or "-"


def _context(entry: JsonObject) -> str:
    window, most = get_number(entry, "context_window"), get_number(entry, "max_context_window")
    if window is None:
        return "-"
    told = _tokens(window)
    return told if most is None or most <= window else f"{told} (max {_tokens(most)})"


def _tokens(count: float) -> str:
    return f"{count / 1000:.0f}k" if count >= 1000 else f"{count:.0f}"


def _offered(report: _Report, entry: JsonObject) -> Text:
    plans, offered = plans_in(entry), report.offered(entry)
    if plans is None or offered is None:
        return Text("-", "dim")
    if offered:
        return Text(visible(", ".join(offered)))
    if not report.ours and len(plans) <= _MOST_PLANS:
        return Text(visible(", ".join(sorted(plans))))
    return Text(f"{len(plans)} plans") if not report.ours else Text("none of yours", "yellow")


def _origin(report: _Report) -> list[str]:
    """Return where the list is from, how old it is, and what it lacks."""
    lines = []
    hidden = [s for s, entry in report.models.by_slug.items() if not is_listed(entry)]
    if hidden:
        lines.append(f"Not listed, but to be had by name: {visible(', '.join(hidden))}")
    match report.models.source:
        case "packaged":
            lines.append(f"The list is the packaged one. {_ASK}.")
        case "file":
            catalog = report.settings.backends.openai_codex.extra.codex.model_catalog
            lines.append(f"The list is in {catalog.fallback_path}.")
        case _:
            lines += [
                f"The list{_of_plan(listing.plan)} is the backend's, had {report.age_of(listing)}."
                for listing in report.models.listings
            ]
            asked = {listing.plan for listing in report.models.listings}
            if missing := sorted(report.ours - asked):
                lines.append(f"Not asked for: plan {', '.join(missing)}. {_ASK}.")
    return lines


def _of_plan(plan: str | None) -> str:
    return "" if plan is None else f" of plan {visible(plan)}"
