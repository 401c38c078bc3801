"""The configuration of a running relay: read again when its file changes, or when somebody asks.

What has changed acts at once where the key's `setting` says `live`; the rest keeps its old value
until a restart. A configuration that cannot be used is refused as a whole.
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import attrs
import structlog
import trio

from codexrelay.config import rules
from codexrelay.config.keys import KeyPath, path_of
from codexrelay.config.loading import CONFIG_VARIABLE, Loaded, load
from codexrelay.config.settings import Settings
from codexrelay.errors import ConfigError, Problem
from codexrelay.setting import about

#: Seconds between two looks at the file.
LOOK_S: Final = 1.0
#: Seconds between two looks when somebody has asked, and the seconds for which they are taken if
#: the file does not come to rest.
REST_S: Final = 0.1
RESTLESS_S: Final = 2.0
_CLIENT_KEYS: Final = "server.client_keys"

log: structlog.stdlib.BoundLogger = structlog.get_logger("codexrelay.config")

#: What tells one state of a file from another: times of the changes, size, inode. None: no file.
Mark: TypeAlias = "tuple[int, int, int, int] | None"
Adopt: TypeAlias = Callable[[Settings], Awaitable[None]]

_Settings = TypeVar("_Settings", bound=attrs.AttrsInstance)


@attrs.frozen(kw_only=True)
class Sources:
    """Where a relay has its configuration from; the environment and the flags as at its start."""

    config_path: Path | None
    environ: Mapping[str, str] = attrs.field(repr=False)
    flags: Mapping[str, object] = attrs.field(repr=False)

    @property
    def file(self) -> Path | None:
        """The configuration file, None where none is named."""
        if self.config_path is not None:
            return self.config_path
        named = self.environ.get(CONFIG_VARIABLE)
        return None if named is None else Path(named)

    def load(self, *, starts: bool = False) -> Loaded:
        """Return what they say now; for `starts` and what is raised see `loading.load`."""
        return load(
            config_path=self.config_path, environ=self.environ, flags=self.flags, starts=starts
        )


@attrs.frozen(kw_only=True)
class Reloaded:
    """A configuration that can take the place of the one in force."""

    settings: Settings
    #: Full key paths of what is not as it was.
    changed: tuple[str, ...]
    #: Those that have another value in the file and keep the old one until a restart; also blocks
    #: of the backend that have come or gone.
    held: tuple[str, ...]
    #: What should be looked at, of the file as it is.
    warnings: tuple[Problem, ...] = ()


@attrs.frozen
class Refused:
    """Why a configuration cannot take the place of the one in force."""

    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        return "; ".join(" ".join(str(problem).split()) for problem in self.problems)


def reread(sources: Sources, in_force: Settings) -> Reloaded | Refused:
    """Read the configuration again and say what would become of the one in force. Blocks."""
    file = sources.file
    if file is not None and is_special(file):  # to read a pipe may take for ever
        return Refused((Problem(str(file), "is no regular file any more"),))
    try:
        loaded = sources.load()
    except ConfigError as error:
        return Refused(error.problems)
    reloaded = attrs.evolve(compare(in_force, loaded.settings), warnings=loaded.warnings)
    # What must not come together was looked for in the new one alone: a host that is listened on
    # still, and no client keys any more.
    problems = _judge(reloaded, loaded, sources.environ) if reloaded.held else ()
    if problems:
        told = "old until a restart, which the rest does not fit: restart the relay"
        return Refused((*problems, Problem(", ".join(reloaded.held), told)))
    problem = _half_written(file, loaded, in_force, reloaded)
    return reloaded if problem is None else Refused((problem,))


def _half_written(
    file: Path | None, loaded: Loaded, in_force: Settings, reloaded: Reloaded
) -> Problem | None:
    """Return why a file may be one that somebody is still writing, and must not act."""
    said = {name for name, given in loaded.found.items() if given.origin.kind == "file"}
    if file is not None and not said and (reloaded.changed or reloaded.held):
        return Problem(str(file), "is empty; for the defaults, start the relay again")
    if in_force.server.client_keys and not (
        reloaded.settings.server.client_keys or _CLIENT_KEYS in said
    ):
        return Problem(
            _CLIENT_KEYS,
            "is gone, and any key would do: write client_keys: [] if that is what you want",
        )
    return None


def compare(in_force: Settings, wanted: Settings) -> Reloaded:
    """Return what `wanted` makes of the settings in force, without a restart."""
    changes = _Changes()
    settings = changes.merge(in_force, wanted, ())
    further = changes.merge_blocks(in_force.backends.further, wanted.backends.further)
    others = changes.merge_blocks(in_force.backends.others, wanted.backends.others)
    backends = attrs.evolve(settings.backends, further=further, others=others)
    return Reloaded(
        settings=attrs.evolve(settings, backends=backends),
        changed=tuple(changes.changed),
        held=tuple(changes.held),
    )


@attrs.define(eq=False)
class _Changes:
    """What was found on a walk through two settings side by side, as full key paths."""

    changed: list[str] = attrs.field(factory=list)
    held: list[str] = attrs.field(factory=list)

    def merge(self, in_force: _Settings, wanted: _Settings, path: KeyPath) -> _Settings:
        """Return `in_force` with those keys as in `wanted` that can change."""
        settings = type(in_force)
        values: dict[str, object] = {}
        for field in attrs.fields(settings):
            said = about(field)
            old, new = getattr(in_force, field.name), getattr(wanted, field.name)
            here, values[field.name] = (*path, field.name), old
            if said is None or old == new:
                continue
            if attrs.has(type(old)):
                values[field.name] = self.merge(old, new, here)
            elif said.live:
                values[field.name] = new
                self.changed.append(".".join(here))
            else:
                self.held.append(".".join(here))
        return settings(**values)

    def merge_blocks(
        self, in_force: tuple[tuple[str, _Settings], ...], wanted: tuple[tuple[str, _Settings], ...]
    ) -> tuple[tuple[str, _Settings], ...]:
        """Return the blocks in force, by name, with their keys as in `wanted` that can change.

        A block that has come or gone needs a restart as a whole.
        """
        wanted_blocks = dict(wanted)
        come_or_gone = dict(in_force).keys() ^ wanted_blocks
        merged = tuple(
            (name, self.merge(block, wanted_blocks.get(name, block), path_of(name)))
            for name, block in in_force
        )
        self.held += (".".join(path_of(name)) for name in sorted(come_or_gone))
        return merged


def _judge(reloaded: Reloaded, loaded: Loaded, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return what is wrong with the settings that would be in force."""
    places = {n: given.where for n, given in loaded.found.items() if n not in reloaded.held}
    settings = reloaded.settings
    configured = rules.Configured(settings=settings, places=_Places(places), environ=environ)
    # What several blocks take over from the first one is said once.
    return tuple(dict.fromkeys(p for rule in rules.PROBLEM_RULES for p in rule(configured)))


class _Places(dict[str, str]):
    """Calls what the file does not say by its key."""

    def __missing__(self, key: str) -> str:
        return key


class Seen(enum.Enum):
    """What a look at the file has found."""

    NOTHING_NEW = enum.auto()
    CHANGED = enum.auto()
    GONE = enum.auto()


@attrs.define(eq=False)
class Watch:
    """Tells from looks at a file, one after the other, when it has changed and come to rest.

    Editors write in steps, and some take the old file away first: what two looks in a row find the
    same is at rest.
    """

    #: As it was when it was read last, or said to be gone.
    known: Mark
    _last: Mark = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._last = self.known

    def look(self, mark: Mark) -> Seen:
        """Take one look; what it tells is told once."""
        at_rest, self._last = mark == self._last, mark
        if mark == self.known or not at_rest:
            return Seen.NOTHING_NEW
        self.known = mark
        return Seen.GONE if mark is None else Seen.CHANGED


def mark_of(file: Path | None) -> Mark:
    """Look at the file that is meant, where a link leads to one."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def is_special(file: Path) -> bool:
    """Return whether it is a pipe or the like, which can be read once at most."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@attrs.define(eq=False)
class Live:
    """The configuration in force, and what may change it. One task changes it: `keep`'s."""

    sources: Sources
    settings: Settings
    #: Of the file as it was read last.
    warnings: tuple[Problem, ...] = ()
    watch: Watch = attrs.field(factory=lambda: Watch(None))
    #: The file that is read again; None where none is named, or it is a pipe.
    file: Path | None = None
    _asked: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: What a restart is needed for, as it was last said.
    _held: tuple[str, ...] = attrs.field(default=(), init=False)

    @classmethod
    def load(cls, sources: Sources) -> Live:
        """Load it for the first time; raises ConfigError as `loading.load` does."""
        file = sources.file
        mark = mark_of(file)  # first: what changes while it is read is read again
        once = file is not None and is_special(file)
        loaded = sources.load(starts=True)
        warnings = loaded.warnings
        if once:
            what = "is no regular file: it was read once, and is not read again"
            warnings += (Problem(str(file), what),)
            file = None
        return cls(sources, loaded.settings, warnings, Watch(None if once else mark), file)

    @property
    def is_asked(self) -> bool:
        """Whether somebody has asked and nothing has been done about it yet."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Have it read again now, and the account files looked at, whatever has changed."""
        self._asked.set()

    async def keep(self, adopt: Adopt, *, look_s: float = LOOK_S) -> None:
        """Look at the file every `look_s` seconds and let what has changed act, until cancelled.

        `adopt` lets settings act, and looks at the account files. Cancelled at any moment, it has
        let all of a new configuration act, or nothing.
        """
        while True:
            with trio.move_on_after(look_s):
                await self._asked.wait()
            try:
                await self._look(adopt)
            except Exception:
                log.exception("the configuration could not be read again; the old one stays")

    async def _look(self, adopt: Adopt) -> None:
        if self.is_asked:
            self._asked = trio.Event()
            if self.file is None:
                await adopt(self.settings)
                log.info("no configuration file to reload; the accounts were looked at")
            else:
                await self._come_to_rest(self.file)
                await self._reload(adopt, asked=True)
            return
        match self.watch.look(mark_of(self.file)):
            case Seen.CHANGED:
                await self._reload(adopt, asked=False)
            case Seen.GONE:
                told = f"{self.file} is gone; the configuration stays as it is"
                log.warning(told)
            case Seen.NOTHING_NEW:
                pass

    async def _come_to_rest(self, file: Path) -> None:
        """Wait until two looks find the file the same: whoever asks may still be writing."""
        with trio.move_on_after(RESTLESS_S):
            before = mark_of(file)
            while True:
                await trio.sleep(REST_S)
                if (now := mark_of(file)) == before:
                    return
                before = now

    async def _reload(self, adopt: Adopt, *, asked: bool) -> None:
        self.watch.known = mark_of(self.file)
        result = await trio.to_thread.run_sync(
            # It changes nothing, so a file system that does not answer holds up no end of ours.
            partial(reread, self.sources, self.settings),
            abandon_on_cancel=True,
        )
        if isinstance(result, Refused):
            if asked:
                await adopt(self.settings)
            told = f"configuration not reloaded, the old one stays: {result}"
            log.error(told)
            return
        if asked or result.changed:
            await adopt(result.settings)
        # No checkpoint: what acts is what is in force.
        self.settings = result.settings
        self._tell(result, asked=asked)

    def _tell(self, result: Reloaded, *, asked: bool) -> None:
        if result.changed:
            log.info("configuration reloaded", changed=", ".join(result.changed))
        elif asked and not result.held:
            log.info("configuration reloaded: nothing has changed")
        if result.held and (asked or result.held != self._held):
            log.warning("changes that need a restart", waiting=", ".join(result.held))
        for warning in result.warnings:
            if warning not in self.warnings:
                log.warning(str(warning))
        self._held, self.warnings = result.held, result.warnings
