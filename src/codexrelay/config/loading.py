"""One configuration out of all sources: flag beats environment beats YAML beats default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.config import environment, instances, rules, yaml_file
from codexrelay.config import flags as flag_source
from codexrelay.config.folders import absolute
from codexrelay.config.keys import (
    KEYS,
    OTHER_KEYS,
    Entry,
    Given,
    KeyPath,
    Origin,
    Reading,
    in_block,
    in_kind,
    is_section,
    mapping_of,
    parts_of,
)
from codexrelay.config.settings import Settings
from codexrelay.config.values import is_mapping
from codexrelay.errors import ConfigError, Problem
from codexrelay.protocol.model_id import canonical_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codexrelay.config.keys import Key

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
    starts: bool = False,
) -> Loaded:
    """Return the configuration that file, environment and flags make together.

    `flags` maps full key paths (`server.port`) to values; None means that the flag was not given,
    and text is read as in the environment. Without `config_path` the variable `CODEXRELAY_CONFIG`
    names the file; without both there is none. `named_by` is what gave `config_path`, for messages.
    `starts` says that a relay is to be started with it: then it is a problem, else a warning, where
    keys of backends are not where the configuration says.

    Raises:
        ConfigError: something is wrong anywhere, in a value that is overridden too. It lists all
            problems.
    """
    merged = _Merged(environ)
    merged.take(_as_by_default(key for key in KEYS.values() if not key.is_mapping))
    merged.take(_file(config_path, environ, named_by))
    merged.take(environment.read(environ))
    merged.take(flag_source.read(flags))
    merged.complete()
    settings = merged.settings()
    lacking = tuple(merged.judge(rules.START_RULES, settings))
    problems = (*merged.problems, *merged.judge(rules.PROBLEM_RULES, settings))
    if starts:
        problems += lacking
    if problems:
        raise ConfigError(problems)
    warnings = (*merged.warnings, *merged.judge(rules.WARNING_RULES, settings))
    if not starts:
        warnings += lacking
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
    #: Blocks of backends of other kinds, with the places where they begin.
    others: dict[str, str] = attrs.field(factory=dict)
    #: Keys for which some source gave a value of no use, by full key path.
    refused: set[str] = attrs.field(factory=set)
    #: The same keys, under the names that they have in the block that stands for all of its kind.
    faulty: set[str] = attrs.field(factory=set)
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)

    def take(self, reading: Reading) -> None:
        """Let a source speak that beats all before it."""
        self.warnings += reading.warnings
        self.further.update(reading.further)
        self.others.update(reading.others)
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
        """Fill in what blocks do not give, once all sources have spoken."""
        for block in self.further:
            self.take(instances.not_given(block, self.found))
        for block, where in self.others.items():
            keys = [in_block(key, block) for key in OTHER_KEYS.values()]
            missing = [key for key in keys if key.name not in self.found and not key.is_mapping]
            for key in missing:
                if key.about.needed is not None and key.name not in self.refused:
                    told = f"needs {key.path[-1]}, for example {key.about.needed}"
                    self.problems.append(Problem(where, told))
                    self.faulty.add(".".join(in_kind(key.path)))
            self.take(_as_by_default(missing))

    def settings(self) -> Settings:
        """Return the settings that the values make."""
        settings = _build(Settings, self.found)
        further = tuple(
            (
                canonical_name(block),
                _build(CodexBackendSettings, self.found, ("backends", block)),
            )
            for block in sorted(self.further, key=instances.number_of)
        )
        others = tuple(
            (
                canonical_name(block),
                _build(OpenAIBackendSettings, self.found, ("backends", block)),
            )
            for block in self.others
        )
        backends = attrs.evolve(settings.backends, further=further, others=others)
        return attrs.evolve(settings, backends=backends)

    def _take_value(self, given: Given) -> None:
        key = given.key
        try:
            value = key.check(given.value)
            if key.about.path is not None and isinstance(value, str):
                value = str(absolute(value, folder=given.folder, environ=self.environ))
        except ValueError as error:
            self.problems.append(Problem(given.where, str(error)))
            self.refused.add(key.name)
            self.faulty.add(".".join(in_kind(mapping_of(key.path) or key.path)))
        else:
            self.found[key.name] = attrs.evolve(given, value=value)


def _as_by_default(keys: Iterable[Key]) -> Reading:
    """Return keys at their defaults; one that has none is what it may look like."""
    return Reading(
        found=tuple(
            Given(
                key=key,
                value=key.default if key.about.needed is None else key.about.needed,
                where=key.name,
                origin=Origin("default"),
            )
            for key in keys
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
