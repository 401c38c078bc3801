"""OpenCode (measured: 1.18.33). The numbers are the chapters of the wire notes of the clients.

- `user-agent: opencode/1.18.33 ai-sdk/provider-utils/… runtime/bun/…` in both protocols (4).
- `x-session-id` and `x-session-affinity` are `ses_…`, the same for all of a session's requests (4);
  on Responses `prompt_cache_key` too, except in the title request (4).
- Providers whose id begins with `opencode` say it in `x-opencode-session` (4, from its strings).
- A new session sends two requests at once: one for a title (no tools, low effort, to the
  `small_model`), and the task (4). The title request belongs to the session, with a user turn of
  its own (two user messages instead of one): what upstream says of the one never goes out with the
  other.
- The provider for Chat sends what a model's `options` have in `codex_capabilities`; the one for
  Responses drops it, and a header has to say it (4).
- On Responses it asks again for ever if `response.completed` has no `usage` (0.1): the relay puts
  one in where upstream left it out (`protocol/responses_object.py`).
- A call of a tool that it does not have becomes one of its own tool `invalid`, whose output tells
  the model which tools there are (measured): `shell_as_bash` saves that round.
- Its `apply_patch` is a function with `patchText`, not Codex's custom tool (4).

It needs no capabilities of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.profiles.profile import (
    CHOSEN,
    SHELL_AS_BASH,
    Armed,
    Profile,
    user_agent,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def _named(headers: Mapping[str, str]) -> bool:
    return "opencode" in user_agent(headers) or headers.get("x-session-affinity", "").startswith(
        "ses_"
    )


PROFILE: Final = Profile(
    name="opencode",
    named=_named,
    armed=(Armed(names=frozenset({"bash", "glob", "grep", "read", "todowrite", "webfetch"})),),
    session_headers=(CHOSEN, "x-session-affinity", "x-opencode-session"),
    session_fields=("prompt_cache_key",),
    adaptations={"shell_as_bash": SHELL_AS_BASH},
)
