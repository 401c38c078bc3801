"""One configuration out of all sources: flag beats environment beats YAML beats default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.config import environment, instances, rules, yaml_file
from codexrelay.config import flags as flag_source
from codexrelay.config.folders import absolute
from codexrelay.config.keys import KEYS, Given, KeyPath, Reading, in_first_block, parts_of
from codexrelay.config.settings import Settings
from codexrelay.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names the YAML file where `--config` does not. No file is read unless one of them names it.
CONFIG_VARIABLE: Final = "CODEXRELAY_CONFIG"
#: Keys that name folders; the settings hold them as absolute paths.
_FOLDERS: Final = (
    "sessions.state_path",
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
    merged.complete()
    settings = merged.settings()
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
    #: Further blocks of the backend that some source has.
    further: set[str] = attrs.field(factory=set)
    #: Keys for which some source gave a value of no use; those of further blocks stand here under
    #: the name that the same key has in the first.
    faulty: set[str] = attrs.field(factory=set)
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)

    def take(self, reading: Reading) -> None:
        """Let a source speak that beats all before it."""
        self.warnings += reading.warnings
        self.further.update(reading.further)
        for found in reading.found:
            if isinstance(found, Problem):
                self.problems.append(found)
            else:
                self._take_value(found)

    def judge(
        self, judges: Mapping[rules.Rule, tuple[str, ...]], settings: Settings
    ) -> Iterator[Problem]:
        """Yield what the rules find in `settings`, without those that read a faulty key."""
        configured = rules.Configured(settings=settings, places=self.places, environ=self.environ)
        for rule, keys in judges.items():
            if self.faulty.isdisjoint(keys):
                # What several blocks take over from the first one is said once.
                yield from dict.fromkeys(rule(configured))

    def complete(self) -> None:
        """Fill in what the further blocks do not give, once all sources have spoken."""
        for block in self.further:
            self.take(instances.not_given(block, values=self.values, places=self.places))

    def settings(self) -> Settings:
        """Return the settings that the values make."""
        settings = _build(Settings, self.values)
        further = tuple(
            (
                block.replace("_", "-"),
                _build(CodexBackendSettings, self.values, ("backends", block)),
            )
            for block in sorted(self.further, key=instances.number_of)
        )
        return attrs.evolve(settings, backends=attrs.evolve(settings.backends, further=further))

    def _take_value(self, given: Given) -> None:
        name = given.key.name
        in_first = ".".join(in_first_block(given.key.path))
        try:
            value = given.key.check(given.value)
            if in_first in _FOLDERS and isinstance(value, str):
                value = str(absolute(value, folder=given.folder, environ=self.environ))
        except ValueError as error:
            self.problems.append(Problem(given.where, str(error)))
            self.faulty.add(in_first)
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
    for field, wanted in parts_of(settings):
        here = (*path, field.name)
        if isinstance(wanted, type) and attrs.has(wanted):
            arguments[field.name] = _build(wanted, values, here)
        else:
            arguments[field.name] = values[".".join(here)]
    return settings(**arguments)
