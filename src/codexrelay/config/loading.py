"""One configuration out of all sources: flag beats environment beats YAML beats default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, get_type_hints

import attrs

from codexrelay.config import environment, rules, yaml_file
from codexrelay.config import flags as flag_source
from codexrelay.config.folders import absolute
from codexrelay.config.keys import KEYS, Given, KeyPath, Reading
from codexrelay.config.settings import Settings
from codexrelay.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names the YAML file where `--config` does not. No file is read unless one of them names it.
CONFIG_VARIABLE: Final = "CODEXRELAY_CONFIG"
#: Keys that name folders; the settings hold them as absolute paths.
_FOLDERS: Final = (
    "backends.openai_codex.auth_path",
    "backends.openai_codex.extra.codex.managed_oauth.storage_path",
)

_Settings = TypeVar("_Settings", bound=attrs.AttrsInstance)


@attrs.frozen
class Loaded:
    """A configuration that can be used."""

    settings: Settings
    #: What should be looked at, one log line each.
    warnings: tuple[Problem, ...]


def load(
    *, config_path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Loaded:
    """Return the configuration that file, environment and flags make together.

    `flags` maps full key paths (`server.port`) to values; None means that the flag was not given,
    and text is read as in the environment. Without `config_path` the variable `CODEXRELAY_CONFIG`
    names the file; without both there is none.

    Raises:
        ConfigError: something is wrong anywhere, in a value that is overridden too. It lists all
            problems.
    """
    merged = _Merged(environ)
    merged.take(_defaults())
    merged.take(_file(config_path, environ))
    merged.take(environment.read(environ))
    merged.take(flag_source.read(flags))
    settings = _build(Settings, merged.values)
    problems = (*merged.problems, *merged.judge(rules.PROBLEM_RULES, settings))
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, (*merged.warnings, *merged.judge(rules.WARNING_RULES, settings)))


@attrs.define(eq=False)
class _Merged:
    """What the sources taken so far say together; mappings are by full key path."""

    environ: Mapping[str, str]
    values: dict[str, object] = attrs.field(factory=dict)
    #: What a message calls the place that a value comes from.
    places: dict[str, str] = attrs.field(factory=dict)
    #: Keys for which some source gave a value of no use.
    faulty: set[str] = attrs.field(factory=set)
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)

    def take(self, reading: Reading) -> None:
        """Let a source speak that beats all before it."""
        self.warnings += reading.warnings
        for found in reading.found:
            if isinstance(found, Problem):
                self.problems.append(found)
            else:
                self._take_value(found)

    def judge(
        self, judges: Mapping[tuple[str, ...], rules.Rule], settings: Settings
    ) -> Iterator[Problem]:
        """Yield what the rules find in `settings`, without those that read a faulty key."""
        for keys, rule in judges.items():
            if self.faulty.isdisjoint(keys):
                yield from rule(settings, self.places)

    def _take_value(self, given: Given) -> None:
        name = given.key.name
        try:
            value = given.key.check(given.value)
            if name in _FOLDERS and isinstance(value, str):
                value = str(absolute(value, folder=given.folder, environ=self.environ))
        except ValueError as error:
            self.problems.append(Problem(given.where, str(error)))
            self.faulty.add(name)
        else:
            self.values[name], self.places[name] = value, given.where


def _defaults() -> Reading:
    return Reading(
        found=tuple(
            Given(key=key, value=key.field.default, where=key.name) for key in KEYS.values()
        )
    )


def _file(config_path: Path | None, environ: Mapping[str, str]) -> Reading:
    if config_path is not None:
        return yaml_file.read(config_path, named_by="--config")
    if CONFIG_VARIABLE in environ:
        return yaml_file.read(Path(environ[CONFIG_VARIABLE]), named_by=CONFIG_VARIABLE)
    return Reading()


def _build(
    settings: type[_Settings], values: Mapping[str, object], path: KeyPath = ()
) -> _Settings:
    """Return the settings class with `values`, which has every key."""
    arguments: dict[str, object] = {}
    for name, wanted in get_type_hints(settings).items():
        here = (*path, name)
        if isinstance(wanted, type) and attrs.has(wanted):
            arguments[name] = _build(wanted, values, here)
        else:
            arguments[name] = values[".".join(here)]
    return settings(**arguments)
