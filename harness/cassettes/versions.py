"""Older versions of the format, and how each becomes the next.

A converter works on the parsed document and leaves alone what it does not understand: whoever reads
the result says what is wrong with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from codexrelay import __version__
from codexrelay.errors import RequestError
from codexrelay.server.decode import decode
from harness.cassettes.errors import CassetteError, problem
from harness.cassettes.model import FORMAT
from harness.cassettes.terminal import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Mapping: TypeAlias = dict[str, Any]

#: The host of what a client asks of the relay.
RELAY_HOST: Final = "relay"
#: No recorded answer is larger when it is decoded.
_MAX_BYTES: Final = 256 * 2**20


def up_to_date(document: object) -> object:
    """Return a document in the current version of the format.

    Raises:
        CassetteError: it is of a version that is still to come.
    """
    if not isinstance(document, dict):
        return document
    version = _ours(document).get("format", 0)
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        told = "it should be the number of a version of the format"
        raise CassetteError(None, [problem("metadata.codexrelay.format", told)])
    if version > FORMAT:
        raise CassetteError(
            None, [problem("metadata.codexrelay.format", _newer(version, _ours(document)))]
        )
    for number in range(version, FORMAT):
        document = CONVERTERS[number](document)
    return document


def version_of(document: object) -> int:
    """Return the version of the format that a document says it is in."""
    version = _ours(document).get("format", 0) if isinstance(document, dict) else 0
    return version if isinstance(version, int) else 0


def _ours(document: _Mapping) -> _Mapping:
    return _mapping(_mapping(document.get("metadata")).get("codexrelay"))


def _newer(version: int, ours: _Mapping) -> str:
    wrote = (
        f" (written by codexrelay {ours['relay']})" if isinstance(ours.get("relay"), str) else ""
    )
    return (
        f"it is {version}{wrote}, and codexrelay {__version__} reads up to {FORMAT}: "
        "use a newer codexrelay, or record it again with this one"
    )


def from_0_to_1(document: _Mapping) -> _Mapping:
    """Add what a plain file of vcrpy's does not tell, as far as its content shows it.

    Each body came in one chunk at 0 s and ended properly, as vcrpy keeps nothing else; whether an
    event stream is whole shows in its last event. Bodies that are kept compressed are decoded.
    """
    if not isinstance(document.get("metadata", {}), dict):
        return document
    metadata = _mapping(document.get("metadata"))
    about = {"origin": "authored", "complete": True, **_mapping(metadata.get("codexrelay"))}
    converted = {**document, "metadata": {**metadata, "codexrelay": {**about, "format": 1}}}
    listed = document.get("interactions")
    if isinstance(listed, list):
        converted["interactions"] = [
            _with_stream(entry, number) if isinstance(entry, dict) else entry
            for number, entry in enumerate(listed, start=1)
        ]
    return converted


#: Version -> what makes the next one of it.
CONVERTERS: Final[Mapping[int, Callable[[_Mapping], _Mapping]]] = {0: from_0_to_1}


def _with_stream(entry: _Mapping, number: int) -> _Mapping:
    request, response = entry.get("request"), entry.get("response")
    if not isinstance(request, dict) or not isinstance(response, dict):
        return entry
    if "status_code" in response:
        response = _as_now(response)
    request_headers, headers = _headers(request.get("headers")), _headers(response.get("headers"))
    body = _bytes(_mapping(response.get("body")).get("string"))
    asked = _bytes(request.get("body"))
    ours: _Mapping = {
        "track": "client" if _host(request.get("uri")) == RELAY_HOST else "upstream",
        "number": number,
        "began_at": 0.0,
    }
    if asked is not None and isinstance(request_headers, dict):
        asked, request_headers, coding = _decoded(asked, request_headers)
        ours |= {"request_coding": coding} if coding else {}
        request = {**request, "headers": request_headers, "body": asked}
    if body is None or not isinstance(headers, dict):
        return {**entry, "request": request, "response": response}
    body, headers, coding = _decoded(body, headers)
    ours |= {"coding": coding} if coding else {}
    pairs = tuple((name, str(value)) for name, values in headers.items() for value in values)
    stream = {
        "at": [0.0] if body else [],
        "ends": [len(body)] if body else [],
        "complete": is_whole(pairs, body),
        "end": "eof",
    }
    response = {
        **response,
        "headers": headers,
        "body": {"string": body},
        "stream": _mapping(response.get("stream")) or stream,
        "codexrelay": {**ours, **_mapping(response.get("codexrelay"))},
    }
    return {**entry, "request": request, "response": response}


def _as_now(response: _Mapping) -> _Mapping:
    """Return an answer of httpx as vcrpy keeps it now; before its version 6 it had other keys."""
    known = ("status_code", "content", "http_version")
    return {
        **{key: value for key, value in response.items() if key not in known},
        "status": {"code": response["status_code"], "message": ""},
        "body": {"string": response.get("content")},
    }


def _mapping(value: object) -> _Mapping:
    return value if isinstance(value, dict) else {}


def _host(uri: object) -> str | None:
    try:
        return urlsplit(uri).hostname if isinstance(uri, str) else None
    except ValueError:
        return None


def _bytes(value: object) -> bytes | None:
    """Return a body as bytes, of none an empty one; None: it is no body."""
    if value is None or isinstance(value, bytes):
        return value or b""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None


def _headers(headers: object) -> object:
    """Return headers as they are written now, if they are headers: lower case, lists of values."""
    if not isinstance(headers, dict) or not all(isinstance(name, str) for name in headers):
        return headers
    merged: dict[str, list[object]] = {}
    for name, values in headers.items():
        listed = values if isinstance(values, list) else [values]
        merged.setdefault(name.lower(), []).extend(map(_letter_for_byte, listed))
    return merged


def _letter_for_byte(value: object) -> object:
    """Return a header's value with a letter for each byte; it came in UTF-8 if it has others."""
    if isinstance(value, str) and any(letter > "\xff" for letter in value):
        return value.encode("utf-8", "surrogatepass").decode("latin-1")
    return value


def _decoded(body: bytes, headers: _Mapping) -> tuple[bytes, _Mapping, str | None]:
    """Return a body without its coding, its headers without what told of it, and the coding.

    What does not decode is left as it is, coding and all: that plays as it was recorded. Some files
    name a coding that their recorder had taken off already; a text is told from compressed data.
    """
    coding = ", ".join(str(value) for value in headers.get("content-encoding", ())).strip().lower()
    if coding in ("", "identity") or not body:
        return body, headers, None
    try:
        plain = decode(body, coding, max_bytes=_MAX_BYTES)
    except RequestError:
        if not _is_text(body):
            return body, headers, None
        plain = body
    left = {name: values for name, values in headers.items() if name != "content-encoding"}
    if "content-length" in left:
        left["content-length"] = [str(len(plain))]
    return plain, left, coding


def _is_text(body: bytes) -> bool:
    try:
        return body.decode().isprintable() or b"\n" in body
    except UnicodeDecodeError:
        return False
