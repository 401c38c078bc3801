"""The YAML file as a source: every key with the line it stands on.

The node tree that `yaml.compose` gives is walked, not loaded, because only the nodes know lines and
duplicate keys.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import attrs
import yaml

from codexrelay.config.dropped import why_dropped
from codexrelay.config.keys import (
    ANY,
    FIRST_BLOCK,
    HALF,
    OTHER_BLOCK,
    SECTIONS,
    Entry,
    Given,
    Key,
    KeyPath,
    Origin,
    Reading,
    canonical,
    in_table,
    key_at,
    unknown_key,
)
from codexrelay.config.values import DEEPEST, Unreadable, has_half
from codexrelay.errors import Problem
from codexrelay.setting import without_login

_INSTANCES: Final = "instances of openai_codex are called openai_codex.2, openai_codex.3 and so on"
_NULL: Final = "tag:yaml.org,2002:null"
_TEXT: Final = "tag:yaml.org,2002:str"
_TOO_DEEP: Final = f"is nested too deeply, beyond {DEEPEST} levels"
#: Levels of refused sections that are looked into.
_REFUSED_DEPTH: Final = 8
#: The names that YAML's errors quote are the file's own text, hence perhaps a key written without
#: quotes.
_QUOTED_NAME: Final = re.compile(r"(alias|handle) '.*'")
_NUMBERS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
#: YAML 1.1 has base 8 behind a zero, and base 60 around colons: 010 is 8, and 12:30 is 750.
_ODD_NUMBER: Final = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9]+)+(\.[0-9_]*)?)")
#: Values that a file may have, each counted wherever a link (`*name`) repeats it.
_MOST: Final = 100_000


def read(path: Path, *, named_by: str) -> Reading:
    """Read the file. `named_by` is the flag, variable or argument that named it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return _unusable(f"{named_by} {path}", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return _unusable(f"{named_by} {path}", f"is not UTF-8 text (byte {error.start})")
    try:
        root = _compose(path, text)
    except RecursionError:
        root = Problem(str(path), _TOO_DEEP)
    if isinstance(root, Problem):
        return Reading(found=(root,))
    if root is None or _is_empty(root):
        return Reading()
    walk = _Walk(path=path)
    walk.section(root, ())
    return Reading(found=tuple(walk.found), further=tuple(walk.further), others=walk.others)


def _compose(path: Path, text: str) -> yaml.Node | Problem | None:
    """Return the file's node tree, None when there is none."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        return _syntax_problem(path, text, error)
    try:
        root: yaml.Node | None = loader.get_single_node()
        problem = None if root is None else _unwalkable(path, root)
    except yaml.YAMLError as error:
        return _syntax_problem(path, text, error)
    except (ValueError, OverflowError):  # `\U` and digits
        what = "is not valid YAML: an escape in it stands for no character"
        return Problem(f"{path}:{loader.line + 1}", what)
    return problem or root


def _unwalkable(path: Path, root: yaml.Node) -> Problem | None:
    """Return why a file can be no configuration, whatever its keys are."""
    weights: dict[int, tuple[int, int]] = {}

    def weigh(node: yaml.Node) -> tuple[int, int]:
        """Return how many nodes there are from here on, and how many levels."""
        if id(node) not in weights:
            weights[id(node)] = (1, 1)  # of what stands in itself; it is caught where it is read
            inside = [weigh(each) for each in _inside(node)]
            size = 1 + sum(size for size, _ in inside)
            weights[id(node)] = (size, 1 + max((depth for _, depth in inside), default=0))
        return weights[id(node)]

    size, depth = weigh(root)
    if depth > DEEPEST:
        return Problem(str(path), _TOO_DEEP)
    if size > _MOST:
        return Problem(str(path), f"has more than {_MOST} values, counted where links repeat them")
    return None


def _inside(node: yaml.Node) -> list[yaml.Node]:
    match node:
        case yaml.MappingNode():
            return [each for pair in node.value for each in pair]
        case yaml.SequenceNode():
            return list(node.value)
        case _:
            return []


class _OneLine(yaml.SafeDumper):
    """Writes texts of several lines in one."""


def _text(dumper: _OneLine, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TEXT, text, style='"' if "\n" in text else None)


_OneLine.add_representer(str, _text)


def in_one_line(value: object) -> str:
    """Return a value as the file can say it, in one line whatever its length."""
    text: str = yaml.dump(
        _plain(value),
        Dumper=_OneLine,
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=sys.maxsize,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: object) -> object:
    """Return lists for tuples, and whole numbers without a fraction."""
    match value:
        case tuple() | list():
            return [_plain(each) for each in value]
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


@attrs.define(eq=False)
class _Walk:
    """One pass over the node tree."""

    path: Path
    found: list[Given | Problem | Entry] = attrs.field(factory=list)
    further: list[str] = attrs.field(factory=list)
    others: dict[str, str] = attrs.field(factory=dict)

    def section(self, node: yaml.Node, path: KeyPath) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, path, f"must be a mapping of keys, not {_content(node)}")
            return
        if in_table(path)[-1:] == (ANY,):
            self.found.append(Entry(path, self._where(node, path)))
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and has_half(key_node.value):
                self._complain(key_node, path, f"has a key that {HALF}")
                continue
            here = (*path, _name(key_node, path))
            if here[-1] in first_lines:
                twice = f"stands here twice, first on line {first_lines[here[-1]]}"
                self._complain(key_node, here, twice)
            first_lines.setdefault(here[-1], _line(key_node))
            self._entry(key_node, value_node, here)

    def _entry(self, key_node: yaml.Node, value_node: yaml.Node, path: KeyPath) -> None:
        if in_table(path) == FIRST_BLOCK != path:
            self.further.append(path[-1])
        if in_table(path) == OTHER_BLOCK:
            self._other_block(key_node, value_node, path)
        elif in_table(path) in SECTIONS:
            self.section(value_node, path)
        elif (key := key_at(path)) is not None:
            self._leaf(value_node, key)
        elif why_dropped(".".join(in_table(path))):
            self._dropped(key_node, value_node, path)
        elif path[:-1] == ("backends",):
            self._complain(
                key_node,
                path,
                f"no backend is called so: {_INSTANCES}, and the names of others are letters, "
                "digits, `.`, `_` and `-`, beginning with a letter",
            )
        else:
            # What is no key may be the end of a URL that stands there without quotes.
            self._complain(key_node, (*path[:-1], without_login(path[-1])), unknown_key(path))

    def _other_block(self, key_node: yaml.Node, node: yaml.Node, path: KeyPath) -> None:
        """Read the block of another backend; of one of an unknown kind no key means anything."""
        kind = _value_in(node, "type")
        if kind is None:
            told = f"needs type: openai, the only other kind of backend; {_INSTANCES}"
            self._complain(key_node, path, told)
        elif kind.value != "openai":
            told = f"must be openai, the only other kind of backend; {_INSTANCES}"
            self._complain(kind, (*path, "type"), told)
        else:
            self.others.setdefault(path[-1], self._where(key_node, path))
            self.section(node, path)

    def _leaf(self, node: yaml.Node, key: Key) -> None:
        try:
            value = _value(node)
        except ValueError as error:
            value = Unreadable(str(error))
        self.found.append(
            Given(
                key=key,
                value=value,
                where=self._where(node, key.path),
                origin=Origin("file", self._place(node)),
                folder=self.path.parent,
            )
        )

    def _dropped(self, key_node: yaml.Node, value_node: yaml.Node, path: KeyPath) -> None:
        """Complain of each key that is refused; of a block of the backend as a whole."""
        is_block = path[:-1] == FIRST_BLOCK[:1]
        # Links can make a mapping endless; no key that is refused stands deeper than this.
        if isinstance(value_node, yaml.MappingNode) and not is_block and len(path) < _REFUSED_DEPTH:
            for inside, value in value_node.value:
                self._dropped(inside, value, (*path, _name(inside, path)))
            if value_node.value:
                return
        self._complain(key_node, path, unknown_key(path))

    def _complain(self, node: yaml.Node, path: KeyPath, what: str) -> None:
        self.found.append(Problem(self._where(node, path), what))

    def _where(self, node: yaml.Node, path: KeyPath) -> str:
        place = self._place(node)
        return f"{'.'.join(path)} ({place})" if path else place

    def _place(self, node: yaml.Node) -> str:
        return f"{self.path}:{_line(node)}"


def _value_in(node: yaml.Node, name: str) -> yaml.Node | None:
    """Return the node at a key of a mapping, None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def _name(node: yaml.Node, path: KeyPath) -> str:
    name = str(node.value) if isinstance(node, yaml.ScalarNode) else "?"
    return canonical(name, path)


def _value(node: yaml.Node) -> object:
    """Return the value of a node.

    Raises:
        ValueError: it has none. The text holds nothing of it, for it may be secret.
    """
    _check_node(node, ())
    loader = yaml.SafeLoader("")
    try:
        value: object = loader.construct_object(node, deep=True)
    # A tag of its own; a date such as 2026-13-45; a tag such as !!bool before what is none.
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError, OverflowError):
        raise ValueError("is no plain YAML value: put text in quotes") from None
    return value


def _check_node(node: yaml.Node, around: tuple[yaml.Node, ...]) -> None:
    """Look for what Python would read, and its writer has hardly meant.

    Raises:
        ValueError: there is such a thing.
    """
    if any(node is each for each in around):
        raise ValueError("holds itself, by a link")
    if isinstance(node, yaml.ScalarNode):
        if has_half(node.value):
            raise ValueError(HALF)
        if node.tag in _NUMBERS and _ODD_NUMBER.fullmatch(node.value):
            raise ValueError(
                "is a number that YAML reads as another one than it looks: write a plain decimal "
                "number, or put text in quotes"
            )
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value in names:
                raise ValueError(f"has a key twice in one of its mappings (line {_line(name)})")
            names.add(str(name.value))
    for each in _inside(node):
        _check_node(each, (*around, node))


def _is_empty(root: yaml.Node) -> bool:
    """Return whether there is nothing but comments below a `---`."""
    return root.tag == _NULL and root.value == ""


def _content(node: yaml.Node) -> str:
    """Return what stands where a mapping should."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "null" if node.tag == _NULL else "a single value"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _unusable(where: str, what: str) -> Reading:
    return Reading(found=(Problem(where, what),))


def _syntax_problem(path: Path, text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        what = _QUOTED_NAME.sub(r"\1", error.problem or "")
        return Problem(f"{path}:{error.problem_mark.line + 1}", f"is not valid YAML: {what}")
    position = error.position if isinstance(error, yaml.reader.ReaderError) else 0
    line = text.count("\n", 0, position) + 1
    return Problem(f"{path}:{line}", "is not valid YAML: it holds a control character")
