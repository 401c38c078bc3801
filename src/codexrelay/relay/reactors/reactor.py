"""The seam of a tool-call reactor: one file beside this one, exposing one `REACTOR`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from codexrelay.protocol.call_filter import Decide, Keep, paragraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.call_filter import Decision, ToolCall


class ToolCallReactor(Protocol):
    """Sees the tool calls of all turns that have reactors.

    It keeps nothing of one turn for another, never waits (it is called between two bytes of an
    answer) and never fails: an exception of its own ends the turn.
    """

    @property
    def name(self) -> str:
        """Its name in the configuration and in what the client is told."""

    @property
    def may_veto(self) -> bool:
        """Whether `veto` is asked.

        If it is of any reactor of a turn, each call reaches the client only when it is whole,
        otherwise as it comes.
        """

    def observe(self, call: ToolCall) -> None:
        """Look at a call, as the model made it. All reactors see it before any is asked."""

    def veto(self, call: ToolCall) -> str | None:
        """Return in words why the client must not be given the call; None lets it pass."""


def deciding(reactors: Sequence[ToolCallReactor]) -> tuple[Decide, bool]:
    """Return what `reactors` decide together, and whether they only observe.

    The two arguments of `CallFilter`. Of several that refuse a call the first one is heard.
    """
    judges = [reactor for reactor in reactors if reactor.may_veto]

    def decide(call: ToolCall) -> Decision:
        for reactor in reactors:
            reactor.observe(call)
        for judge in judges:
            if (reason := judge.veto(call)) is not None:
                return paragraph(refusal(judge.name, call, reason))
        return Keep()

    return decide, not judges


def refusal(reactor: str, call: ToolCall, reason: str) -> str:
    """Return what the client, and with its next turn the model, reads instead of a call."""
    return (
        f"[The relay's reactor {reactor} refused the tool call {call.name} ({call.call_id}), "
        f"which was not run: {reason}]"
    )
