"""The stub in the backend's place, and the check that a subject really asks it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.processes import START_S, launch_printing_url
from benchmarks.requests import RESPONSES, instruction, responses_body
from benchmarks.subject import MeasurementError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.subject import Subject

#: Without the proxies that the environment may name: everything stays on this machine.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start_stub(stack: contextlib.ExitStack, folder: Path, *, port: int) -> Subject:
    """Start the stub that `build` has made in `folder`; port 0 takes a free one.

    Raises:
        MeasurementError: it did not start; its port may be taken.
    """
    return launch_printing_url(stack, "stub", [str(folder / "stub"), str(port)], folder)


def check_reaches_stub(subject: Subject, stub: Subject, headers: Sequence[str]) -> None:
    """Send one request: a relay that points at a real backend costs one, not thousands.

    Raises:
        MeasurementError: no good answer, or it did not come from the stub.
    """
    before = answers_given(stub).all
    body = json.dumps(responses_body(instruction(1))).encode()
    request = urllib.request.Request(subject.url + RESPONSES, body)
    for header in ("content-type: application/json", *headers):
        name, _, value = header.partition(":")
        request.add_header(name, value.strip())
    try:
        with _OPENER.open(request, timeout=START_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise MeasurementError(f"it answers {error.code}: {error.read(300)!r}") from None
    except OSError as error:
        raise MeasurementError(f"no answer at {subject.url}: {error}") from None
    if answers_given(stub).all == before:
        raise MeasurementError(f"it answered without asking the stub at {stub.url}")


@attrs.frozen
class Answers:
    """How many model requests the stub has answered."""

    all: int
    #: Those over WebSockets.
    messages: int


def answers_given(stub: Subject) -> Answers:
    """Ask the stub."""
    with _OPENER.open(f"{stub.url}/__stats", timeout=START_S) as answer:
        stats = json.load(answer)
        return Answers(stats["responses"], stats["messages"])
