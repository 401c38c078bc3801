r"""Puts filler of the same length in the place of texts that are somebody's work.

What a program sends is full of its maker's prompts and descriptions. A cassette for a repository
keeps their lengths and forms, not the words: letters become `x`, digits `0`, other characters one
of as many bytes; white space, punctuation and escapes stay. Whatever a relay copies, joins, splits
or escapes anew is the same afterwards on both sides of it, as every character has its own filler.

So do the headers in which a program tells on what machine it runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import attrs

from harness.secrecy.views import Root, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cassettes.model import Frame, Headers, Interaction
    from harness.secrecy.views import Edit, View

#: Keys whose texts are somebody's work, or say what the moment was like.
_TEXTS: Final = frozenset(
    {
        "base_instructions",
        "content",
        "definition",
        "description",
        "instructions",
        "instructions_template",
        "output",
        "reasoning_content",
        "refusal",
        "text",
        "title",
    }
)
#: Of an answer: what says again what was asked, and catalogues. The rest is the model's own.
_ECHOES: Final = frozenset({"instructions", "base_instructions", "instructions_template"})
#: Objects of an answer in which all texts are echoes.
_ECHOED: Final = frozenset({"tools", "model_messages"})
#: Keys that programs act on, however long their texts are.
_ACTED_ON: Final = frozenset(
    {
        "$ref",
        "$schema",
        "arguments",
        "call_id",
        "const",
        "encrypted_content",
        "enum",
        "file_data",
        "file_id",
        "format",
        "id",
        "image_url",
        "input",
        "model",
        "name",
        "pattern",
        "previous_response_id",
        "prompt_cache_key",
        "required",
        "role",
        "safety_identifier",
        "type",
        "url",
    }
)
#: Headers of a client that tell of its machine.
_OF_THE_MACHINE: Final = frozenset(
    {"x-stainless-arch", "x-stainless-os", "x-stainless-runtime-version"}
)
#: The same in a `user-agent`: `(Debian 12.0.0; x86_64)`, not `(codex_exec; 0.169.0)`.
_MACHINE: Final = re.compile(rb"(?<=\()[A-Z][^();]*;[^();]*(?=\))")
#: Names, enums and patterns are shorter, in characters.
_LONGEST: Final = 64
#: A string, also one that was cut off; or what gives the document its form.
_TOKEN: Final = re.compile(rb'"((?:[^"\\]|\\.)*)("|\\?\Z)|[{}\[\],:]', re.DOTALL)
_UNIT: Final = re.compile(
    rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|[A-Za-z0-9]+"
    rb"|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[\x80-\xff]",
    re.DOTALL,
)
_LETTERS: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz123456789", b"x" * 52 + b"0" * 9
)
#: By length in bytes, as in `stand_ins`.
_OTHERS: Final = {
    1: b"x",
    2: "\u00d7".encode(),
    3: "\u2715".encode(),
    4: "\U0001d431".encode(),
}
_EVENT_DATA: Final = re.compile(rb"^data: ?([{\[][^\r\n]*)", re.MULTILINE)


@attrs.define(eq=False)
class Filler:
    """Fills texts, but for what it is told to keep.

    `keep` holds phrases that stay wherever they stand in a text: one's own prompts and marks.
    Names, enums, ids, schemas and short values stay anyway.
    """

    keep: Collection[str] = ()
    _kept: re.Pattern[bytes] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        forms = {
            json.dumps(each, ensure_ascii=how)[1:-1] for each in self.keep for how in (True, False)
        }
        # The longer one first: it may begin with the other.
        ordered = sorted((form.encode() for form in forms if form), key=lambda form: -len(form))
        if ordered:
            self._kept = re.compile(b"|".join(map(re.escape, ordered)))

    def interaction(self, one: Interaction) -> Interaction:
        """Return the interaction with filler; every length and every byte offset stays."""
        request, response = one.request, one.response
        stream = attrs.evolve(
            response.stream, frames=tuple(self._frame(frame) for frame in response.stream.frames)
        )
        return attrs.evolve(
            one,
            request=attrs.evolve(
                request,
                # Upstream there are the relay's own: it tells of no machine.
                headers=self._headers(request.headers, tells=one.track == "client"),
                body=self.request(request.body),
            ),
            response=attrs.evolve(response, body=self.answer(response.body), stream=stream),
        )

    def request(self, body: bytes) -> bytes:
        """Return a request's JSON with filler; what is no JSON is returned as it is."""
        return self._document(body, is_answer=False)

    def answer(self, body: bytes) -> bytes:
        """Return an answer, JSON or events, in which what it repeats of the request is filler."""
        if body.lstrip()[:1] in (b"{", b"["):
            return self._document(body, is_answer=True)
        written = bytearray(body)
        for found in _EVENT_DATA.finditer(body):
            data = found[1]
            if b'nstructions"' in data or b'"tools"' in data:
                written[found.start(1) : found.end(1)] = self._document(data, is_answer=True)
        return bytes(written)

    def _frame(self, frame: Frame) -> Frame:
        if frame.kind not in ("text", "bin"):
            return frame
        how = self.answer if frame.direction == "in" else self.request
        return attrs.evolve(frame, data=how(frame.data))

    def _headers(self, headers: Headers, *, tells: bool) -> Headers:
        return tuple((name, self._header(name, value, tells=tells)) for name, value in headers)

    def _header(self, name: str, value: str, *, tells: bool) -> str:
        raw = value.encode("latin-1")
        if raw.startswith(b"{"):
            raw = self.request(raw)
        elif tells and name in _OF_THE_MACHINE:
            raw = _filler(raw)
        elif tells and name == "user-agent":
            raw = _MACHINE.sub(lambda found: _filler(found[0]), raw)
        return raw.decode("latin-1")

    def _document(self, data: bytes, *, is_answer: bool) -> bytes:
        if data.lstrip()[:1] not in (b"{", b"["):
            return data
        written = bytearray(data)
        for at, new in self._edits(Root(data), is_answer=is_answer):
            written[at : at + len(new)] = new
        return bytes(written)

    def _edits(self, view: View, *, is_answer: bool) -> Iterator[Edit]:
        """Yield what to write, string by string, and in the strings that hold JSON themselves."""
        for start, end, path in _strings(view.data):
            raw = view.data[start:end]
            if is_answer and not _is_echo(path):
                continue
            key = path[-1] if path else ""
            if key not in _TEXTS and key not in _ACTED_ON and raw.startswith(b"{"):
                inner = unescaped(Root(raw))
                if inner is not None and _is_json(inner.data):
                    for at, new in self._edits(inner, is_answer=False):
                        yield from view.edits(start + at, new)
                    continue
            if key in _TEXTS or (
                key not in _ACTED_ON and len(raw.decode("utf-8", "replace")) > _LONGEST
            ):
                new = self._filled(raw)
                if new != raw:
                    yield from view.edits(start, new)

    def _filled(self, raw: bytes) -> bytes:
        if self._kept is None:
            return _filler(raw)
        pieces: list[bytes] = []
        last = 0
        for found in self._kept.finditer(raw):
            pieces += (_filler(raw[last : found.start()]), found[0])
            last = found.end()
        pieces.append(_filler(raw[last:]))
        return b"".join(pieces)


def filler_for(text: str) -> str:
    """Return the filler of a whole text, of as many characters."""
    filled: str = json.loads(b'"%s"' % _filler(json.dumps(text, ensure_ascii=False)[1:-1].encode()))
    return filled


def _strings(data: bytes) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield where each string that is a value stands, inside its quotes, and its keys.

    Lists add no key. Never raises: of what is no JSON it tells what looks like strings.
    """
    path: list[str] = []
    #: For each open bracket, whether it is an object; and how long the path was.
    stack: list[tuple[bool, int]] = []
    key: str | None = None
    named = False
    for found in _TOKEN.finditer(data):
        mark = found[0]
        if mark in (b"{", b"["):
            stack.append((mark == b"{", len(path)))
            if key is not None and named:
                path.append(key)
            key, named = None, False
        elif mark in (b"}", b"]"):
            if stack:
                del path[stack.pop()[1] :]
            key, named = None, False
        elif mark == b":":
            named = key is not None
        elif mark == b",":
            key, named = None, False
        elif stack and stack[-1][0] and not named:
            key = found[1].decode("utf-8", "replace")
        else:
            yield *found.span(1), (*path, key) if key is not None and named else tuple(path)


def _is_echo(path: tuple[str, ...]) -> bool:
    if path and path[-1] in _ECHOES:
        return True
    return any(each in _ECHOED for each in path[:-1])


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _filler(raw: bytes) -> bytes:
    return _UNIT.sub(_filled_unit, raw)


def _filled_unit(found: re.Match[bytes]) -> bytes:
    unit = found[0]
    if unit[0] >= 0x80:
        return _OTHERS[len(unit)]
    if unit[:1] != b"\\":
        return unit.translate(_LETTERS)
    if len(unit) == 12:
        return b"\\ud835\\udc31"  # as the character of four bytes is escaped
    if len(unit) != 6:
        return unit
    try:
        code = int(unit[2:], base=16)  # noqa: FURB166 - it has no `0x`
    except ValueError:
        return unit
    if code < 0x80:
        return b"\\u%04x" % chr(code).encode().translate(_LETTERS)[0]
    return b"\\u00d7" if code < 0x800 else b"\\u2715"
