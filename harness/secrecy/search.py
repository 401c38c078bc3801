"""Finds secrets in data: exact values and shapes, in every view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from harness.secrecy.shapes import shapes_in
from harness.secrecy.views import View, views

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.secrecy.secrets import Secrets
    from harness.secrecy.views import Edit

#: The shortest beginning of a secret that is taken for one where data was cut off, in bytes.
SHORTEST_BEGINNING: Final = 4


@attrs.frozen(eq=False)
class Hit:
    """A secret, and where it stands in a view."""

    view: View
    start: int
    end: int
    kind: str
    #: The whole secret, of which `start` to `end` may be the beginning.
    secret: bytes = attrs.field(repr=False)
    #: Known by its value, not by its shape.
    is_exact: bool
    #: Of a shape that was cut off: what it would have been is not known.
    is_open: bool = False

    @property
    def said(self) -> bytes:
        """The secret as it is written there, decoded."""
        return self.view.data[self.start : self.end]

    def edits(self, new: bytes) -> list[Edit]:
        """Return what to write into the data to have `new` in its place."""
        return self.view.edits(self.start, new)

    def spans(self) -> list[tuple[int, int]]:
        """Return where it stands in the data itself."""
        return [(at, at + len(piece)) for at, piece in self.edits(self.said)]


def search(
    data: bytes, secrets: Secrets, *, thorough: bool = False, is_cut: bool = False
) -> list[Hit]:
    """Return the secrets in `data`, none twice and none within another, in their order.

    `thorough` and `is_cut` as in `shapes.shapes_in`; where data was cut off, the beginnings of
    exact values in its end are found too.
    """
    found: list[Hit] = []
    for view in views(data, is_cut=is_cut):
        found += _in_view(view, secrets, thorough=thorough)
    return _apart(found, len(data))


def _in_view(view: View, secrets: Secrets, *, thorough: bool) -> Iterator[Hit]:
    data = view.data
    lower = data.lower()
    values = (
        *_values(view, data, secrets.exact.items()),
        *_values(view, lower, secrets.folded.items()),
    )
    # A word or a shape is found by what stands around it, which reads otherwise than in the source
    # even where it does not: before `\nsk-…` stands a letter, until the escape is undone.
    yield from (hit for hit in values if _is_new(hit))
    for name, (kind, pattern) in secrets.words.items():
        if name in lower:
            for found in pattern.finditer(lower):
                yield Hit(view, *found.span(), kind, name, is_exact=True)
        if view.is_cut:
            yield from _beginning(view, lower, name, kind)
    if view.is_text:
        for one in shapes_in(data, thorough=thorough, is_cut=view.is_cut):
            said = data[one.start : one.end]
            yield Hit(view, one.start, one.end, one.kind, said, is_exact=False, is_open=one.is_open)


def _is_new(hit: Hit) -> bool:
    """Tell whether the hit is none that the view's source has too."""
    at_cut = hit.view.is_cut and hit.end == len(hit.view.data)
    return at_cut or hit.view.is_new(hit.start, hit.end)


def _values(view: View, data: bytes, values: Iterable[tuple[bytes, str]]) -> Iterator[Hit]:
    for value, kind in values:
        at = data.find(value)
        while at >= 0:
            yield Hit(view, at, at + len(value), kind, value, is_exact=True)
            at = data.find(value, at + len(value))
        if view.is_cut:
            yield from _beginning(view, data, value, kind)


def _beginning(view: View, data: bytes, value: bytes, kind: str) -> Iterator[Hit]:
    """Yield the longest beginning of `value` that stands in the end, if there is one."""
    first = value[:SHORTEST_BEGINNING]
    at = data.find(first, max(0, len(data) - len(value) + 1))
    while at >= 0:
        if value.startswith(data[at:]):
            yield Hit(view, at, len(data), kind, value, is_exact=True)
            return
        at = data.find(first, at + 1)


def _apart(found: list[Hit], size: int) -> list[Hit]:
    """Return those that share no byte, in order; of two that do, the longer one."""
    if not found:
        return []
    taken = bytearray(size)
    kept: list[tuple[list[tuple[int, int]], Hit]] = []
    placed = [(hit.spans(), hit) for hit in found]
    # Of two of one length the known value, and the one that is read with less decoding: the sort
    # keeps the order of views.
    placed.sort(key=lambda one: (-sum(end - start for start, end in one[0]), not one[1].is_exact))
    for spans, hit in placed:
        if any(taken.find(1, start, end) >= 0 for start, end in spans):
            continue
        for start, end in spans:
            taken[start:end] = b"\x01" * (end - start)
        kept.append((spans, hit))
    kept.sort(key=lambda one: one[0][0])
    return [hit for _, hit in kept]
