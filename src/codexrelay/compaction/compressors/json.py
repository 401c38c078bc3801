"""JSON: blanks between tokens go; at higher levels long arrays and texts are cut.

The result is JSON again, and what was left out is said in a text at its place. Numbers, texts and
names stay as they were written: tokens are copied, nothing is parsed into values. Objects keep all
their keys, and what tells of a failure is never cut. Several documents one after the other (lines
of JSON) are fine; what is no JSON after all comes back as it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.compaction.compressors.compressor import (
    STEP_CHARACTERS,
    Compressor,
    Context,
    Role,
    Steps,
    has_failure,
    left_out,
    size_bytes,
)

if TYPE_CHECKING:
    from codexrelay.compaction.settings import Level

_ITEM_NOUN: Final = "item{s}"
_CHARACTER_NOUN: Final = "character{s}"


@attrs.frozen
class _Limits:
    """What stays: so many elements of an array, so many characters of a text; None: all."""

    items: int | None
    characters: int | None


_LIMITS: Final[dict[Level, _Limits]] = {
    "conservative": _Limits(None, None),
    "balanced": _Limits(50, 2_000),
    "aggressive": _Limits(12, 400),
}
_TOKEN: Final = re.compile(
    r"""[ \t\r\n]*+(?:
      ("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")
    | ([\[{\]},:])
    | (-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?|true|false|null)(?![\w.+-])
    | (\Z)
    )""",
    re.VERBOSE,
)
#: How an array or object begins; `[INFO]` and `[12:30:01]` are neither.
_BEGINS: Final = re.compile(
    r'\s*(?:\{\s*["}]|\[\s*(?:[\[{"\]]|(?:[\d.eE+-]{1,30}|true|false|null)\s*[,\]]))'
)
#: The beginning of a text, with no escape cut in two.
_HEAD: Final = r'"(?:[^\\]|\\(?:u[0-9a-fA-F]{4}|.)){0,%d}'
#: The first half of a character that JSON writes as two.
_HALF: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
#: What is nested more deeply is left alone.
_DEEPEST: Final = 500
#: A token costs as much as so many characters, however short it is.
_TOKEN_COST: Final = 40
#: Values that make `error: VALUE` no failure.
_HARMLESS: Final = frozenset({"null", "false", "0", '""'})


def _fits(sample: str, _context: Context) -> bool:
    return bool(_BEGINS.match(sample)) and sample.rstrip()[-1:] in ("}", "]")


@attrs.define(eq=False)
class _Array:
    """An array (or object) that is being written."""

    is_array: bool
    #: How many of its elements have ended.
    count: int = 0
    #: Where in what is written its current element begins, and how many failures came before it.
    begins: int = 0
    failures: int = 0
    #: The parts of elements that are left out, unless the mark would be longer.
    gone: list[str] = attrs.field(factory=list)
    gone_count: int = 0


@attrs.define(eq=False)
class _Writer:
    """Checks the grammar and writes the tokens that stay.

    Raises ValueError for a token that may not stand where it does.
    """

    limits: _Limits
    out: list[str] = attrs.field(factory=list)
    stack: list[_Array] = attrs.field(factory=list)
    #: What may come next: "value", "first" (a value or the end of the array), "key", "name" (a key
    #: or the end of the object), ":", "," (or the end of whatever is open).
    next: str = "value"
    failures: int = 0
    suspicious: bool = False

    def text(self, token: str) -> None:
        if self.next in ("key", "name"):
            self._begin(self.next == "name")
            self.suspicious = has_failure(token)
            self.out.append(token)
            self.next = ":"
            return
        self._begin_value()
        self._count_failure(token, itself=has_failure(token))
        limit = self.limits.characters
        if limit is not None and len(token) > limit and not has_failure(token):
            token = _cut(token, limit)
        self.out.append(token)
        self._end_value()

    def literal(self, token: str) -> None:
        self._begin_value()
        self._count_failure(token, itself=False)
        self.out.append(token)
        self._end_value()

    def mark(self, token: str) -> None:
        if token in "[{":
            self._begin_value()
            if len(self.stack) >= _DEEPEST:
                raise ValueError("too deep")
            self.out.append(token)
            self.stack.append(_Array(token == "["))
            self.next = "first" if token == "[" else "name"
        elif token in "]}":
            self._close(is_array=token == "]")
        elif token == "," and self.next == "," and self.stack:
            self.next = "value" if self.stack[-1].is_array else "key"
        elif token == ":" and self.next == ":":
            self.out.append(token)
            self.next = "value"
        else:
            raise ValueError(token)

    def end(self) -> None:
        if self.stack or not self.out or self.next not in ("value", "first"):
            raise ValueError("cut off")

    def _begin_value(self) -> None:
        if self.next not in ("value", "first"):
            raise ValueError("no value here")
        if not self.stack:
            if self.out:
                self.out.append("\n")  # a further document
        elif self.stack[-1].is_array:
            self._begin(self.next == "first")

    def _begin(self, is_first: bool) -> None:  # noqa: FBT001  (of this class alone)
        inner = self.stack[-1]
        inner.begins, inner.failures = len(self.out), self.failures
        if not is_first:
            self.out.append(",")

    def _count_failure(self, token: str, *, itself: bool) -> None:
        self.failures += itself or (self.suspicious and token not in _HARMLESS)
        self.suspicious = False

    def _end_value(self) -> None:
        if not self.stack:
            self.next = "value"
            return
        self.next = ","
        inner = self.stack[-1]
        inner.count += 1
        if not inner.is_array or self.limits.items is None or inner.count <= self.limits.items:
            return
        element = self.out[inner.begins :]
        if self.failures == inner.failures:
            inner.gone += element
            inner.gone_count += 1
            del self.out[inner.begins :]
        elif inner.gone_count:
            del self.out[inner.begins :]
            self._say_gone(inner)
            self.out += element

    def _close(self, *, is_array: bool) -> None:
        if not self.stack or self.stack[-1].is_array != is_array:
            raise ValueError("closed by the wrong bracket")
        if self.next not in (",", "first" if is_array else "name"):
            raise ValueError("closed too early")
        self._say_gone(self.stack.pop())
        self.out.append("]" if is_array else "}")
        self.suspicious = False
        self._end_value()

    def _say_gone(self, inner: _Array) -> None:
        if inner.gone_count:
            mark = f',"{left_out(inner.gone_count, _ITEM_NOUN)}"'
            short = sum(map(len, inner.gone)) > size_bytes(mark)
            self.out += [mark] if short else inner.gone
            inner.gone, inner.gone_count = [], 0


def _cut(token: str, limit: int) -> str:
    found = re.match(_HEAD % limit, token, re.DOTALL)
    head = _HALF.sub("", found[0]) if found else token
    gone = len(token) - 1 - len(head)
    cut = f'{head}{left_out(gone, _CHARACTER_NOUN)}"'
    return cut if gone > 0 and size_bytes(cut) < size_bytes(token) else token


def _steps(text: str, _context: Context, level: Level) -> Steps:
    writer = _Writer(_LIMITS[level])
    place = worked = 0
    try:
        while found := _TOKEN.match(text, place):
            string, mark, literal, _ = found.groups()
            if string is not None:
                writer.text(string)
            elif mark is not None:
                writer.mark(mark)
            elif literal is not None:
                writer.literal(literal)
            else:
                writer.end()
                return "".join(writer.out)
            worked += found.end() - place + _TOKEN_COST
            place = found.end()
            if worked > STEP_CHARACTERS:
                worked = 0
                yield
    except ValueError:
        pass
    return text


COMPRESSOR: Final = Compressor(
    name="json",
    role=Role.KIND,
    order=1,
    fits=_fits,
    steps=_steps,
    nouns=(_ITEM_NOUN, _CHARACTER_NOUN),
    alone=True,
)
