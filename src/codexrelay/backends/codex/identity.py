"""Who the relay says it is towards the Codex backend: Codex CLI, in one deliberate place.

The owner's document asks for Codex CLI's request pattern. Values as Codex CLI 0.169 sends them
(measured); nothing of the host, its terminal or its user is in them.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.169.0"
ORIGINATOR: Final = "codex_exec"
USER_AGENT: Final = (
    f"{ORIGINATOR}/{VERSION} (Debian 12.0.0; x86_64) xterm ({ORIGINATOR}; {VERSION})"
)
BETA_FEATURES: Final = "remote_compaction_v2"
