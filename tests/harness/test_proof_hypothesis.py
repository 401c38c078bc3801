"""A whole relay in cases that hypothesis draws, and stories of many turns on one relay.

Whatever fails here is printed as a command that runs the same case again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from harness.faults import operators as op
from harness.faults.positions import Event, Offset
from harness.faults.text import Fault
from harness.proof import stories, wires
from harness.proof.answers import named
from harness.proof.bridges import WAYS
from harness.proof.mishaps import REFRESHES, REFUSALS, Mishaps
from harness.proof.running import run_case
from harness.proof.streams import STREAMS

if TYPE_CHECKING:
    from harness.proof.oracle import Protocol

pytestmark = pytest.mark.skipif(wires.UNSUPPORTED is not None, reason=str(wires.UNSUPPORTED))

LONGEST_BYTES = max(sum(map(len, stream())) for stream in STREAMS.values())

events = st.integers(1, 9).map(Event)
offsets = st.integers(0, LONGEST_BYTES).map(Offset)
places = offsets | events
durations = st.sampled_from([0.001, 0.5, 5.0, 12.0, 29.0, 31.0])
ends = st.sampled_from(sorted(op.Ended.WAYS)).map(op.Ended)
#: What harms an answer's way: what was said is still true.
HARMS = st.one_of(
    st.builds(op.Delay, places, durations),
    st.builds(op.Stall, places, durations),
    st.just(op.Split()),
    st.just(op.Coalesce()),
    st.just(op.NoHead()),
    st.builds(op.Cut, places),
    ends,
)
#: What changes what is said.
CHANGES = st.one_of(
    st.builds(op.Dup, events),
    st.builds(op.Swap, events),
    st.builds(op.Drop, events),
    st.builds(op.Corrupt, places, st.sampled_from([0xFF, 0x00, 0x22, 0x7B])),
    st.builds(op.Insert, places, st.sampled_from([b": note\n\n", b"data: {}\n\n", b"\n"])),
)
REFUSING = st.builds(op.Status, st.sampled_from([400, 403, 404, 429, 500, 502, 503])) | st.builds(
    op.Limit, st.sampled_from([2.0, 3600.0])
)
FAULTS = st.lists(HARMS | CHANGES | REFUSING, min_size=1, max_size=3).map(tuple).map(Fault)
FATES = st.just("whole") | st.sampled_from(sorted(REFUSALS)) | FAULTS.map(str)
REFRESH_FATES = st.sampled_from(sorted(REFRESHES))


@st.composite
def turns(draw: st.DrawFn) -> Mishaps:
    """One turn; where in the list of its fates a fault stands is its place on the ladder."""
    protocol, streamed = draw(st.sampled_from(WAYS))
    fates = draw(st.lists(FATES, min_size=1, max_size=3).map(tuple))
    return Mishaps(
        stream=draw(st.sampled_from(sorted(STREAMS))),
        protocol=protocol,
        streamed=streamed,
        fates=fates,
        refreshes=draw(st.lists(REFRESH_FATES, max_size=2).map(tuple)) if "401" in fates else (),
    )


def run(case: str) -> None:
    """Run a case as the command does."""
    problems = run_case(case)
    assert not problems, f"python -m harness prove --case '{case}'\n" + "\n".join(problems)


@given(turns())
def test_a_turn_ends_once_and_truly_whatever_befalls_it(turn: Mishaps) -> None:
    run(str(turn))


class Relay(RuleBasedStateMachine):
    """One relay and all that happens to it.

    Its steps are gathered and then played on a relay in virtual time, which looks after each of
    them at what must be so. Time would run on between two steps if hypothesis had to be waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[stories.Step] = []

    @rule(turn=turns())
    def turn(self, turn: Mishaps) -> None:
        for fate in turn.refreshes:
            self.steps.append(stories.FailRefresh(fate))
        plain = Mishaps(
            stream=turn.stream,
            protocol=turn.protocol,
            streamed=turn.streamed,
            fates=turn.fates,
        )
        self.steps.append(stories.Turn(plain))

    @rule(
        stream=st.sampled_from(sorted(STREAMS)),
        way=st.sampled_from(WAYS),
        refusal=st.sampled_from(sorted(REFUSALS)),
    )
    def refusal(self, stream: str, way: tuple[Protocol, bool], refusal: str) -> None:
        self._turn(stream, way, refusal)

    @rule(
        stream=st.sampled_from(sorted(STREAMS)),
        way=st.sampled_from(WAYS),
        fate=FATES,
        at=st.integers(1, 400),
    )
    def client_leaves(self, stream: str, way: tuple[Protocol, bool], fate: str, at: int) -> None:
        self._turn(stream, way, fate, leaves_at=at)

    @rule(stream=st.sampled_from(sorted(STREAMS)), way=st.sampled_from(WAYS))
    def next_turn(self, stream: str, way: tuple[Protocol, bool]) -> None:
        self._turn(stream, way, "whole")

    @rule()
    def tokens_expire(self) -> None:
        self.steps.append(stories.Expire())

    @rule(fate=REFRESH_FATES)
    def refresh_fails(self, fate: str) -> None:
        self.steps.append(stories.FailRefresh(fate))

    @rule(for_s=st.sampled_from([1.0, 30.0, 400.0, 4000.0]))
    def time_passes(self, for_s: float) -> None:
        self.steps.append(stories.Wait(for_s))

    def _turn(
        self,
        stream: str,
        way: tuple[Protocol, bool],
        fate: str,
        *,
        leaves_at: int | None = None,
    ) -> None:
        protocol, streamed = way
        case = Mishaps(stream=stream, protocol=protocol, streamed=streamed, fates=(fate,))
        self.steps.append(stories.Turn(case, leaves_at))

    def teardown(self) -> None:
        """Play it."""
        if self.steps:
            run(str(stories.Story(tuple(self.steps))))


TestRelay = Relay.TestCase
TestRelay.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=8)


@given(turns(), st.lists(st.sampled_from([1.0, 30.0, 4000.0]), max_size=2))
def test_a_story_is_read_from_its_own_text(turn: Mishaps, waits: list[float]) -> None:
    plain = Mishaps(
        stream=turn.stream, protocol=turn.protocol, streamed=turn.streamed, fates=turn.fates
    )
    story = stories.Story(
        (
            stories.Turn(plain),
            stories.Expire(),
            stories.FailRefresh("cut"),
            stories.Turn(plain, 93),
            *map(stories.Wait, waits),
        )
    )
    assert stories.parse(str(story)) == story


@pytest.mark.parametrize(
    "text", ["story sleep", "story refresh never", "story turn text", "tale wait 1s"]
)
def test_what_is_no_story_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"story|mishaps|fate"):
        stories.parse(text)


def test_an_answer_that_is_nowhere_is_told() -> None:
    with pytest.raises(ValueError, match="no answer can be read"):
        named("nowhere.sse")
