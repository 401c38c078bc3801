"""Which request is which recorded one: the key of a request, and the nearest to one without any."""

from __future__ import annotations

import gzip
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Final

import attrs
import zstandard

from codexrelay.protocol.raw import Json, dump, parse
from harness.cassettes.model import Track
from harness.replay.varying import WRITTEN, StandIns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from codexrelay.protocol.raw import JsonObject
    from harness.cassettes.model import Headers, Interaction

#: Where tokens are renewed: matched by path and grant alone, and nothing of it is ever shown.
_TOKEN_PATH: Final = "/oauth/token"
_FORM: Final = "application/x-www-form-urlencoded"
#: Parameters of the query that tell the version of a program.
_VARYING_PARAMETERS: Final = frozenset({"client_version"})
#: The method of a request for a WebSocket: no plain GET asks for one.
WEBSOCKET: Final = "WEBSOCKET"
_SWITCHING: Final = 101
#: Most lines that say what differs.
MAX_LINES: Final = 12
#: Most characters of a value that are shown.
_SHOWN: Final = 60
#: Characters in front of the place where two texts part.
_BEFORE: Final = 16
_NOTHING: Final = "nothing"


@attrs.frozen
class Key:
    """A request without what varies: two with equal keys ask for the same."""

    track: Track
    method: str
    #: With the query, its parameters in order; without scheme, host and port.
    path: str
    #: The canonical form of the body.
    body: bytes = attrs.field(repr=False)
    #: What the canonical form was made of.
    value: Json = attrs.field(repr=False, eq=False)
    #: The body as it was read, if it is JSON.
    raw: Json = attrs.field(default=None, repr=False, eq=False)

    @property
    def asked(self) -> str:
        """The request line, in words."""
        return f"{self.method} {self.path}"

    @property
    def is_refresh(self) -> bool:
        """It asks the sign-in service for tokens."""
        return _is_refresh(self.path)


def key_of(track: Track, method: str, uri: str, *, headers: Headers = (), body: bytes = b"") -> Key:
    """Return the key of a request; `headers` have lower-case names, `body` may be compressed."""
    standing = StandIns()
    split = urllib.parse.urlsplit(uri)
    path = split.path or "/"
    query = sorted(
        (name, "*" if name in _VARYING_PARAMETERS else standing.text(value))
        for name, value in urllib.parse.parse_qsl(split.query, keep_blank_values=True)
    )
    told = standing.text(path) + ("?" + urllib.parse.urlencode(query) if query else "")
    named = dict(reversed(headers))
    plain = plain_body(body, named.get("content-encoding"))
    value = _read(plain, named.get("content-type", ""))
    if _is_refresh(path):
        value = {"grant_type": _grant(value)}
    elif isinstance(value, bytes):
        return Key(track, method.upper(), told, b"bytes:" + value, None)
    steady = standing.value(value)
    return Key(track, method.upper(), told, dump(steady), steady, value)


def key_of_interaction(interaction: Interaction) -> Key:
    """Return the key of a recorded request."""
    request = interaction.request
    # The coding has been taken off already, whatever the headers say.
    headers = tuple(pair for pair in request.headers if pair[0] != "content-encoding")
    switched = interaction.response.status == _SWITCHING
    method = WEBSOCKET if switched or is_upgrade(request.headers) else request.method
    return key_of(interaction.track, method, request.uri, headers=headers, body=request.body)


def is_upgrade(headers: Headers) -> bool:
    """Tell whether a request asks for a WebSocket."""
    return dict(headers).get("upgrade", "").lower() == "websocket"


def plain_body(body: bytes, coding: str | None) -> bytes:
    """Return `body` without its content coding; as it is, if that cannot be taken off."""
    try:
        match coding:
            case "zstd":
                # Not `decompress`: it wants the size in the frame's header, which may not be there.
                return zstandard.ZstdDecompressor().decompressobj().decompress(body)
            case "gzip":
                return gzip.decompress(body)
            case "deflate":
                return zlib.decompress(body)
            case _:
                return body
    except (zstandard.ZstdError, zlib.error, OSError, EOFError):
        return body


def _read(body: bytes, content_type: str) -> Json | bytes:
    if not body:
        return None
    try:
        return parse(body)  # curl says of any body that it is a form
    except ValueError:
        pass
    if not content_type.startswith(_FORM):
        return body
    form: JsonObject = {}
    for name, value in urllib.parse.parse_qsl(body.decode("latin-1"), keep_blank_values=True):
        form[name] = value
    return form


def _is_refresh(path: str) -> bool:
    return path.partition("?")[0].endswith(_TOKEN_PATH)


def _grant(value: Json | bytes) -> Json:
    return value.get("grant_type") if isinstance(value, dict) else None


# --- the nearest recording


@attrs.frozen
class Nearest:
    """The recording that is nearest to a request, and how far away."""

    #: Where it stands among those that were looked at.
    place: int
    #: What differs: the path of a field, and its values. In order of the request.
    differences: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return what differs, `MAX_LINES` of it."""
        if len(self.differences) <= MAX_LINES:
            return self.differences
        shown = MAX_LINES - 1
        return (*self.differences[:shown], f"... and {len(self.differences) - shown} more")


def nearest(asked: Key, recorded: Sequence[Key]) -> Nearest | None:
    """Return the nearest of `recorded`: the same method and path first, then the fewest fields.

    Nothing of the request is shown but its fields without what varies; and nothing of a request for
    tokens, nor any header.
    """
    fields = dict(_fields(asked.value))
    best: tuple[tuple[int, int, int], Nearest] | None = None
    for place, key in enumerate(recorded):
        there = fields if key.value == asked.value else dict(_fields(key.value))
        names = [*there, *(name for name in fields if name not in there)]
        differing = [name for name in names if there.get(name) != fields.get(name)]
        elsewhere = (key.method != asked.method) + 2 * (_bare(key.path) != _bare(asked.path))
        elsewhere = 4 * elsewhere + (key.path != asked.path) + (key.track != asked.track)
        rank = (elsewhere, len(differing) + (key.value is None and key.body != asked.body), place)
        if best is None or rank < best[0]:
            best = rank, Nearest(place, _told(key, asked, there, fields, differing))
    return None if best is None else best[1]


def _told(
    recorded: Key,
    asked: Key,
    there: Mapping[str, str],
    here: Mapping[str, str],
    differing: Iterable[str],
) -> tuple[str, ...]:
    lines = []
    if recorded.asked != asked.asked:
        lines.append(f"request: recorded {recorded.asked} asked {asked.asked}")
    if asked.is_refresh or recorded.is_refresh:
        return tuple(lines)
    for name in differing:
        was, now = _excerpts(there.get(name, _NOTHING), here.get(name, _NOTHING))
        lines.append(f"{name or 'body'}: recorded {was} asked {now}")
    if not lines and recorded.body != asked.body:
        lines.append(f"body: recorded {len(recorded.body)} bytes asked {len(asked.body)} others")
    return tuple(lines)


def _fields(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the JSON text of each leaf."""
    match value:
        case dict() if value:
            for name, inner in value.items():
                dotted = name if name == WRITTEN or not path else f".{name}"
                yield from _fields(inner, path + dotted)
        case list() if value:
            for number, inner in enumerate(value):
                yield from _fields(inner, f"{path}[{number}]")
        case _:
            yield path, dump(value).decode("utf-8", "replace")


def _excerpts(was: str, now: str) -> tuple[str, str]:
    """Return two values, shortened to where they part."""
    if max(len(was), len(now)) <= _SHOWN:
        return was, now
    shorter = min(len(was), len(now))
    parts = next((at for at in range(shorter) if was[at] != now[at]), shorter)
    return _excerpt(was, parts), _excerpt(now, parts)


def _excerpt(text: str, at: int) -> str:
    if len(text) <= _SHOWN:
        return text
    start = max(0, at - _BEFORE)
    end = start + _SHOWN
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"


def _bare(path: str) -> str:
    return path.partition("?")[0]
