"""Cutting and joining timed chunks. Nothing here lets a later chunk come before an earlier one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

import attrs

from harness.cassettes.performance import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.cassettes.model import Headers
    from harness.cassettes.performance import Performance

Chunks: TypeAlias = tuple[Chunk, ...]


def parted(chunks: Chunks, at: int) -> tuple[Chunks, Chunks]:
    """Return what is in front of byte `at` and what is behind; a chunk across it is divided."""
    before: list[Chunk] = []
    begin = 0
    for index, chunk in enumerate(chunks):
        end = begin + len(chunk.data)
        if end > at:
            if at > begin:
                before.append(Chunk(chunk.at_s, chunk.data[: at - begin]))
                rest = Chunk(chunk.at_s, chunk.data[at - begin :])
                return tuple(before), (rest, *chunks[index + 1 :])
            return tuple(before), chunks[index:]
        before.append(chunk)
        begin = end
    return tuple(before), ()


def taken_out(chunks: Chunks, begin: int, end: int) -> tuple[Chunks, Chunks, Chunks]:
    """Return what is in front of, within and behind the bytes from `begin` up to `end`."""
    before, rest = parted(chunks, begin)
    within, after = parted(rest, end - begin)
    return before, within, after


def at_moment(chunks: Chunks, at_s: float) -> Chunks:
    """Return the chunks, all of them at one moment."""
    return tuple(Chunk(at_s, chunk.data) for chunk in chunks)


def later(chunks: Chunks, by_s: float) -> Chunks:
    """Return the chunks, each so much later."""
    return tuple(Chunk(chunk.at_s + by_s, chunk.data) for chunk in chunks)


def not_before(chunks: Chunks, at_s: float) -> Chunks:
    """Return the chunks; those that would come before `at_s` come then."""
    return tuple(Chunk(max(chunk.at_s, at_s), chunk.data) for chunk in chunks)


def each_byte(chunks: Chunks) -> Chunks:
    """Return the chunks, each byte a chunk of its own."""
    return tuple(
        itertools.chain.from_iterable(
            (Chunk(chunk.at_s, bytes((byte,))) for byte in chunk.data) for chunk in chunks
        )
    )


def with_borders_of(chunks: Chunks, data: bytes) -> Chunks:
    """Return `data`, which is as long as the chunks are together, in chunks like these."""
    ends = itertools.accumulate(len(chunk.data) for chunk in chunks)
    return tuple(
        Chunk(chunk.at_s, data[end - len(chunk.data) : end])
        for chunk, end in zip(chunks, ends, strict=True)
    )


def with_body(performance: Performance, chunks: Chunks) -> Performance:
    """Return the answer with another body, and a length that is as true as it was if it tells one.

    What was broken off before stays so: it is still too short for its length.
    """
    changed = attrs.evolve(performance, chunks=tuple(chunk for chunk in chunks if chunk.data))
    return _longer(changed, len(changed.body) - len(performance.body))


def with_its_length(performance: Performance) -> Performance:
    """Return the answer with the true length in its `content-length`, if it has one."""
    length = str(len(performance.body))
    return attrs.evolve(performance, headers=_with_length(performance.headers, lambda _: length))


def _longer(performance: Performance, by_bytes: int) -> Performance:
    def longer(told: str) -> str:
        return str(max(0, int(told) + by_bytes)) if told.isdecimal() else told

    return attrs.evolve(performance, headers=_with_length(performance.headers, longer))


def _with_length(headers: Headers, length: Callable[[str], str]) -> Headers:
    return tuple(
        (name, length(value) if name == "content-length" else value) for name, value in headers
    )


def with_header(headers: Headers, name: str, value: str) -> Headers:
    """Return the headers with this one, in the place of the first of its name."""
    place = next((at for at, (known, _) in enumerate(headers) if known == name), len(headers))
    rest = [(known, kept) for known, kept in headers if known != name]
    return (*rest[:place], (name, value), *rest[place:])


def without_header(headers: Headers, name: str) -> Headers:
    """Return the headers without those of this name."""
    return tuple((known, value) for known, value in headers if known != name)
