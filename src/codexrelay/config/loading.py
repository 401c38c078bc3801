"""One configuration out of all sources: flag beats environment beats YAML beats default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.config import environment, instances, rules, yaml_file
from codexrelay.config import flags as flag_source
from codexrelay.config.folders import absolute
from codexrelay.config.keys import (
    KEYS,
    Entry,
    Given,
    KeyPath,
    Origin,
    Reading,
    in_first_block,
    is_section,
    mapping_of,
    parts_of,
)
from codexrelay.config.settings import Settings
from codexrelay.config.values import is_mapping
from codexrelay.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names the YAML file where `--config` does not. No file is read unless one of them names it.
CONFIG_VARIABLE: Final = "CODEXRELAY_CONFIG"
_Settings = TypeVar("_Settings", bound=attrs.AttrsInstance)


@attrs.frozen
class Loaded:
    """A configuration that can be used."""

    settings: Settings
    #: What should be looked at, one log line each.
    warnings: tuple[Problem, ...]
    #: Every key and every entry of a mapping by full key path, with its value as the settings have
    #: it and the source it is from.
    found: Mapping[str, Given] = attrs.field(repr=False)


def load(
    *,
    config_path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    named_by: str = "--config",
) -> Loaded:
    """Return the configuration that file, environment and flags make together.

    `flags` maps full key paths (`server.port`) to values; None means that the flag was not given,
    and text is read as in the environment. Without `config_path` the variable `CODEXRELAY_CONFIG`
    names the file; without both there is none. `named_by` is what gave `config_path`, for messages.

    Raises:
        ConfigError: something is wrong anywhere, in a value that is overridden too. It lists all
            problems.
    """
    merged = _Merged(environ)
    merged.take(_defaults())
    merged.take(_file(config_path, environ, named_by))
    merged.take(environment.read(environ))
    merged.take(flag_source.read(flags))
    merged.complete()
    settings = merged.settings()
    problems = (*merged.problems, *merged.judge(rules.PROBLEM_RULES, settings))
    if problems:
        raise ConfigError(problems)
    warnings = (*merged.warnings, *merged.judge(rules.WARNING_RULES, settings))
    return Loaded(settings, warnings, merged.found)


@attrs.define(eq=False)
class _Merged:
    """What the sources taken so far say together."""

    environ: Mapping[str, str]
    #: With values as the settings have them.
    found: dict[str, Given] = attrs.field(factory=dict)
    entries: list[Entry] = attrs.field(factory=list)
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
            elif isinstance(found, Entry):
                self.entries.append(found)
            else:
                self._take_value(found)

    def judge(
        self, judges: Mapping[rules.Rule, tuple[str, ...]], settings: Settings
    ) -> Iterator[Problem]:
        """Yield what the rules find in `settings`, without those that read a faulty key."""
        places = {name: given.where for name, given in self.found.items()}
        configured = rules.Configured(
            settings=settings, places=places, environ=self.environ, entries=tuple(self.entries)
        )
        for rule, keys in judges.items():
            if self.faulty.isdisjoint(keys):
                # What several blocks take over from the first one is said once.
                yield from dict.fromkeys(rule(configured))

    def complete(self) -> None:
        """Fill in what the further blocks do not give, once all sources have spoken."""
        for block in self.further:
            self.take(instances.not_given(block, self.found))

    def settings(self) -> Settings:
        """Return the settings that the values make."""
        settings = _build(Settings, self.found)
        further = tuple(
            (
                block.replace("_", "-"),
                _build(CodexBackendSettings, self.found, ("backends", block)),
            )
            for block in sorted(self.further, key=instances.number_of)
        )
        return attrs.evolve(settings, backends=attrs.evolve(settings.backends, further=further))

    def _take_value(self, given: Given) -> None:
        key = given.key
        try:
            value = key.check(given.value)
            if key.about.path is not None and isinstance(value, str):
                value = str(absolute(value, folder=given.folder, environ=self.environ))
        except ValueError as error:
            self.problems.append(Problem(given.where, str(error)))
            of_mapping = mapping_of(key.path)
            self.faulty.add(".".join(in_first_block(of_mapping or key.path)))
        else:
            self.found[key.name] = attrs.evolve(given, value=value)


def _defaults() -> Reading:
    return Reading(
        found=tuple(
            Given(key=key, value=key.default, where=key.name, origin=Origin("default"))
            for key in KEYS.values()
            if not key.is_mapping
        )
    )


def _file(config_path: Path | None, environ: Mapping[str, str], named_by: str) -> Reading:
    if config_path is not None:
        return yaml_file.read(config_path, named_by=named_by)
    if CONFIG_VARIABLE in environ:
        return yaml_file.read(Path(environ[CONFIG_VARIABLE]), named_by=CONFIG_VARIABLE)
    return Reading()


def _build(settings: type[_Settings], found: Mapping[str, Given], path: KeyPath = ()) -> _Settings:
    """Return the settings class with what was found, which has every key."""
    arguments: dict[str, object] = {}
    for field, wanted, _ in parts_of(settings):
        here = (*path, field.name)
        if is_section(wanted):
            arguments[field.name] = _build(wanted, found, here)
        elif is_mapping(wanted):
            arguments[field.name] = _entries(found, here)
        else:
            arguments[field.name] = found[".".join(here)].value
    return settings(**arguments)


def _entries(found: Mapping[str, Given], mapping: KeyPath) -> dict[str, object]:
    """Return what a mapping holds; an entry that is null is none."""
    entries: dict[str, Any] = {}
    for given in found.values():
        if mapping_of(given.key.path) == mapping and given.value is not None:
            *names, last = given.key.path[len(mapping) :]
            at = entries
            for name in names:
                at = at.setdefault(name, {})
            at[last] = given.value
    return entries
