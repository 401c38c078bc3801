"""All keys of the configuration as one flat table, drawn from the settings classes."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, get_type_hints

import attrs

from codexrelay.config.settings import NO_KEY, SECRET, Settings
from codexrelay.config.values import conform, shown, without_login
from codexrelay.errors import Problem
from codexrelay.protocol.model_id import instance_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

KeyPath: TypeAlias = tuple[str, ...]

#: The block of the backend that flags and the environment speak of. Further instances of it have
#: the same keys, in a block beside it: `backends.openai_codex.2`.
FIRST_BLOCK: Final = ("backends", "openai_codex")
#: Parts of a path that would only make flags longer, since they are for the first block alone.
_NOT_IN_FLAGS: Final = frozenset({"server", "backends", "openai_codex", "extra", "codex"})


@attrs.frozen(kw_only=True)
class Key:
    """One setting."""

    path: KeyPath
    #: The annotation of its field, resolved.
    wanted: object
    field: attrs.Attribute[object]

    @property
    def name(self) -> str:
        """The full key path, `server.port`."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The command-line flag, `--managed-oauth-storage-path`."""
        parts = (part.replace("_", "-") for part in self.path if part not in _NOT_IN_FLAGS)
        return "--" + "-".join(parts)

    def check(self, value: object) -> object:
        """Return `value` as the settings class takes it.

        Raises:
            ValueError: it is of the wrong type or out of range. The text says what is allowed, and
                what was given unless that is secret.
        """
        try:
            conformed = conform(value, self.wanted)
            self._check_range(conformed)
        except ValueError as error:
            given = "" if self.field.metadata.get(SECRET) else f", not {shown(value)}"
            raise ValueError(without_login(f"{error}{given}")) from None
        return conformed

    def _check_range(self, value: object) -> None:
        if self.field.validator is None:
            return
        try:
            self.field.validator(None, self.field, value)
        except ValueError as error:
            # attrs words it `'port' must be <= 65535: 70000`; name and value are said elsewhere.
            what = str(error.args[0])
            name_first, value_last = f"'{self.field.name}' ", f": {value}"
            raise ValueError(what.removeprefix(name_first).removesuffix(value_last)) from None


@attrs.frozen(kw_only=True)
class Given:
    """The value that one source gives for one key, as it stands there."""

    key: Key
    value: object
    #: What a message calls the place: the key and its line, the variable, or the flag.
    where: str
    #: What a relative path counts from; None is the working directory.
    folder: Path | None = None


@attrs.frozen(kw_only=True)
class Reading:
    """What one source says."""

    #: In the order of the source.
    found: tuple[Given | Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    #: Further blocks of the backend that stand there, empty ones too: `openai_codex.2`.
    further: tuple[str, ...] = ()


def parts_of(
    settings: type[attrs.AttrsInstance],
) -> Iterator[tuple[attrs.Attribute[object], object]]:
    """Yield the fields of a settings class that are keys or sections, with their annotations."""
    annotations = get_type_hints(settings)
    for field in attrs.fields(settings):
        if NO_KEY not in field.metadata:
            yield field, annotations[field.name]


def keys_of(settings: type[attrs.AttrsInstance], path: KeyPath = ()) -> Iterator[Key]:
    """Yield the keys of a settings class and of the classes inside it."""
    for field, wanted in parts_of(settings):
        here = (*path, field.name)
        if isinstance(wanted, type) and attrs.has(wanted):
            yield from keys_of(wanted, here)
        else:
            yield Key(path=here, wanted=wanted, field=field)


def _sections(paths: Iterable[KeyPath]) -> dict[KeyPath, list[str]]:
    sections: dict[KeyPath, list[str]] = {}
    for path in paths:
        for depth, name in enumerate(path):
            names = sections.setdefault(path[:depth], [])
            if name not in names:
                names.append(name)
    return sections


KEYS: Final[Mapping[KeyPath, Key]] = {key.path: key for key in keys_of(Settings)}
#: What holds keys or other sections -> the names inside.
SECTIONS: Final[Mapping[KeyPath, Sequence[str]]] = _sections(KEYS)


def key_named(name: str) -> Key:
    """Return the key with this full key path, `server.port`; raises KeyError when there is none."""
    return KEYS[tuple(name.split("."))]


def block_named(name: str) -> str | None:
    """Return how a block of the backend is called, `openai_codex.2` for `OPENAI-Codex.2`.

    None means that `name` is no name of one. The first block has no number.
    """
    instance = instance_named(name)
    if instance is None or instance.endswith(".1"):
        return None
    return instance.replace("-", "_")


def in_block(key: Key, block: str) -> Key:
    """Return the key of `block` that corresponds to a key of the first one."""
    return attrs.evolve(key, path=("backends", block, *key.path[len(FIRST_BLOCK) :]))


def in_first_block(path: KeyPath) -> KeyPath:
    """Return the path of the same key in the first block; a path outside all blocks as it is."""
    match path:
        case ("backends", str(block), *rest) if block_named(block):
            return (*FIRST_BLOCK, *rest)
    return path


def key_at(path: KeyPath) -> Key:
    """Return the key at this path, in a further block too; raises KeyError when there is none."""
    return attrs.evolve(KEYS[in_first_block(path)], path=path)


def unknown_key(path: KeyPath) -> str:
    """Return what to say about a key that does not exist, in a section that does."""
    *section, name = path
    first = in_first_block(path)
    if first[:-1] == FIRST_BLOCK and block_named(block := f"{FIRST_BLOCK[-1]}.{name}"):
        return f"unknown key; an instance is a block of its own: write {block}"
    beside = SECTIONS[first[:-1]]
    if alike := difflib.get_close_matches(name, beside, n=1):
        return f"unknown key; did you mean {'.'.join((*section, alike[0]))}?"
    for key in KEYS.values():
        if key.path[-1] == name:
            inside = first[:2] == FIRST_BLOCK == key.path[:2]
            meant = in_block(key, path[1]) if inside else key
            return f"unknown key; did you mean {meant.name}?"
    return f"unknown key; known here: {', '.join(beside)}"
