"""Log: one line for each call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import structlog

if TYPE_CHECKING:
    from codexrelay.protocol.call_filter import ToolCall

_log = structlog.get_logger("codexrelay.tool_calls")


@attrs.frozen
class Log:
    """Names each call, and its request. Its arguments may hold secrets: only their size is told."""

    name: str = "log"
    may_veto: bool = False

    def observe(self, call: ToolCall) -> None:
        """Write the line."""
        _log.bind(**structlog.contextvars.get_contextvars()).info(
            "tool call", tool=call.name, call=call.call_id, arguments_characters=len(call.arguments)
        )

    def veto(self, call: ToolCall) -> str | None:  # noqa: ARG002
        """Let every call pass."""
        return None


REACTOR: Final = Log()
