"""A client's WebSocket that was recorded, answered again by a relay on the cassette."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from harness.golden.again import answer_again
from harness.golden.judging import differences
from harness.proof.wires import UNSUPPORTED
from harness.recording.draft import turns_in
from harness.replay.inside import websocket_mode
from tests.fakes.client_socket import response_id, talking
from tests.fakes.recorded import recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.cassettes.model import Cassette, Frame, Interaction

pytestmark = pytest.mark.skipif(UNSUPPORTED is not None, reason=UNSUPPORTED or "")


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Cassette:
    return trio.run(recorded_in, tmp_path_factory.mktemp("recorded"))


async def recorded_in(folder: Path) -> Cassette:
    """Return a warm-up and two turns, one going on from the other, and then the client closes."""
    async with recording(folder) as recorded:
        async with talking(recorded.relay) as talk:
            warm = await talk.turn([], generate=False)
            first = await talk.turn("hello", previous_response_id=response_id(warm))
            await talk.turn("and now?", previous_response_id=response_id(first))
        await recorded.relay.until_at_rest()
    return recorded.cassette


def socket_of(cassette: Cassette) -> Interaction:
    (one,) = [one for one in cassette.track("client") if one.response.status == 101]
    return one


def with_frames(cassette: Cassette, change: Callable[[Frame], Frame]) -> Cassette:
    """Return the cassette with other messages at the client's side."""
    one = socket_of(cassette)
    frames = tuple(map(change, one.response.stream.frames))
    stream = attrs.evolve(one.response.stream, frames=frames)
    changed = attrs.evolve(one, response=attrs.evolve(one.response, stream=stream))
    return attrs.evolve(
        cassette,
        interactions=tuple(
            changed if other.number == one.number else other for other in cassette.interactions
        ),
    )


def test_a_relay_says_again_what_it_said(conversation: Cassette) -> None:
    assert differences(conversation) == ()
    assert websocket_mode(conversation.interactions) is None
    assert turns_in(socket_of(conversation)) == 2


def test_what_was_said_is_told_with_the_answers(conversation: Cassette) -> None:
    one = socket_of(conversation)

    again = answer_again(conversation).answers[one.number]

    kinds = [(frame.direction, frame.kind) for frame in one.response.stream.frames]
    assert [(frame.direction, frame.kind) for frame in again.response.stream.frames] == kinds
    assert again.response.stream.end == one.response.stream.end


def test_a_word_that_was_recorded_otherwise_is_noticed(conversation: Cassette) -> None:
    def otherwise(frame: Frame) -> Frame:
        return attrs.evolve(frame, data=frame.data.replace(b"simulated", b"Simulated"))

    found = differences(with_frames(conversation, otherwise))

    assert any("the messages differ from number" in told for told in found), found


def test_a_message_that_the_relay_sends_otherwise_is_noticed(conversation: Cassette) -> None:
    def otherwise(frame: Frame) -> Frame:
        if frame.direction == "in":
            return frame
        return attrs.evolve(frame, data=frame.data.replace(b"and now?", b"and then?"))

    found = differences(with_frames(conversation, otherwise))

    assert any("is not the recorded one" in told for told in found), found


def test_a_recording_tells_how_its_relay_used_websockets(conversation: Cassette) -> None:
    client, upstream = conversation.track("client"), conversation.track("upstream")
    assert websocket_mode(client) == "off"
    assert websocket_mode(upstream) == "on"
    assert websocket_mode(()) is None
