"""Of a terminal event's name and its response's status, the worse counts."""

from __future__ import annotations

import pytest

from codexrelay.protocol import events
from codexrelay.protocol.endings import true_name


@pytest.mark.parametrize(
    ("line", "kind", "status", "name"),
    [
        ("response.completed", "response.completed", "completed", "response.completed"),
        ("response.completed", None, None, "response.completed"),
        ("response.completed", "response.completed", "in_progress", "response.completed"),
        ("response.completed", "response.completed", 7, "response.completed"),
        ("response.completed", "response.completed", "incomplete", "response.incomplete"),
        ("response.completed", "response.completed", "failed", "response.failed"),
        ("response.completed", "response.completed", "cancelled", "response.failed"),
        ("response.completed", "response.failed", None, "response.failed"),
        ("response.completed", "something.else", None, "response.completed"),
        ("response.done", "response.done", None, "response.completed"),
        ("response.done", "response.done", "incomplete", "response.incomplete"),
        ("response.done", None, "failed", "response.failed"),
        ("response.incomplete", "response.incomplete", "completed", "response.incomplete"),
        ("response.incomplete", "response.incomplete", "failed", "response.failed"),
        ("response.failed", "response.failed", "completed", "response.failed"),
        ("error", "server_error", None, "error"),
        ("error", "error", "failed", "error"),
    ],
)
def test_a_terminal_event_has_the_worse_of_its_names(
    line: str, kind: str | None, status: object, name: str
) -> None:
    assert true_name(line, {"type": kind, "response": {"status": status}}) == name


@pytest.mark.parametrize("line", sorted(events.TERMINAL))
def test_every_terminal_event_has_a_name_even_when_it_says_nothing(line: str) -> None:
    assert true_name(line, {}) in events.TERMINAL - {events.DONE}
