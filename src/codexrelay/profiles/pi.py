"""pi (measured: 0.73.1). The numbers are the chapters of the wire notes of the clients.

- With `openai-completions` and `openai-responses` its `user-agent` is its library's, `OpenAI/JS …`:
  there its four tools give it away (5b).
- With `openai-codex-responses` it says `originator: pi` and `user-agent: pi (…)` (5b).
- On Responses `session_id` (underscore) and `prompt_cache_key` are the session's id (5b).
  `x-client-request-id` is the same id (captures of 0.73.1), but its name promises another one for
  each request, so it is not relied upon. On Chat there is no id: the opening has to do.
- A call of a tool that it does not have gets the output "Tool shell not found" (measured).
- A stream that ends cleanly without a terminal event counts as an empty answer (0.5): the relay
  lets none end like that.

It needs no capabilities of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.profiles.profile import CHOSEN, SHELL_AS_BASH, Armed, Profile, user_agent

if TYPE_CHECKING:
    from collections.abc import Mapping


def _named(headers: Mapping[str, str]) -> bool:
    return headers.get("originator") == "pi" or user_agent(headers).startswith(("pi (", "pi/"))


PROFILE: Final = Profile(
    name="pi",
    named=_named,
    armed=(Armed(names=frozenset({"read", "bash", "edit", "write"}), user_agent="openai/js"),),
    session_headers=(CHOSEN, "session_id"),
    session_fields=("prompt_cache_key",),
    adaptations={"shell_as_bash": SHELL_AS_BASH},
)
