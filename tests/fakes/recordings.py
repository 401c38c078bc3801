"""Recorded traffic to test against; it is not part of this repository.

The folder is named by `CODEXRELAY_RECORDINGS`. Tests that need it skip when it is absent. Two more
folders are looked for beside it: captured client requests, and written samples of the wire.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from codexrelay.protocol import sse
from codexrelay.protocol.raw import JsonObject, parse

if TYPE_CHECKING:
    from types import ModuleType

_ROOT = Path(__file__).parents[2]
_DEFAULT = "../shared/recordings"


@attrs.frozen
class Recorded:
    """One recorded answer."""

    #: The file and which exchange in it.
    name: str
    #: `responses` or `chat`.
    api: str
    request: JsonObject | None
    body: bytes
    #: Whether each of its events is JSON.
    sound: bool


def recorded_streams(api: str = "responses") -> tuple[Recorded, ...]:
    """Return the recorded streams of `api`; skips the test when there are none.

    Where the recording kept the events alone, they are framed as the backend does it.
    """
    return tuple(stream for stream in _streams(_folder()) if stream.api == api)


def observed() -> list[JsonObject]:
    """Return the observed facts of the Codex backend; skips the test when there are none."""
    facts: list[JsonObject] = _loader(_folder()).observed()
    return facts


def captured_requests() -> dict[str, JsonObject]:
    """Return the captured Responses requests by name; skips the test when there are none.

    Each has `headers` (pairs) and `body`.
    """
    folder = _beside("clients/captures", "captured client requests")
    return {
        f"{path.parent.name}/{path.stem}": json.loads(path.read_bytes())
        for path in sorted(folder.glob("*/*-POST-*_responses.json"))
    }


def vcrpy_files() -> tuple[Path, ...]:
    """Return the recordings that are plain files of vcrpy; skips the test when there are none."""
    folder = _folder() / "traceloop__openllmetry"
    if not folder.is_dir():
        pytest.skip("no recordings of vcrpy among the recorded streams")
    return tuple(sorted(folder.rglob("*.yaml")))


def sample(name: str) -> bytes:
    """Return a written sample of the wire (`stream_text.sse`); skips the test when it is absent."""
    return (_beside("wire/samples", "wire samples") / name).read_bytes()


def samples(pattern: str) -> dict[str, bytes]:
    """Return the written samples whose names match `pattern` (`stream_*.sse`)."""
    folder = _beside("wire/samples", "wire samples")
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def _folder() -> Path:
    named = os.environ.get("CODEXRELAY_RECORDINGS", _DEFAULT)
    folder = _ROOT / named
    if not (folder / "index.json").is_file():
        pytest.skip(
            f"recorded streams not found at {named}: "
            "set CODEXRELAY_RECORDINGS to the folder that holds index.json"
        )
    return folder


def _beside(name: str, what: str) -> Path:
    folder = _folder().parent / name
    if not folder.is_dir():
        pytest.skip(f"{what} not found in {name} beside the recorded streams")
    return folder


@functools.cache
def _loader(folder: Path) -> ModuleType:
    """Import the reader that comes with the recordings."""
    spec = importlib.util.spec_from_file_location("recordings_load", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes look their module up
    spec.loader.exec_module(module)
    return module


@functools.cache
def _streams(folder: Path) -> tuple[Recorded, ...]:
    return tuple(
        Recorded(
            name=recorded.exchange.name,
            api=recorded.exchange.api,
            request=recorded.exchange.request,
            body=recorded.body or b"".join(_framed(data) for _, data in recorded.events),
            sound=all(_is_json(data) for _, data in recorded.events if data != "[DONE]"),
        )
        for recorded in _loader(folder).iter_recorded()
        if recorded.stream
    )


def _is_json(data: str) -> bool:
    try:
        parse(data)
    except ValueError:
        return False
    return True


def _framed(data: str) -> bytes:
    try:
        event = parse(data)
    except ValueError:
        event = None
    kind = event.get("type") if isinstance(event, dict) else None
    if isinstance(kind, str):
        return sse.write(kind, data.encode())
    return b"data: %s\n\n" % data.encode()
