"""The seam of a tool-call reactor: one file beside this one, exposing one `REACTOR`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from codexrelay.protocol.call_filter import Decide, Keep, Say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codexrelay.protocol.call_filter import Decision, ToolCall

_log: Final = structlog.get_logger("codexrelay.tool_calls")


class ToolCallReactor(Protocol):
    """Sees the tool calls of all turns that have reactors.

    It keeps nothing of one turn for another and never waits: it is called between two bytes of an
    answer. If it fails, its exception is logged; a call that it may refuse is refused then, any
    other passes.
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

    def decide(call: ToolCall) -> Decision:
        failures = [_asked(reactor, call, reactor.observe) for reactor in reactors]
        for reactor, failure in zip(reactors, failures, strict=True):
            if reactor.may_veto:
                # One that could not look at the call cannot judge it.
                words = failure or _asked(reactor, call, partial(_refused, reactor))
                if words is not None:
                    return Say(words, apart=True)
        return Keep()

    return decide, not any(reactor.may_veto for reactor in reactors)


def _refused(reactor: ToolCallReactor, call: ToolCall) -> str | None:
    reason = reactor.veto(call)
    return None if reason is None else refusal(reactor.name, call, reason)


def _asked(
    reactor: ToolCallReactor, call: ToolCall, ask: Callable[[ToolCall], str | None]
) -> str | None:
    """Return what `ask` says of the call, or that the reactor failed."""
    try:
        return ask(call)
    except Exception:  # the reactor border: an error would be a 500, which agents send again
        log = _log.bind(**structlog.contextvars.get_contextvars())
        log.exception("a reactor failed", reactor=reactor.name, call=call.call_id)
        return (
            f"[The relay's reactor {reactor.name} failed; the tool call {call.name} "
            f"({call.call_id}) was not shown and not run]"
        )


def refusal(reactor: str, call: ToolCall, reason: str) -> str:
    """Return what the client, and with its next turn the model, reads instead of a call."""
    return (
        f"[The relay's reactor {reactor} refused the tool call {call.name} ({call.call_id}), "
        f"which was not run: {reason}]"
    )
