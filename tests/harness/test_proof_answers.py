"""The answers that the proof plays: where they come from, and that long and recorded ones hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from harness.cassettes.file import write
from harness.proof import answers, loss, virtual, wires
from harness.proof.loss import some_cuts
from harness.proof.oracle import ENDED_WELL, Upstream
from harness.proof.plays import performance_of_events, play_of
from harness.proof.running import Batch
from harness.proof.streams import text
from harness.proof.truth import events_of
from tests.fakes.cassettes import cassette, interaction
from tests.fakes.recordings import recorded_streams

if TYPE_CHECKING:
    from pathlib import Path

_SEED: Final = 8787
_BODY: Final = b"".join(text())

needs_wires = pytest.mark.skipif(wires.UNSUPPORTED is not None, reason=str(wires.UNSUPPORTED))


def failures_of(cases: tuple[str, ...]) -> list[object]:
    outcome = Batch(part="long", cases=cases).run()
    return [(failure.case, failure.problems) for failure in outcome.failures]


def some_of(name: str, count: int) -> tuple[str, ...]:
    return tuple(map(str, some_cuts(name, count, virtual.rng_of(_SEED, name))))


@pytest.mark.parametrize("name", sorted(answers.LONG))
def test_a_long_answer_is_whole(name: str) -> None:
    events = events_of(b"".join(answers.named(name)))
    assert len(events) == len(answers.named(name))
    assert events[-1].name == "response.completed"


@needs_wires
@pytest.mark.parametrize("name", sorted(answers.LONG))
def test_a_long_answer_that_stops_anywhere_ends_once_and_truly(name: str) -> None:
    assert failures_of(some_of(name, 8)) == []


@needs_wires
def test_a_recorded_answer_that_stops_anywhere_ends_once_and_truly(tmp_path: Path) -> None:
    recorded = [one for one in recorded_streams() if one.sound and len(one.body) < 40_000]
    cases: list[str] = []
    for number, one in enumerate(virtual.rng_of(_SEED).sample(recorded, 12)):
        path = tmp_path / f"{number}.sse"
        path.write_bytes(one.body)
        name = quote(path.as_posix())
        attempt = Upstream.over_http(play_of(performance_of_events(answers.named(name))).wire)
        if attempt.terminal is not None and attempt.terminal.name in ENDED_WELL:
            cases += some_of(name, 2)
    assert failures_of(tuple(cases)) == []


@pytest.mark.parametrize("name", ["long-call", "long-text"])
def test_cuts_of_a_long_answer_are_drawn_at_the_borders_of_events_and_between(name: str) -> None:
    cases = list(some_cuts(name, 400, virtual.rng_of(_SEED)))
    assert {case.end for case in cases} == set(loss.ENDS)
    assert len({(case.protocol, case.streamed) for case in cases}) == 4
    assert [loss.Cut.parse(str(case)) for case in cases] == cases


def test_a_body_in_a_file_is_split_into_its_events(tmp_path: Path) -> None:
    path = tmp_path / "an answer.sse"
    path.write_bytes(_BODY + b"data: half")
    (name,) = answers.below(tmp_path)
    assert " " not in name
    assert answers.named(name) == (*text(), b"data: half")


def test_a_file_of_bare_events_is_framed(tmp_path: Path) -> None:
    path = tmp_path / "bare.chunks.txt"
    path.write_bytes(b'{"type":"response.created"}\n[DONE]\n')
    assert answers.named(quote(path.as_posix())) == (
        b'event: response.created\ndata: {"type":"response.created"}\n\n',
        b"data: [DONE]\n\n",
    )


def test_what_upstream_streamed_in_a_cassette_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    asked = interaction(1, track="client"), interaction(2, track="upstream", body=_BODY)
    write(path, cassette(*asked, interaction(3, track="upstream", status=503)))
    names = list(answers.below(tmp_path))
    assert names == [f"{quote(path.as_posix())}#2"]
    assert answers.named(names[0]) == text()
    with pytest.raises(ValueError, match="there is no answer"):
        answers.named(names[0].replace("#2", "#9"))
