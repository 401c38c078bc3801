"""Recorded Responses streams, where they are at hand (they are not part of the repository)."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import attrs
import hypothesis
import pytest

# How long one example takes says nothing about the code on a machine that is busy otherwise.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

_DEFAULT = Path(__file__).parents[2] / ".." / "shared" / "recordings"


@attrs.frozen
class Recording:
    """One recorded stream, in the framing of the backend."""

    name: str
    body: bytes
    #: Whether each of its events is JSON.
    sound: bool


@pytest.fixture(scope="session")
def recorded_responses() -> list[Recording]:
    root = Path(os.environ.get("CODEXRELAY_RECORDINGS", _DEFAULT))
    if not (root / "index.json").exists():
        pytest.skip(
            f"recorded streams not found at {root}: "
            "set CODEXRELAY_RECORDINGS to the folder that holds index.json"
        )
    spec = importlib.util.spec_from_file_location("recordings_load", root / "load.py")
    assert spec is not None
    assert spec.loader is not None
    load = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(load)
    return [
        Recording(
            recorded.exchange.name,
            recorded.body or "".join(f"data: {data}\n\n" for _, data in recorded.events).encode(),
            sound="<not json>" not in {load.event_type(data) for _, data in recorded.events},
        )
        for recorded in load.iter_recorded(root)
        if recorded.exchange.api == "responses" and recorded.stream
    ]
