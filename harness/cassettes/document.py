"""A cassette as text: how it is written down, and how it is read back.

The file is one that vcrpy can load. What vcrpy does not know stands where a load and a save by
vcrpy keep it: under `metadata`, and inside `response` as `stream` and `codexrelay`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, get_args

import attrs
import yaml

from harness.cassettes import beside, versions, yaml_text
from harness.cassettes.errors import CassetteError, problem
from harness.cassettes.model import (
    FORMAT,
    About,
    Cassette,
    Direction,
    End,
    Frame,
    FrameKind,
    Interaction,
    Origin,
    Request,
    Response,
    Stream,
    Track,
)
from harness.cassettes.reading import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from codexrelay.errors import Problem
    from harness.cassettes.model import Headers

#: Of the file, not of our format: vcrpy's.
_VERSION: Final = 1
_NO_HEAD: Final = 0
_SWITCHED: Final = 101
_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
#: A close frame's code has two bytes.
_MOST_CODE: Final = 0xFFFF


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loads plain values only, and takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002  (PyYAML's signature)
        mapping: dict[object, object] = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "a mapping has a key twice", node.start_mark
            )
        return mapping


# Writing


def dump(cassette: Cassette) -> bytes:
    """Return the text of a cassette, all bodies inside.

    Equal cassettes have equal texts. Times are written with six decimals.

    Raises:
        ValueError: a header or a name holds half a surrogate pair.
    """
    ordered = sorted(cassette.interactions, key=lambda one: one.number)
    return assembled(cassette.about, [interaction_bytes(one) for one in ordered])


def assembled(about: About, items: Sequence[bytes]) -> bytes:
    """Return a cassette's text from the texts of its interactions, in the order given."""
    head = head_bytes(about)
    return head + b"".join(items) if items else head.rstrip(b"\n") + b" []\n"


def head_bytes(about: About) -> bytes:
    """Return what stands in front of the first interaction. Without any, use `assembled`."""
    lines = [f"version: {_VERSION}", "metadata:", "  codexrelay:", f"    format: {FORMAT}"]
    lines.append(f"    origin: {about.origin}")
    if about.client is not None or about.client_version is not None:
        lines.append("    client:")
        lines += _texts({"program": about.client, "version": about.client_version}, "      ")
    lines += _texts({"relay": about.relay, "date": about.date, "scenario": about.scenario}, "    ")
    if about.began_unix_s is not None:
        lines.append(f"    began_unix_s: {yaml_text.seconds(about.began_unix_s)}")
    if about.redacted:
        lines.append("    redaction:")
        counts = sorted(about.redacted.items())
        lines += [f"{yaml_text.key(kind, '      ')} {count}" for kind, count in counts]
    lines.append(f"    complete: {yaml_text.flag(about.complete)}")
    return _bytes([*lines, "interactions:"])


def interaction_bytes(
    interaction: Interaction, put_aside: Callable[[str, bytes], str | None] | None = None
) -> bytes:
    """Return the text of one interaction, as an entry of the file's list.

    Args:
        interaction: what to write.
        put_aside: is asked where each body is kept (`Beside.keep`): None for inside the file.

    Raises:
        ValueError: see `dump`.
    """
    request, response, stream = (
        interaction.request,
        interaction.response,
        interaction.response.stream,
    )
    asked, asked_aside = _body(request.body, f"{interaction.number:04}-request", put_aside)
    told, told_aside = _body(response.body, f"{interaction.number:04}-response", put_aside)
    status = _NO_HEAD if response.status is None else response.status
    lines = [
        "- request:",
        f"    method: {yaml_text.scalar(request.method)}",
        f"    uri: {yaml_text.scalar(request.uri)}",
        *_headers(request.headers, "    "),
        f"    body: {yaml_text.content(asked, '      ')}",
        "  response:",
        "    status:",
        f"      code: {status}",
        f"      message: {yaml_text.scalar(response.reason)}",
        *_headers(response.headers, "    "),
        "    body:",
        f"      string: {yaml_text.content(told, '        ')}",
        "    stream:",
        f"      at: {yaml_text.flow(map(yaml_text.seconds, stream.at_s), ' ' * 8, begin=10)}",
        f"      ends: {yaml_text.flow(map(str, stream.ends), ' ' * 8, begin=12)}",
        f"      complete: {yaml_text.flag(stream.complete)}",
        f"      end: {stream.end}",
        *(["      frames:"] if stream.frames else []),
        *(f"      - {_frame(frame)}" for frame in stream.frames),
        "    codexrelay:",
        f"      track: {interaction.track}",
        f"      number: {interaction.number}",
        f"      began_at: {yaml_text.seconds(interaction.began_at_s)}",
    ]
    if interaction.caused_by is not None:
        lines.append(f"      caused_by: {interaction.caused_by}")
    if response.head_at_s is not None:
        lines.append(f"      head_at: {yaml_text.seconds(response.head_at_s)}")
    lines += _texts({"request_coding": request.coding, "coding": response.coding}, "      ")
    lines += _aside("request_file", asked_aside)
    lines += _aside("body_file", told_aside)
    lines += _order("request_header_order", request.headers)
    lines += _order("header_order", response.headers)
    return _bytes(lines)


def _bytes(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _texts(values: dict[str, str | None], pad: str) -> list[str]:
    return [
        f"{pad}{name}: {yaml_text.scalar(value)}"
        for name, value in values.items()
        if value is not None
    ]


def _headers(headers: Headers, pad: str) -> Iterator[str]:
    if not headers:
        yield f"{pad}headers: {{}}"
        return
    yield f"{pad}headers:"
    for name, values in _by_name(headers).items():
        yield yaml_text.key(name, pad + "  ")
        for value in values:
            yield f"{pad}  - {yaml_text.scalar(value)}"


def _by_name(headers: Headers) -> dict[str, list[str]]:
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    return by_name


def _order(name: str, headers: Headers) -> list[str]:
    """Return the line that tells in which order the names came, where the mapping does not."""
    order = [key for key, _ in headers]
    if order == [key for key, values in _by_name(headers).items() for _ in values]:
        return []
    return [f"      {name}: {yaml_text.flow(map(yaml_text.quoted, order), ' ' * 8, begin=28)}"]


def _frame(frame: Frame) -> str:
    parts = [f"at: {yaml_text.seconds(frame.at_s)}", f"dir: {frame.direction}"]
    parts.append(f"kind: {frame.kind}")
    if frame.code is not None:
        parts.append(f"code: {frame.code}")
    if frame.data:
        parts.append(f"data: {yaml_text.flow_content(frame.data)}")
    return f"{{{', '.join(parts)}}}"


@attrs.frozen
class _Aside:
    path: str
    size_bytes: int
    sha256: str


def _body(
    body: bytes, name: str, put_aside: Callable[[str, bytes], str | None] | None
) -> tuple[bytes, _Aside | None]:
    path = put_aside(name, body) if put_aside is not None else None
    if path is None:
        return body, None
    return b"", _Aside(path, len(body), hashlib.sha256(body).hexdigest())


def _aside(name: str, aside: _Aside | None) -> list[str]:
    if aside is None:
        return []
    return [
        f"      {name}:",
        f"        path: {yaml_text.scalar(aside.path)}",
        f"        size: {aside.size_bytes}",
        f"        sha256: {yaml_text.quoted(aside.sha256)}",
    ]


# Reading


def parse(data: bytes, *, folder: Path | None) -> Cassette:
    """Return the cassette that a text holds, whatever version of the format it is in.

    Args:
        data: the text.
        folder: where the cassette lies, for bodies that lie beside it; None: they cannot be had.

    Raises:
        CassetteError: it holds none. All problems are told at once.
    """
    return cassette_of(load(data), folder=folder)


def cassette_of(values: object, *, folder: Path | None) -> Cassette:
    """Return the cassette that the values of a document make; see `parse`.

    Raises:
        CassetteError: they make none. All problems are told at once.
    """
    problems: list[Problem] = []
    cassette = _cassette(Place(versions.up_to_date(values), "", problems), folder)
    if problems:
        raise CassetteError(None, problems)
    return cassette


def load(data: bytes) -> object:
    """Return the values of a YAML text, of which nothing is known yet.

    Raises:
        CassetteError: it is no YAML, or needs more than plain values.
    """
    try:
        return yaml.load(data, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        told = error.problem or error.context or "it cannot be read"
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        # PyYAML lets other errors through: a date or a number that is none, nesting without end.
        where, told = "", "it nests too deeply" if isinstance(error, RecursionError) else str(error)
    raise CassetteError(None, [problem(where, f"no valid YAML: {' '.join(told.split())[:300]}")])


def _cassette(root: Place, folder: Path | None) -> Cassette:
    if not root.mapping("version", "metadata", "interactions"):
        return Cassette(about=About(origin="authored"))
    version = root.at("version")
    if version.integer() != _VERSION:
        version.wrong(f"should be {_VERSION}, the version of vcrpy's files")
    about = _about(root.at("metadata").at("codexrelay"))
    # A recorder that has not seen anything yet leaves the list empty.
    entries = root.at("interactions").entries() if root.has("interactions") else ()
    read = [(entry, _interaction(entry, folder)) for entry in entries]
    _check_numbers(read)
    interactions = sorted((one for _, one in read), key=lambda one: one.number)
    return Cassette(about=about, interactions=tuple(interactions))


def _check_numbers(read: Sequence[tuple[Place, Interaction]]) -> None:
    """Note numbers that are used twice, and causes that are no request of a client."""
    seen: set[int] = set()
    clients = {one.number for _, one in read if one.track == "client"}
    for entry, one in read:
        ours = entry.at("response").at("codexrelay")
        if one.number in seen:
            ours.at("number").wrong(f"is {one.number}, which another interaction has already")
        seen.add(one.number)
        if one.caused_by is None:
            continue
        if one.track == "client":
            ours.at("caused_by").wrong("a client's request has no cause")
        elif one.caused_by not in clients:
            ours.at("caused_by").wrong(f"is {one.caused_by}, which is no request of the client's")


_ABOUT: Final = (
    *("format", "origin", "client", "relay", "date", "began_unix_s", "scenario", "redaction"),
    "complete",
)


def _about(ours: Place) -> About:
    if not ours.mapping(*_ABOUT):
        return About(origin="authored")
    client = ours.at("client")
    if ours.has("client"):
        client.mapping("program", "version")
    redaction = ours.at("redaction")
    redacted = {}
    if ours.has("redaction") and redaction.mapping():
        redacted = {kind: redaction.at(kind).integer() for kind in redaction.names()}
    return About(
        origin=ours.at("origin").word(*get_args(Origin)),
        client=_maybe_text(client, "program"),
        client_version=_maybe_text(client, "version"),
        relay=_maybe_text(ours, "relay"),
        date=_maybe_text(ours, "date"),
        began_unix_s=ours.at("began_unix_s").seconds() if ours.has("began_unix_s") else None,
        scenario=_maybe_text(ours, "scenario"),
        redacted=redacted,
        complete=ours.at("complete").flag(),
    )


def _interaction(entry: Place, folder: Path | None) -> Interaction:
    entry.mapping("request", "response")
    asked, told = entry.at("request"), entry.at("response")
    # vcrpy fails on a request with any other key, while it keeps whatever an answer has.
    asked.mapping("method", "uri", "headers", "body")
    told.mapping()
    ours = told.at("codexrelay")
    ours.mapping(
        *("track", "number", "began_at", "caused_by", "head_at", "request_coding", "coding"),
        *("request_file", "body_file", "request_header_order", "header_order"),
    )
    request = Request(
        method=asked.at("method").text(),
        uri=asked.at("uri").uri(),
        headers=_read_headers(asked.at("headers"), ours, "request_header_order"),
        body=_read_body(asked, "body", ours, "request_file", folder),
        coding=_maybe_text(ours, "request_coding"),
    )
    return Interaction(
        track=ours.at("track").word(*get_args(Track)),
        began_at_s=ours.at("began_at").seconds(),
        request=request,
        response=_response(told, ours, folder),
        caused_by=ours.at("caused_by").integer(least=1) if ours.has("caused_by") else None,
        number=ours.at("number").integer(least=1),
    )


def _response(told: Place, ours: Place, folder: Path | None) -> Response:
    status = told.at("status")
    status.mapping("code", "message")
    noted = len(status.problems)
    code = status.at("code").integer()
    is_bad = len(status.problems) > noted
    if not is_bad and not (code in (_NO_HEAD, _SWITCHED) or 200 <= code <= 999):
        told_as = "a final status of HTTP, 101 of a WebSocket, or 0 where none came"
        status.at("code").wrong(f"is {code}; it should be {told_as}")
    told.at("body").mapping("string")
    body = _read_body(told.at("body"), "string", ours, "body_file", folder)
    headers = _read_headers(told.at("headers"), ours, "header_order")
    if code == _NO_HEAD and not is_bad and (body or headers):
        status.at("code").wrong("is 0, no head ever came; but there are headers or a body")
    return Response(
        status=None if code == _NO_HEAD else code,
        reason=status.at("message").text() if status.has("message") else "",
        headers=headers,
        body=body,
        stream=_stream(told.at("stream"), body),
        coding=_maybe_text(ours, "coding"),
        head_at_s=ours.at("head_at").seconds() if ours.has("head_at") else None,
    )


def _stream(stream: Place, body: bytes) -> Stream:
    stream.mapping("at", "ends", "complete", "end", "frames")
    before = len(stream.problems)
    at_s, ends = stream.at("at").rising_seconds(), stream.at("ends").rising_offsets()
    if len(stream.problems) == before:  # what is wrong anyway is told once
        if len(at_s) != len(ends):
            stream.wrong(f"at has {len(at_s)} entries and ends has {len(ends)}: one for each chunk")
        end = ends[-1] if ends else 0
        if end != len(body):
            where = f"ends[{len(ends) - 1}]" if ends else "ends"
            told = f"the last chunk ends at {end}, and the body is {len(body)} bytes long"
            stream.problems.append(problem(f"{stream.where}.{where}", told))
    return Stream(
        at_s=at_s,
        ends=ends,
        complete=stream.at("complete").flag(),
        end=stream.at("end").word(*get_args(End)),
        frames=_frames(stream.at("frames")) if stream.has("frames") else (),
    )


def _frames(listed: Place) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    for entry in listed.entries():
        entry.mapping("at", "dir", "kind", "data", "code")
        at_s = entry.at("at").seconds()
        if frames and at_s < frames[-1].at_s:
            entry.at("at").wrong("is before the frame in front of it")
        kind = entry.at("kind").word(*get_args(FrameKind))
        code = entry.at("code").integer(most=_MOST_CODE) if entry.has("code") else None
        if kind != "close" and code is not None:
            entry.at("code").wrong("only a close frame has a code")
        frames.append(
            Frame(
                at_s=at_s,
                direction=entry.at("dir").word(*get_args(Direction)),
                kind=kind,
                data=entry.at("data").content() if entry.has("data") else b"",
                code=code,
            )
        )
    return tuple(frames)


def _maybe_text(place: Place, key: str) -> str | None:
    return place.at(key).text() if place.has(key) else None


def _read_headers(headers: Place, ours: Place, order_key: str) -> Headers:
    by_name: dict[str, list[str]] = {}
    for name in headers.names():
        values = [entry.header_value() for entry in headers.at(name).entries()]
        if name != name.lower():
            headers.at(name).wrong("header names are written in lower case")
        elif _HEADER_NAME.fullmatch(name) is None:
            headers.at(name).wrong("is no name of a header")
        by_name[name] = values
    flat = [(name, value) for name, values in by_name.items() for value in values]
    if not ours.has(order_key):
        return tuple(flat)
    order = ours.at(order_key)
    names = [entry.text() for entry in order.entries()]
    if sorted(names) != sorted(name for name, _ in flat):
        order.wrong("does not name each header as often as it has values")
        return tuple(flat)
    left = {name: iter(values) for name, values in by_name.items()}
    return tuple((name, next(left[name])) for name in names)


def _read_body(holder: Place, key: str, ours: Place, file_key: str, folder: Path | None) -> bytes:
    body = holder.at(key).content() if holder.has(key) else b""
    if not ours.has(file_key):
        return body
    if body:
        holder.at(key).wrong(f"should be empty, as the body lies in a file ({file_key})")
    note = ours.at(file_key)
    if not note.mapping("path", "size", "sha256"):
        return body
    before = len(note.problems)
    path, size_bytes = note.at("path").text(), note.at("size").integer()
    sha256 = note.at("sha256").text()
    if len(note.problems) > before:
        return body
    try:
        return beside.read(folder, path, size_bytes=size_bytes, sha256=sha256)
    except beside.BesideError as error:
        note.at("path").wrong(str(error))
        return body
