"""Values compared: where they differ, and how to say it in a line."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from codexrelay.protocol.raw import dump, parse
from harness.replay.varying import WRITTEN, StandIns

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from codexrelay.protocol.raw import Json

_T = TypeVar("_T")

#: Most characters of a value that are shown.
_SHOWN: Final = 60
#: Characters in front of the place where two values part.
_BEFORE: Final = 16
#: More entries than these are matched by the rare ones among them.
_MANY: Final = 1000
#: There is no such key or entry.
NOTHING: Final = "(nothing)"


@attrs.frozen
class Difference:
    """One thing that differs."""

    where: str
    #: As they are shown; `NOTHING`, if there is none on that side.
    old: str
    new: str

    def __str__(self) -> str:
        if self.old == NOTHING:
            return f"{self.where}: added {self.new}"
        if self.new == NOTHING:
            return f"{self.where}: removed {self.old}"
        return f"{self.where}: {self.old} -> {self.new}"


@attrs.define(eq=False)
class Sameness:
    """Says whether two values are the same; ids may have other names, the same ones everywhere."""

    exact: bool
    #: Ids of the old side -> those of the new one that were in their places, and the other way.
    _new_names: dict[str, str] = attrs.field(factory=dict, init=False)
    _old_names: dict[str, str] = attrs.field(factory=dict, init=False)

    def same(self, old: Json, new: Json, key: str = "") -> bool:
        """Return whether two values under `key` are the same."""
        if self.exact:
            return dump(old) == dump(new)  # in Python, 1 equals 1.0 and true
        before, after = StandIns(), StandIns()
        if dump(before.value(old, key=key)) != dump(after.value(new, key=key)):
            return False
        # Equal but for their ids, so that those stand in the same places.
        pairs = list(zip(before.replaced, after.replaced, strict=True))
        if any(not self._may_be_renamed(one, other) for one, other in pairs):
            return False  # nothing is noted: what follows is not to blame
        self._new_names.update(pairs)
        self._old_names.update((other, one) for one, other in pairs)
        return True

    def _may_be_renamed(self, old: str, new: str) -> bool:
        return self._new_names.get(old, new) == new and self._old_names.get(new, old) == old

    def form(self, value: Json) -> bytes:
        """Return a value as those that may be the same have it."""
        return dump(value if self.exact else StandIns().value(value))


def compared(
    old: Json, new: Json, where: str, sameness: Sameness, key: str = ""
) -> Iterator[Difference]:
    """Yield where two JSON values differ."""
    if sameness.same(old, new, key):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{where}.{name}" if where else name
            if name not in new:
                yield Difference(inner, shown(old[name]), NOTHING)
            elif name not in old:
                yield Difference(inner, NOTHING, shown(new[name]))
            else:
                yield from compared(old[name], new[name], inner, sameness, name)
    elif isinstance(old, list) and isinstance(new, list):
        pairs = aligned(old, new, sameness.form, alike=lambda one, two: type(one) is type(two))
        for place, left, right in pairs:
            inner = f"{where}[{place}]"
            if left is None or right is None:
                yield _one_sided(inner, left, right)
            else:
                yield from compared(left[0], right[0], inner, sameness, key)
    elif (
        isinstance(old, str)
        and isinstance(new, str)
        and isinstance(old_inner := _written(old), dict)
        and isinstance(new_inner := _written(new), dict)
    ):
        yield from compared(old_inner, new_inner, where + WRITTEN, sameness)
    else:
        yield Difference(where, *excerpts(shown(old, cut=False), shown(new, cut=False)))


def aligned(
    old: Sequence[_T],
    new: Sequence[_T],
    form: Callable[[_T], Hashable],
    *,
    alike: Callable[[_T, _T], bool],
) -> Iterator[tuple[int, tuple[_T] | None, tuple[_T] | None]]:
    """Yield what belongs together in two sequences, and what stands in one of them only.

    Each with its place: in the new sequence, or, of what is gone, in the old one. What has the
    same form belongs together; what changed in place does if it is `alike`.
    """
    for old_at, old_end, new_at, new_end in _matched(list(map(form, old)), list(map(form, new))):
        left, right = list(range(old_at, old_end)), list(range(new_at, new_end))
        while left or right:
            if left and right and alike(old[left[0]], new[right[0]]):
                place = right.pop(0)
                yield place, (old[left.pop(0)],), (new[place],)
            elif left and (not right or len(left) >= len(right)):
                place = left.pop(0)
                yield place, (old[place],), None
            else:
                place = right.pop(0)
                yield place, None, (new[place],)


def _matched(
    old: Sequence[Hashable], new: Sequence[Hashable]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield where runs begin and end in both: of equal entries, or of such as have no match."""
    shorter = min(len(old), len(new))
    ahead = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    behind = next(
        (at for at in range(shorter - ahead) if old[-1 - at] != new[-1 - at]), shorter - ahead
    )
    old_rest, new_rest = old[ahead : len(old) - behind], new[ahead : len(new) - behind]
    # The time for entries that come again and again, as words do, grows with their square. Of long
    # sequences only the rare ones are looked for; the others are matched beside those.
    rare_only = len(new_rest) > _MANY
    matcher = SequenceMatcher(None, old_rest, new_rest, autojunk=rare_only)
    yield 0, ahead, 0, ahead
    for _, old_at, old_end, new_at, new_end in matcher.get_opcodes():
        yield ahead + old_at, ahead + old_end, ahead + new_at, ahead + new_end
    yield len(old) - behind, len(old), len(new) - behind, len(new)


def _one_sided(where: str, old: tuple[Json] | None, new: tuple[Json] | None) -> Difference:
    return Difference(
        where,
        NOTHING if old is None else shown(old[0]),
        NOTHING if new is None else shown(new[0]),
    )


def shown(value: Json, *, cut: bool = True) -> str:
    """Return a value as it is shown, on one line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:
        text = ascii(value)
    return f"{text[:_SHOWN]}..." if cut and len(text) > _SHOWN + 3 else text


def excerpts(old: str, new: str) -> tuple[str, str]:
    """Return two texts, shortened to where they part."""
    shorter = min(len(old), len(new))
    parts = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    return _excerpt(old, parts), _excerpt(new, parts)


def _excerpt(text: str, parts: int) -> str:
    if len(text) <= _SHOWN + 3:
        return text
    begin = max(0, min(parts - _BEFORE, len(text) - _SHOWN))
    end = begin + _SHOWN
    return f"{'...' if begin else ''}{text[begin:end]}{'...' if end < len(text) else ''}"


def _written(text: str) -> Json:
    """Return the JSON object that is written into a text, if one is."""
    if not text.startswith("{"):
        return None
    try:
        return parse(text)
    except ValueError:
        return None
