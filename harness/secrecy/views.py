r"""Data as it reads once escapes and encodings are undone, and the way back to the bytes.

A secret may be written as JSON (`\u0041`, `\/`), percent-escaped, in base64 or hexadecimal, also
wrapped into lines, in pieces over the events of a stream, or as one of these inside another. Each
way of reading is a view: bytes to search, which know where in their source they came from. What is
replaced in a view is written back in the form that the source has, so that each length stays as it
was.
"""

from __future__ import annotations

import binascii
import re
import string
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where in the source something is to be written, and what. It replaces as many bytes.
Edit: TypeAlias = tuple[int, bytes]

#: How many encodings may be wrapped around each other.
_DEPTH: Final = 2
#: How many strings of JSON may stand one in the other: the output of a tool in the answer of a tool
#: in a request. It counts apart, as each level costs only where there is one.
_JSON_DEPTH: Final = 4
#: Shorter runs of base64 or hexadecimal are not read: they hold less than any secret.
_SHORTEST_ENCODED: Final = 11
#: At the end of what was cut off: as much as four bytes need.
_SHORTEST_CUT: Final = 6

_JSON_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}"
    rb'|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}|["\\/bfnrt])'
)
#: The beginning of an escape at the very end.
_JSON_CUT: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?|u[0-9a-fA-F]{0,3}"
    rb"|x[0-9a-fA-F]?|U[0-9a-fA-F]{0,7})?\Z"
)
_SIMPLE: Final = {
    b'\\"': b'"',
    b"\\\\": b"\\",
    b"\\/": b"/",
    b"\\b": b"\b",
    b"\\f": b"\f",
    b"\\n": b"\n",
    b"\\r": b"\r",
    b"\\t": b"\t",
}
_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]{2}")
_PERCENT_CUT: Final = re.compile(rb"%[0-9a-fA-F]?\Z")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{%d,}" % _SHORTEST_ENCODED)
_BASE64_ALPHABET: Final = (string.ascii_letters + string.digits + "+/_-").encode()
_HEX: Final = re.compile(rb"[0-9a-fA-F]{16,}")
#: Where a long run of base64 or hexadecimal goes on in the next line, which a tool that shows files
#: may have numbered. A line of words, or the next event, is none that goes on.
_WRAP: Final = re.compile(
    rb"\n[ \t]*(?:\d{1,6}(?:\t|[:|] ?|\xe2\x86\x92))?"
    rb"(?=[A-Za-z0-9+/_-]+(?![A-Za-z0-9+/_:( .,-])|\Z)"
)
_LONG_LINE: Final = re.compile(rb"[A-Za-z0-9+/_-]{40}\r?\Z")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_UPPER_HEX: Final = re.compile(rb"[A-F]")
#: What a stream says piece by piece. Each key is a text of its own.
_PIECE: Final = re.compile(
    rb'"(delta|content|reasoning_content|reasoning|refusal|arguments)"\s*:\s*"((?:[^"\\]|\\.)*)'
    rb'(?:"|\\?\Z)',
    re.DOTALL,
)
#: Whose piece it is: of two items, or two calls, that are told side by side.
_WHOSE: Final = re.compile(
    rb'"(?:item_id|(?:output_|content_|summary_)?index)"\s*:\s*("[^"]*"|\d+)'
)
#: Between two events, or two frames.
_BORDER: Final = re.compile(rb"\n|\}(?=\{)")
#: The longer words of every event, which encode nothing: four runs out of five.
_WORDS: Final = frozenset(
    b"annotations completed_at content_index content_part encrypted_content function_call "
    b"in_progress instructions obfuscation output_index output_item output_text "
    b"parallel_tool_calls prompt_cache_key reasoning_content sequence_number summary_index "
    b"summary_text reasoning_summary_text tool_choice chat completion system_fingerprint "
    b"finish_reason description properties additionalProperties function_call_output".split()
)
#: What fills up a group of base64, and what stands between two runs: zero bits.
_PADDING: Final = (b"AAAA", b"AAAAAAA", b"AAAAAA", b"AAAAA")
_BETWEEN: Final = b"\0"
#: Words in what was decoded. A picture has none as long as that.
_READABLE: Final = re.compile(rb"[\t\n\r -~]{24,}")


class View(Protocol):
    """Bytes to search, and the way back."""

    @property
    def data(self) -> bytes:
        """The bytes as they read."""

    @property
    def is_cut(self) -> bool:
        """What comes next was cut off: the last bytes may be the beginning of something."""

    @property
    def is_text(self) -> bool:
        """Somebody's words, rather than bytes that happen to be read as an encoding."""

    def edits(self, start: int, new: bytes) -> list[Edit]:
        """Return what to write into the *root* data so that `new` stands at `start` here."""

    def is_new(self, start: int, end: int) -> bool:
        """Tell whether what stands there cannot be read in the view it was made of."""


@attrs.frozen(eq=False)
class Root:
    """The data as it is."""

    data: bytes
    is_cut: bool = False
    is_text: bool = True

    def edits(self, start: int, new: bytes) -> list[Edit]:
        """Return what to write into the data."""
        return [(start, new)]

    def is_new(self, start: int, end: int) -> bool:  # noqa: ARG002 - nothing was read before
        """Return True: there is no other view."""
        return True


@attrs.frozen(eq=False)
class Unescaped:
    """A view in which escapes are undone. Between them it is as its source."""

    source: View
    data: bytes
    #: JSON's way to write a byte, or that of URLs.
    is_json: bool
    #: Of each escape: where it begins here, where in the source, and its length in the source.
    _starts: list[int]
    _sources: list[int]
    _sizes: list[int]
    #: Where each ends here.
    _ends: list[int]

    @property
    def is_cut(self) -> bool:
        """As the source."""
        return self.source.is_cut

    @property
    def is_text(self) -> bool:
        """As the source."""
        return self.source.is_text

    def is_new(self, start: int, end: int) -> bool:
        """Tell whether an escape stands within."""
        at = bisect_right(self._ends, start)
        return at < len(self._starts) and self._starts[at] < end

    def edits(self, start: int, new: bytes) -> list[Edit]:
        """Return what to write into the root data; escapes stay escapes."""
        end = start + len(new)
        at = bisect_right(self._ends, start)
        if at < len(self._starts) and self._starts[at] < start:
            new = self.data[self._starts[at] : start] + new
            start = self._starts[at]
        written: list[bytes] = []
        source, here = self._source_of(start, at), start
        while at < len(self._starts) and self._starts[at] < end:
            begin, stop = self._starts[at], self._ends[at]
            if stop > end:
                new, end = new + self.data[end:stop], stop
            written.append(new[here - start : begin - start])
            old = self.source.data[self._sources[at] : self._sources[at] + self._sizes[at]]
            inside = new[begin - start : stop - start]
            if inside == self.data[begin:stop]:
                written.append(old)
            else:
                written.append(_as_json(inside, old) if self.is_json else _as_percent(inside, old))
            here = stop
            at += 1
        written.append(new[here - start :])
        return self.source.edits(source, b"".join(written))

    def _source_of(self, start: int, at: int) -> int:
        """Return where `start`, which stands in no escape before number `at`, is in the source."""
        if at == 0:
            return start
        return self._sources[at - 1] + self._sizes[at - 1] + start - self._ends[at - 1]


def _as_json(new: bytes, old: bytes) -> bytes:
    """Return `new`, one character, as an escape of the length of `old`."""
    character = new.decode("utf-8", "replace")[:1] or "x"
    code = ord(character)
    kind, size = old[1:2], len(old)
    if kind == b"x" and code < 0x100:
        return b"\\x%02x" % code
    if kind == b"U":
        return b"\\U%08x" % code
    if kind == b"u" and size == 12 and code > 0xFFFF:
        pair = code - 0x10000
        return b"\\u%04x\\u%04x" % (0xD800 + (pair >> 10), 0xDC00 + (pair & 0x3FF))
    if kind == b"u" and size == 6 and code <= 0xFFFF:
        return b"\\u%04x" % code
    return b"x" * size


def _as_percent(new: bytes, old: bytes) -> bytes:
    return (b"%%%02X" if old == old.upper() else b"%%%02x") % new[0]


@attrs.frozen(eq=False)
class Decoded:
    """A view of what stands in base64 or hexadecimal; one line for each run and each alignment."""

    source: View
    data: bytes
    is_hex: bool
    #: Of each line: where it begins here, and its run in the source.
    _starts: list[int]
    _sources: list[int]
    _sizes: list[int]
    is_cut: bool = False
    is_text: bool = False

    def is_new(self, start: int, end: int) -> bool:  # noqa: ARG002
        """Return True: encoded it reads otherwise."""
        return True

    def edits(self, start: int, new: bytes) -> list[Edit]:
        """Return what to write into the root data; the bits beside `new` stay."""
        line = bisect_right(self._starts, start) - 1
        inside = start - self._starts[line]
        run = self._sources[line]
        if self.is_hex:
            begin = run + 2 * inside
            old = self.source.data[begin : begin + 2 * len(new)]
            encoded = binascii.hexlify(new)
            return self.source.edits(begin, encoded.upper() if _UPPER_HEX.search(old) else encoded)
        first, last = inside // 3, -(-(inside + len(new)) // 3)
        begin, end = run + 4 * first, run + min(4 * last, self._sizes[line])
        old = self.source.data[begin:end]
        plain = bytearray(_unpacked(old, whole=True))
        offset = inside - 3 * first
        plain[offset : offset + len(new)] = new
        encoded = binascii.b2a_base64(plain, newline=False)[: len(old)]
        whole = self.source.data[run : run + self._sizes[line]]
        if b"-" in whole or b"_" in whole:
            encoded = encoded.translate(_URL_SAFE)
        return self.source.edits(begin, encoded)


def _unpacked(run: bytes, *, whole: bool = False) -> bytes:
    """Return what base64 says; a last group that is not full gives the bytes that it has.

    `whole` gives three bytes for each group, whatever is missing read as zero bits.
    """
    missing = -len(run) % 4
    plain = binascii.a2b_base64(run.translate(_STANDARD) + b"A" * missing)
    return plain if whole or not missing else plain[: len(plain) - missing]


@attrs.frozen(eq=False)
class Joined:
    """A view of pieces that stand apart in the source, one after the other."""

    source: View
    data: bytes
    _starts: list[int]
    _sources: list[int]
    is_cut: bool = False
    is_text: bool = True

    def is_new(self, start: int, end: int) -> bool:
        """Tell whether it is made of more than one piece."""
        return bisect_right(self._starts, start) != bisect_right(self._starts, end - 1)

    def edits(self, start: int, new: bytes) -> list[Edit]:
        """Return what to write into the root data, piece by piece."""
        found: list[Edit] = []
        at, done = bisect_right(self._starts, start) - 1, 0
        while done < len(new):
            here = start + done
            stop = self._starts[at + 1] if at + 1 < len(self._starts) else len(self.data)
            part = new[done : done + stop - here]
            if part:
                found += self.source.edits(self._sources[at] + here - self._starts[at], part)
            done += len(part)
            at += 1
        return found


def views(data: bytes, *, is_cut: bool = False) -> Iterator[View]:
    """Yield the data and every view of it, two encodings deep.

    `is_cut` says that more was to come.
    """
    root = Root(data, is_cut)
    yield root
    yield from _below(root, _DEPTH)
    if b'"delta"' in data:
        for joined in _joined(root):
            yield joined
            yield from _below(joined, _DEPTH)


def unescaped(source: View) -> Unescaped | None:
    """Return the view in which the escapes of JSON are undone, None if there are none."""
    data = source.data
    if b"\\" not in data:
        return None
    return _unescape(source, _JSON_ESCAPE, _JSON_CUT, is_json=True)


def _below(source: View, depth: int, json_depth: int = _JSON_DEPTH) -> Iterator[View]:
    """Yield the views of a view, `depth` encodings deep and `json_depth` strings of JSON."""
    if json_depth and (as_json := unescaped(source)) is not None and _says_more(as_json):
        yield as_json
        yield from _below(as_json, depth, json_depth - 1)
    if depth == 0:
        return
    for child in _children(source):
        yield child
        if isinstance(child, Decoded):
            yield from _readable(child)
        yield from _below(child, depth - 1, json_depth)


def _children(source: View) -> Iterator[View]:
    if b"%" in source.data:
        as_url = _unescape(source, _PERCENT, _PERCENT_CUT, is_json=False)
        if as_url is not None:
            yield as_url
    if isinstance(source, Decoded) and source.is_hex:
        return
    yield from _decoded(source)
    if (unwrapped := _unwrapped(source)) is not None:
        yield from _decoded(unwrapped)


def _says_more(view: Unescaped) -> bool:
    """Tell whether the view is no mere repetition: first URL, then JSON reads as JSON, then URL."""
    source = view.source
    if not isinstance(source, Unescaped) or source.is_json or source.is_cut:
        return True
    starts, sizes = view._sources, view._sizes  # noqa: SLF001 - of this module's own
    return any(source.is_new(at, at + size) for at, size in zip(starts, sizes, strict=True))


def _readable(source: Decoded) -> Iterator[Joined]:
    """Yield each run of words in what was decoded: what looks like a secret is one only there."""
    for found in _READABLE.finditer(source.data):
        is_cut = source.is_cut and found.end() == len(source.data)
        yield Joined(source, found[0], [0], [found.start()], is_cut)


def _in_a_row(source: View, spans: list[tuple[int, int]], *, is_cut: bool) -> Joined:
    starts: list[int] = []
    here = 0
    for begin, end in spans:
        starts.append(here)
        here += end - begin
    text = b"".join(source.data[begin:end] for begin, end in spans)
    return Joined(source, text, starts, [begin for begin, _ in spans], is_cut)


def _unwrapped(source: View) -> Joined | None:
    """Return the view in which what was wrapped is one line again, None if nothing was."""
    if isinstance(source, Decoded):
        return None
    spans: list[tuple[int, int]] = []
    last = 0
    for found in _WRAP.finditer(source.data):
        end = found.start()
        if _LONG_LINE.search(source.data, max(0, end - 41), end) is not None:
            spans.append((last, end - source.data.endswith(b"\r", 0, end)))
            last = found.end()
    if not spans:
        return None
    spans.append((last, len(source.data)))
    return _in_a_row(source, spans, is_cut=source.is_cut)


def _unescape(
    source: View, escape: re.Pattern[bytes], cut: re.Pattern[bytes], *, is_json: bool
) -> Unescaped | None:
    data = source.data
    trimmed = False
    # An odd backslash of an even number would be cut off wrongly: only escapes that are read count.
    end = len(data)
    pieces: list[bytes] = []
    starts: list[int] = []
    sources: list[int] = []
    sizes: list[int] = []
    ends: list[int] = []
    last = here = 0
    for found in escape.finditer(data):
        begin, stop = found.span()
        raw = data[begin:stop]
        plain = _SIMPLE.get(raw) or _character(raw) if is_json else binascii.unhexlify(raw[1:])
        pieces.append(data[last:begin])
        pieces.append(plain)
        here += begin - last
        starts.append(here)
        here += len(plain)
        ends.append(here)
        sources.append(begin)
        sizes.append(stop - begin)
        last = stop
    if source.is_cut:
        while (left := cut.search(data, max(last, end - 12), end)) is not None and left[0]:
            end, trimmed = left.start(), True
        if is_json and sources and _is_high(data[sources[-1] : end]):
            # Half of a pair of surrogates: the other half was cut off.
            end, trimmed = sources[-1], True
            del starts[-1], ends[-1], sources[-1], sizes[-1], pieces[-1]
            last = end
    if not starts and not trimmed:
        return None
    pieces.append(data[last:end])
    return Unescaped(source, b"".join(pieces), is_json, starts, sources, sizes, ends)


def _is_high(escape: bytes) -> bool:
    return re.fullmatch(rb"\\u[dD][89abAB][0-9a-fA-F]{2}", escape) is not None


def _character(raw: bytes) -> bytes:
    if len(raw) == 12:
        high, low = int(raw[2:6], 16), int(raw[8:12], 16)
        code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
    else:
        code = int(raw[2:], base=16)  # noqa: FURB166 - it has no `0x`
    return chr(code if code < 0x110000 else 0xFFFD).encode("utf-8", "surrogatepass")


def _decoded(source: View) -> Iterator[Decoded]:
    data, size = source.data, len(source.data)
    end = len(data.rstrip(_BASE64_ALPHABET)) if source.is_cut else size
    runs = [found.span() for found in _BASE64.finditer(data, 0, end) if found[0] not in _WORDS]
    if isinstance(source, Unescaped | Joined):
        runs = [run for run in runs if source.is_new(*run)]
    if runs:
        yield _base64_lines(source, runs)
    if size - end >= _SHORTEST_CUT:
        # Each by itself, so that what stands in it is known to be cut.
        for begin in range(end, end + 4):
            plain = _unpacked(data[begin:])
            yield Decoded(
                source, plain, is_hex=False, starts=[0], sources=[begin], sizes=[size - begin],
                is_cut=True,
            )  # fmt: skip
    if isinstance(source, Decoded):
        return
    end = len(data.rstrip(string.hexdigits.encode())) if source.is_cut else size
    hexes = [found.span() for found in _HEX.finditer(data, 0, end)]
    hexes = [run for run in hexes if source.is_new(*run)]
    if hexes:
        yield _hex_lines(source, hexes)
    if size - end >= 2 * _SHORTEST_CUT - 4:
        for begin in (end, end + 1):
            plain = binascii.unhexlify(data[begin : begin + (size - begin & ~1)])
            yield Decoded(
                source, plain, is_hex=True, starts=[0], sources=[begin], sizes=[0], is_cut=True
            )


def _base64_lines(source: View, runs: list[tuple[int, int]]) -> Decoded:
    """Return a view of every run, from each of its first four characters on."""
    data = source.data.translate(_STANDARD)
    pieces: list[bytes] = []
    starts: list[int] = []
    sources: list[int] = []
    sizes: list[int] = []
    here = 0
    for begin, end in runs:
        for first in range(begin, begin + 4):
            size = end - first
            pieces += (data[first:end], _PADDING[size & 3])
            starts.append(here)
            sources.append(first)
            sizes.append(size)
            here += (size + 7) // 4 * 3
    # All at once: a call for each of some ten thousand runs would take most of the time.
    plain = binascii.a2b_base64(b"".join(pieces))
    return Decoded(source, plain, False, starts, sources, sizes)  # noqa: FBT003


def _hex_lines(source: View, runs: list[tuple[int, int]]) -> Decoded:
    data = source.data
    pieces: list[bytes] = []
    starts: list[int] = []
    sources: list[int] = []
    here = 0
    for begin, end in runs:
        for first in (begin, begin + 1):
            pieces.append(binascii.unhexlify(data[first : first + (end - first & ~1)]))
            starts.append(here)
            sources.append(first)
            here += len(pieces[-1]) + 1
    sizes = [0] * len(starts)  # of no interest: each byte has its two digits
    return Decoded(source, _BETWEEN.join(pieces), True, starts, sources, sizes)  # noqa: FBT003


def _joined(root: Root) -> Iterator[Joined]:
    """Yield what the pieces of each kind say in a row, and what those of each item do."""
    spans: dict[tuple[bytes, ...], list[tuple[int, int]]] = {}
    whose: tuple[bytes, ...] = ()
    border = -1
    for found in _PIECE.finditer(root.data):
        begin, end = found.span(2)
        if begin == end:
            continue
        if begin >= border:
            whose, border = _whose(root.data, max(border, 0), found)
        spans.setdefault((found[1],), []).append((begin, end))
        if whose:
            spans.setdefault((found[1], *whose), []).append((begin, end))
    told: list[list[tuple[int, int]]] = []
    for pieces in spans.values():
        if len(pieces) < 2 or pieces in told:
            continue
        told.append(pieces)
        yield _in_a_row(root, pieces, is_cut=root.is_cut)


def _whose(data: bytes, after: int, piece: re.Match[bytes]) -> tuple[tuple[bytes, ...], int]:
    """Return whose the pieces of an event are, and where it ends; it begins at `after` or later."""
    at = piece.start()
    begin = max(after, data.rfind(b"\n", after, at), data.rfind(b"}{", after, at))
    border = _BORDER.search(data, piece.end())
    end = border.start() if border is not None else len(data)
    return tuple(found[1] for found in _WHOSE.finditer(data, begin, end)), end
