"""Codex CLI over WebSockets: to the relay, from the relay to the backend, or both.

Rows of their own, so that a run can have them or not. They differ from the row `codex`, which is
HTTP on both sides, in what carries the turns and in nothing else.
"""

from __future__ import annotations

from typing import Final

import attrs

from harness.compat.drivers.codex_cli import PROGRAM, CodexCli
from harness.compat.drivers.driver import Driver, Variant

_ROW: Final = Variant(name=PROGRAM, protocol="responses", model="gpt-5.5", shows_thoughts=True)


class CodexOverWebSocket(CodexCli):
    """The same program, told that its provider speaks WebSocket, or with a relay that does."""

    name = "codex-ws"
    program = attrs.evolve(CodexCli.program, shared_with=PROGRAM)
    variants: tuple[Variant, ...] = (
        attrs.evolve(_ROW, name="codex-ws", websocket=True),
        attrs.evolve(_ROW, name="codex-ws-http", websocket=True, upstream="off"),
        # Plain HTTP to the relay.
        attrs.evolve(_ROW, name="codex-ws-up", upstream="on"),
    )


DRIVER: Final[Driver] = CodexOverWebSocket()
