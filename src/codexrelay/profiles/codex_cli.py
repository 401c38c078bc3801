"""Codex CLI and what is built on it (measured: 0.169.0).

The numbers are the chapters of the wire notes of the clients.

- `originator` and `user-agent` begin with `codex_exec`, `codex-tui`, `codex_cli_rs` or
  `codex_vscode`; `x-codex-window-id` and `x-codex-turn-metadata` come with every turn (3).
- `session-id` and `thread-id` name the session, in older versions `session_id` and
  `conversation_id`; `prompt_cache_key` is the same id (3). So is `x-client-request-id`, but
  its name promises nothing of the kind.
- It sends no `instructions`: its prompt is the first `developer` message (0.9).
- To lite models it sends no `tools`, but a first input item `additional_tools`, and the header
  `x-openai-internal-codex-responses-lite` (0.9, 3).

Its bodies have the backend's own shape, those for lite models included, and nothing is added to
them: `is_codex_shaped` in `protocol/responses_request.py` says which bodies these are.

It needs no capabilities of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.profiles.profile import CHOSEN, Armed, Profile, user_agent

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADERS: Final = frozenset(
    {
        "x-codex-turn-metadata",
        "x-codex-window-id",
        "x-openai-internal-codex-responses-lite",
    }
)


def _named(headers: Mapping[str, str]) -> bool:
    return (
        headers.get("originator", "").lower().startswith("codex")
        or user_agent(headers).startswith("codex")
        or not _HEADERS.isdisjoint(headers)
    )


PROFILE: Final = Profile(
    name="codex_cli",
    named=_named,
    armed=(
        Armed(names=frozenset({"exec_command", "write_stdin"})),
        # Of lite models.
        Armed(names=frozenset({"exec", "wait", "request_user_input"})),
    ),
    session_headers=(CHOSEN, "session-id", "session_id", "thread-id", "conversation_id"),
    session_fields=("prompt_cache_key",),
)
