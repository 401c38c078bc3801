"""Recordings written by hand, for a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.raw import dump
from harness.cassettes.model import About, Cassette, Interaction, Request, Response, Stream
from harness.replay.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import End, Headers, Track

BACKEND = "http://openai-codex/backend-api/codex"
JSON: Headers = (("content-type", "application/json"),)


def recorded(
    number: int = 1,
    *,
    asked: Json = None,
    chunks: Sequence[tuple[float, bytes]] = ((0.0, b"hello"),),
    track: Track = "upstream",
    uri: str = f"{BACKEND}/responses",
    method: str = "POST",
    began_at_s: float = 0.0,
    status: int | None = 200,
    end: End = "eof",
    headers: Headers = (),
    asked_headers: Headers = (),
) -> Interaction:
    """Return an interaction; `asked` is the JSON of its request, None for no body."""
    ends, size = [], 0
    for _, data in chunks:
        size += len(data)
        ends.append(size)
    return Interaction(
        track=track,
        began_at_s=began_at_s,
        number=number,
        request=Request(
            method=method,
            uri=uri,
            headers=JSON + asked_headers,
            body=b"" if asked is None else dump(asked),
        ),
        response=Response(
            status=status,
            headers=headers,
            body=b"".join(data for _, data in chunks),
            stream=Stream(
                at_s=tuple(at_s for at_s, _ in chunks),
                ends=tuple(ends),
                complete=end == "eof",
                end=end,
            ),
        ),
    )


def cassette(*interactions: Interaction) -> Cassette:
    """Return a cassette of these."""
    return Cassette(about=About(origin="authored"), interactions=interactions)


def ledger_of(*interactions: Interaction, repeat: bool = False) -> Ledger:
    """Return the ledger of one cassette, `tape.yaml`, that holds these."""
    return Ledger.of({"tape.yaml": cassette(*interactions)}, repeat=repeat)
