"""All keys of the configuration as one flat table, drawn from the settings classes."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    TypeAlias,
    TypeGuard,
    cast,
    get_args,
    get_type_hints,
)

import attrs

from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.config.dropped import why_dropped
from codexrelay.config.settings import Settings
from codexrelay.config.values import (
    conform,
    from_text,
    has_half,
    is_mapping,
    read_json,
    shown,
    told,
)
from codexrelay.errors import Problem
from codexrelay.protocol.model_id import instance_named, other_named
from codexrelay.setting import About, about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

KeyPath: TypeAlias = tuple[str, ...]

#: The block of the backend that flags and the environment speak of. Further instances of it have
#: the same keys, in a block beside it: `backends.openai_codex.2`.
FIRST_BLOCK: Final = ("backends", "openai_codex")
#: Stands for the block of any backend of another kind.
OTHER_BLOCK: Final = ("backends", "<name>")
#: Stands in a path for the names that users choose: `models.aliases.*`.
ANY: Final = "*"
#: Parts of a path that would only make flags longer, since they are for the first block alone.
_NOT_IN_FLAGS: Final = frozenset({"server", "backends", "openai_codex", "extra", "codex"})


_HEADERS: Final = (*OTHER_BLOCK, "headers")
#: What to say of text that holds half of a character.
HALF: Final = (
    "holds half of a character (\\ud800 to \\udfff): write the character itself, or \\U and its "
    "eight digits"
)
#: How Python has the bytes of a name on this machine that are no UTF-8.
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


@attrs.frozen(kw_only=True)
class Key:
    """One setting, or one entry of a setting that is a mapping."""

    path: KeyPath
    #: What it takes: the annotation of its field, resolved.
    wanted: object
    field: attrs.Attribute[Any]
    about: About

    @property
    def name(self) -> str:
        """The full key path, `server.port`."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The command-line flag, `--managed-oauth-storage-path`."""
        parts = (part.replace("_", "-") for part in self.path if part not in _NOT_IN_FLAGS)
        return "--" + "-".join(parts)

    @property
    def flags(self) -> tuple[str, ...]:
        """All names of the flag."""
        return (self.flag, *self.about.flags)

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off, so that its flag alone says on."""
        return self.wanted is bool

    @property
    def is_mapping(self) -> bool:
        """Whether it holds entries whose names users choose."""
        return is_mapping(self.wanted)

    @property
    def default(self) -> object:
        """What it is when no source gives it."""
        return self.about.default

    @property
    def takes(self) -> str:
        """In few words, `whole number >= 0 or null`."""
        return told(self.wanted, text=self.about.path or "text", bounds=self.about.bounds)

    @property
    def facts(self) -> str:
        """What the key takes, which variables give it, and whether it needs a restart."""
        restart = () if self.about.live else ("restart",)
        return "; ".join((self.takes, *self.about.variables, *restart))

    @property
    def help(self) -> str:
        """What its flag means."""
        default = self.default
        known = isinstance(default, str | int | float)
        word = str(default).lower() if isinstance(default, bool) else default
        return f"{self.about.meaning}  [{self.name}{f'; default: {word}' if known else ''}]"

    def said(self, text: str) -> object:
        """Return what a text from the environment or a flag says for this key."""
        return from_text(text, self.wanted)

    def check(self, value: object) -> object:
        """Return `value` as the settings class takes it.

        Raises:
            ValueError: it is of the wrong type or out of range. The text says what is allowed, and
                what was given unless that is secret.
        """
        try:
            conformed = conform(value, self.wanted)
            self._check_text(conformed)
            if self.about.one_will_do and isinstance(conformed, str):
                conformed = (conformed,)
            self._check_range(conformed)
        except ValueError as error:
            hidden = self.about.secret or self.about.url
            said_alone = hidden or not str(error).startswith("must be")
            given = "" if said_alone else f", not {shown(value)}"
            raise ValueError(f"{error}{given}") from None
        return conformed if self.field.converter is None else self._converted(conformed)

    def _check_text(self, value: object) -> None:
        if self.about.path is not None and isinstance(value, str):
            if "\0" in value:
                raise ValueError("no path has a character 0 in it")
            value = _UNDECODED.sub("", value)
        if has_half(value):
            raise ValueError(HALF)

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

    def _converted(self, value: object) -> object:
        convert = cast("Callable[[object], object]", self.field.converter)
        return convert(value)


@attrs.frozen
class Origin:
    """Which source a value is from."""

    kind: Literal["default", "file", "variable", "flag"]
    #: `FILE:LINE`, the variable or the flag; None for a default.
    place: str | None = None
    #: A further block has it from the first one.
    taken_over: bool = False


@attrs.frozen(kw_only=True)
class Given:
    """The value that one source gives for one key, as it stands there."""

    key: Key
    value: object
    #: What a message calls the place: the key and its line, the variable, or the flag.
    where: str
    origin: Origin
    #: What a relative path counts from; None is the working directory.
    folder: Path | None = None


@attrs.frozen
class Entry:
    """An entry of a mapping that has keys inside, whatever it holds."""

    path: KeyPath
    #: What a message calls the place.
    where: str


@attrs.frozen(kw_only=True)
class Reading:
    """What one source says."""

    #: In the order of the source.
    found: tuple[Given | Problem | Entry, ...] = ()
    warnings: tuple[Problem, ...] = ()
    #: Further blocks of the backend that stand there, empty ones too: `openai_codex.2`.
    further: tuple[str, ...] = ()
    #: Blocks of backends of other kinds, `my_box`, with the places where they begin.
    others: Mapping[str, str] = attrs.field(factory=dict)


@functools.cache
def parts_of(
    settings: type[attrs.AttrsInstance],
) -> tuple[tuple[attrs.Attribute[Any], object, About], ...]:
    """Return the fields of a settings class that are keys or sections, with their annotations."""
    annotations = get_type_hints(settings)
    return tuple(
        (field, annotations[field.name], said)
        for field in attrs.fields(settings)
        if (said := about(field))
    )


def keys_of(settings: type[attrs.AttrsInstance], path: KeyPath = ()) -> Iterator[Key]:
    """Yield the keys of a settings class and of the classes inside it."""
    for field, wanted, said in parts_of(settings):
        here = (*path, field.name)
        if is_section(wanted):
            yield from keys_of(wanted, here)
        else:
            takes = cast("type", wanted) | str if said.one_will_do else wanted
            yield Key(path=here, wanted=takes, field=field, about=said)


def is_section(wanted: object) -> TypeGuard[type[attrs.AttrsInstance]]:
    """Return whether an annotation is a settings class."""
    return isinstance(wanted, type) and attrs.has(wanted)


def sections_of(
    settings: type[attrs.AttrsInstance], path: KeyPath = ()
) -> Iterator[tuple[KeyPath, About]]:
    """Yield the sections of a settings class and of the classes inside it."""
    for field, wanted, said in parts_of(settings):
        if is_section(wanted):
            yield (*path, field.name), said
            yield from sections_of(wanted, (*path, field.name))


def _entries_of(mapping: Key) -> Iterator[Key]:
    """Yield the keys inside a mapping, with ANY for the name that its user chooses."""
    here = (*mapping.path, ANY)
    if mapping.about.entries is not None:
        yield from keys_of(mapping.about.entries, here)
    else:
        (_, each) = get_args(mapping.wanted)
        yield attrs.evolve(mapping, path=here, wanted=each)


def _names_inside(paths: Iterable[KeyPath]) -> dict[KeyPath, list[str]]:
    sections: dict[KeyPath, list[str]] = {}
    for path in paths:
        for depth, name in enumerate(path):
            names = sections.setdefault(path[:depth], [])
            if name not in names:
                names.append(name)
    return sections


KEYS: Final[Mapping[KeyPath, Key]] = {key.path: key for key in keys_of(Settings)}
#: The keys of a backend of another kind.
OTHER_KEYS: Final[Mapping[KeyPath, Key]] = {
    key.path: key for key in keys_of(OpenAIBackendSettings, OTHER_BLOCK)
}
_ALL: Final = {**KEYS, **OTHER_KEYS}
_ENTRIES: Final[Mapping[KeyPath, Key]] = {
    entry.path: entry for key in _ALL.values() if key.is_mapping for entry in _entries_of(key)
}
_MAPPINGS: Final = tuple(key.path for key in _ALL.values() if key.is_mapping)
#: What holds keys, entries or other sections -> the names inside.
SECTIONS: Final[Mapping[KeyPath, Sequence[str]]] = _names_inside((*_ALL, *_ENTRIES))
#: Variable -> the path of the key or section that it gives; of several for one, the strongest last.
VARIABLES: Final[Mapping[str, KeyPath]] = {
    variable: path
    for path, said in (
        *sections_of(Settings),
        *((key.path, key.about) for key in KEYS.values()),
    )
    for variable in said.variables
}


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


@functools.cache
def other_block_named(name: str) -> str | None:
    """Return how the block of a backend of another kind is called; None: none is called so."""
    other = other_named(name)
    if other is None or why_dropped(f"{OTHER_BLOCK[0]}.{other}"):
        return None
    return other.replace("-", "_")


def canonical(name: str, section: KeyPath) -> str:
    """Return how a key that stands in `section` is called: some names may be written otherwise."""
    if section == FIRST_BLOCK[:1]:
        return block_named(name) or other_block_named(name) or name
    of_kind = in_kind(section)
    if of_kind == _HEADERS:
        return name.lower()
    if of_kind in KEYS and KEYS[of_kind].about.entries is not None:  # names of client programs
        return name.lower().replace("-", "_")
    return name


def path_of(backend: str) -> KeyPath:
    """Return the path of the block of a backend, given its canonical name."""
    return (FIRST_BLOCK[0], backend.replace("-", "_"))


def in_block(key: Key, block: str) -> Key:
    """Return the key of `block` that corresponds to one of `FIRST_BLOCK` or `OTHER_BLOCK`."""
    return attrs.evolve(key, path=("backends", block, *key.path[len(FIRST_BLOCK) :]))


def in_kind(path: KeyPath) -> KeyPath:
    """Return the path of the same key in the block that stands for all of its kind.

    That is `FIRST_BLOCK` or `OTHER_BLOCK`. A path outside all blocks is returned as it is.
    """
    match path:
        case ("backends", str(block), *rest) if block_named(block):
            return (*FIRST_BLOCK, *rest)
        case ("backends", str(block), *rest) if other_block_named(block):
            return (*OTHER_BLOCK, *rest)
    return path


def in_table(path: KeyPath) -> KeyPath:
    """Return the path under which `SECTIONS` and the keys have it: without names users choose."""
    of_kind = in_kind(path)
    for mapping in _MAPPINGS:
        depth = len(mapping)
        if of_kind[:depth] == mapping and len(of_kind) > depth:
            return (*mapping, ANY, *of_kind[depth + 1 :])
    return of_kind


def mapping_of(path: KeyPath) -> KeyPath | None:
    """Return the path of the mapping in which an entry stands; None for what is no entry."""
    table = in_table(path)
    return path[: table.index(ANY)] if ANY in table else None


def key_at(path: KeyPath) -> Key | None:
    """Return the key or entry at this path, in any block; None when there is none."""
    table = in_table(path)
    key = _ENTRIES.get(table) or _ALL.get(table)
    return None if key is None else attrs.evolve(key, path=path)


def from_outside(
    path: KeyPath, value: object, *, place: str, origin: Origin
) -> Iterator[Given | Problem | Entry]:
    """Yield what a variable or flag says for a key, a whole section or a mapping.

    Text is read as text can say it; a section or a mapping is a JSON object there.
    """
    key = key_at(path)
    if in_table(path) not in SECTIONS and key is not None:
        said = key.said(value) if isinstance(value, str) else value
        yield Given(key=key, value=said, where=place, origin=origin)
        return
    try:
        inside = read_json(value) if isinstance(value, str) else value
    except ValueError as error:
        if str(value).lstrip().startswith("{"):
            yield Problem(place, f"begins as a JSON object and {error}")
            return
        inside = value
    if isinstance(inside, dict):
        yield from spread(path, inside, place=place, origin=origin)
    else:
        yield Problem(place, f"must be a JSON object, not {shown(value)}")


def spread(
    path: KeyPath, value: object, *, place: str, origin: Origin
) -> Iterator[Given | Problem | Entry]:
    """Yield what a whole section or mapping says, given as one value at `place`."""
    where = f"{'.'.join(path)} ({place})"
    key = key_at(path)
    if in_table(path) in SECTIONS:
        if not isinstance(value, dict):
            yield Problem(where, f"must be a mapping of keys, not {shown(value)}")
            return
        if in_table(path)[-1:] == (ANY,):
            yield Entry(path, where)
        for name, inside in value.items():
            if has_half(name):
                yield Problem(where, f"has a key that {HALF}")
                continue
            here = (*path, canonical(str(name), path))
            yield from spread(here, inside, place=place, origin=origin)
    elif key is not None:
        yield Given(key=key, value=value, where=where, origin=origin)
    else:
        yield Problem(where, unknown_key(path))


def unknown_key(path: KeyPath) -> str:
    """Return what to say about a key that does not exist, in a section that does or is refused."""
    *section, name = path
    table = in_table(path)
    if reason := why_dropped(".".join(table)):
        return f"not supported: {reason}"
    if table[:-1] == FIRST_BLOCK and block_named(block := f"{FIRST_BLOCK[-1]}.{name}"):
        return f"unknown key; an instance is a block of its own: write {block}"
    beside = SECTIONS[table[:-1]]
    if alike := difflib.get_close_matches(name, beside, n=1):
        return f"unknown key; did you mean {'.'.join((*section, alike[0]))}?"
    for key in (OTHER_KEYS if table[:2] == OTHER_BLOCK else KEYS).values():
        if key.path[-1] == name:
            inside = table[:2] in (FIRST_BLOCK, OTHER_BLOCK) and table[:2] == key.path[:2]
            meant = in_block(key, path[1]) if inside else key
            return f"unknown key; did you mean {meant.name}?"
    return f"unknown key; known here: {', '.join(beside)}"
