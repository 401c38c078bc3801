"""A client's message as a frame, read by wsproto as a server would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, Opcode

from codexrelay.backends.transports.client_frames import message_frame


def read(frame: bytes) -> tuple[Opcode, bytes]:
    """Read one frame, which must be a message and all there is."""
    decoder = FrameDecoder(client=False)
    decoder.receive_bytes(frame)
    first = decoder.process_buffer()
    assert first is not None
    assert first.message_finished
    assert decoder.process_buffer() is None
    return first.opcode, bytes(first.payload)


@given(st.text(max_size=300) | st.sampled_from(["x" * 65_535, "y" * 65_536, "é" * 40_000]))
def test_a_text_is_read_as_it_was_sent(text: str) -> None:
    assert read(message_frame(text)) == (Opcode.TEXT, text.encode())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 16383, 16384, 16385, 65535, 65536, 200_001])
def test_a_message_of_any_length_is_read_as_it_was_sent(size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    assert read(message_frame(data)) == (Opcode.BINARY, data)


def test_no_two_frames_have_the_same_mask() -> None:
    assert len({message_frame("the same")[2:6] for _ in range(20)}) > 1
