"""Looks for secrets in files of any kind. Tells what kind stands where, and never the secret."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from typing import TYPE_CHECKING, Final, get_args

import attrs
import yaml
import zstandard

from harness.cassettes.model import Direction
from harness.secrecy.search import search

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from harness.cassettes.model import Frame
    from harness.secrecy.secrets import Secrets

#: Folders that a walk leaves out: nobody commits or hands on what is in them.
LEFT_OUT: Final = frozenset(
    {".git", ".hg", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache",
     ".pytest_cache", ".hypothesis", ".import_linter_cache"}
)  # fmt: skip
_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
#: What is inside something compressed, in bytes; more is not looked at.
_LONGEST: Final = 256 * 1024 * 1024
_YAML: Final = (".yaml", ".yml")
#: libyaml's where it is there: ten times as fast.
_LOADER: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@attrs.frozen(order=True)
class Finding:
    """A secret that was found."""

    #: `line 3`, or `interactions[3].response.body.string, byte 17` in what a document holds.
    place: str
    kind: str
    #: SHA-256 of the secret, which an allow-list may name. Not shown.
    digest: str = attrs.field(repr=False)


def scan_bytes(
    data: bytes, secrets: Secrets, *, allowed: Collection[str] = (), where: str | None = None
) -> tuple[Finding, ...]:
    """Return what is found in `data`, each secret where it stands first on a line.

    `allowed` are SHA-256 digests of values that may be there; `where` is what `data` is in a
    document, whose places are counted in bytes.
    """
    found: dict[Finding, None] = {}
    line, counted = 1, 0
    for hit in search(data, secrets):
        digest = hashlib.sha256(hit.said).hexdigest()
        if digest in allowed:
            continue
        at = hit.spans()[0][0]
        if where is None:
            line += data.count(b"\n", counted, at)
            counted = at
            place = f"line {line}"
        else:
            place = f"{where}, byte {at}"
        found[Finding(place, hit.kind, digest)] = None
    return tuple(found)


def scan_path(
    path: Path, secrets: Secrets, *, allowed: Collection[str] = ()
) -> Iterator[tuple[Path, Finding]]:
    """Yield what is found in the file, or in all files below the folder; with the file.

    Raises:
        OSError: a file cannot be read.
    """
    for file in files_below(path):
        for finding in scan_file(file.name, file.read_bytes(), secrets, allowed=allowed):
            yield file, finding


def files_below(path: Path) -> Iterator[Path]:
    """Yield the file, or the files below the folder in order. Links to folders are not followed."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in sorted(names):
            file = path.__class__(folder, name)
            if file.is_file():  # no socket, and no link to nowhere
                yield file


def scan_file(
    name: str, data: bytes, secrets: Secrets, *, allowed: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Return what is found in a file's content: as it is, unpacked, and in what YAML holds."""
    found = list(scan_bytes(data, secrets, allowed=allowed))
    known = {finding.digest for finding in found}
    content = unpacked(data)
    if content is not None:
        inner = name.rpartition(".")[0] or name
        inside = scan_file(inner, content, secrets, allowed=allowed)
        found += (finding for finding in inside if finding.digest not in known)
    elif name.endswith(_YAML):
        for where, scalar in _scalars(data):
            found += (
                finding
                for finding in scan_bytes(scalar, secrets, allowed=allowed, where=where)
                if finding.digest not in known
            )
    return tuple(found)


def scan_frames(
    frames: Sequence[Frame],
    secrets: Secrets,
    *,
    allowed: Collection[str] = (),
    where: str | None = None,
) -> tuple[Finding, ...]:
    """Return what is found in a WebSocket's messages, also what goes on from one to the next."""
    found: list[Finding] = []
    for direction in get_args(Direction):
        said = [frame.data for frame in frames if frame.direction == direction]
        place = direction if where is None else f"{where}.{direction}"
        found += scan_bytes(b"".join(said), secrets, allowed=allowed, where=place)
    return tuple(found)


def unpacked(data: bytes) -> bytes | None:
    """Return what is compressed in `data`, as far as it is whole; None if nothing is."""
    if data.startswith(_GZIP):
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            return _as_far_as_it_goes(packed, (OSError, EOFError, zlib.error))
    if data.startswith(_ZSTD):
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as packed:
            return _as_far_as_it_goes(packed, (zstandard.ZstdError,))
    return None


def _as_far_as_it_goes(
    packed: gzip.GzipFile | zstandard.ZstdDecompressionReader, ends: tuple[type[Exception], ...]
) -> bytes:
    content = bytearray()
    try:
        while len(content) < _LONGEST and (piece := packed.read(1 << 16)):
            content += piece
    except ends:
        pass  # cut off: what came is looked at
    return bytes(content)


def _scalars(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the texts and bytes of a YAML document, and where they are in it."""
    try:
        documents = list(yaml.load_all(data, Loader=_LOADER))
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    for document in documents:
        yield from _within(document, "")


def _within(value: object, where: str) -> Iterator[tuple[str, bytes]]:
    match value:
        case dict():
            for key, each in value.items():
                yield from _within(each, f"{where}.{key}" if where else str(key))
        case list():
            for index, each in enumerate(value):
                yield from _within(each, f"{where}[{index}]")
            if where.endswith(".frames"):
                yield from _across(value, where)
        case bytes():
            yield where, value
        case str():
            yield where, value.encode("utf-8", "surrogatepass")
        case _:
            pass


def _across(frames: list[object], where: str) -> Iterator[tuple[str, bytes]]:
    """Yield what the messages of each direction say in a row: a secret may go on in the next."""
    said: dict[object, list[bytes]] = {}
    for frame in frames:
        if isinstance(frame, dict):
            data = frame.get("data", b"")
            whole = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            if isinstance(whole, bytes):
                said.setdefault(frame.get("dir"), []).append(whole)
    for direction, pieces in said.items():
        yield f"{where}.{direction}", b"".join(pieces)
