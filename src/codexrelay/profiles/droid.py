"""Factory Droid (measured: 0.225.2). The numbers are the chapters of the wire notes of the clients.

- `user-agent: factory-cli/0.225.2`, beside the headers of the openai SDK for JavaScript (5).
- On Responses `prompt_cache_key` and `safety_identifier` are both the session's id (5). On Chat
  there is no id of any kind (0.10): the conversation's opening has to do, or a header that its
  user sets with `extraHeaders`. The prompt is the last of the opening's user messages; those before
  it hold reminders and are alike for all conversations in a folder (measured).
- On Chat with a model name that looks like OpenAI's (`codex-auto-review` does, too), it puts a user
  message "Error: Your custom model …" in front of all others (0.11); with `gpt-…` it also sends the
  header `openai-platform` (5). The message is Droid's and passes as it is; the hint says how to be
  rid of it.
- `extraArgs.codex_capabilities` reaches the body in both protocols (5).
- Its tools take no unknown arguments (5). No adaptation turns another tool's call into one of
  `Execute`: that requires a summary and a risk level, which nobody but the model can know.

It needs no capabilities of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.profiles.profile import CHOSEN, Armed, Profile, user_agent
from codexrelay.protocol.raw import get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.raw import Json, JsonObject

#: How the complaint begins; the name of the model follows.
_COMPLAINT: Final = 'Error: Your custom model "'
#: It stands behind the system message.
_OPENING: Final = 3


def _named(headers: Mapping[str, str]) -> bool:
    return "factory-cli" in user_agent(headers)


def _hints(headers: Mapping[str, str], body: JsonObject) -> tuple[str, ...]:
    opening = get_list(body, "messages")[:_OPENING]
    model = get_text(body, "model") or ""
    named = next(filter(None, map(_complained_of, opening)), None)
    if named is None and opening and "openai-platform" in headers:
        named = model
    if named is None:
        return ()
    return (
        f"Droid puts an error text in front of the prompt, because the model name {named!r} looks "
        "like OpenAI's while its provider is generic-chat-completion-api: set `models.aliases: "
        f'{{relay-model: {model}}}` here and `"model": "relay-model"` in Droid\'s settings, or '
        '`"provider": "openai"` there',
    )


def _complained_of(message: Json) -> str | None:
    """Return the name of the model that Droid complains of in `message`, None if it does not."""
    said = get_text(message, "content") if is_object(message) else None
    if said is None or not said.startswith(_COMPLAINT):
        return None
    return said.removeprefix(_COMPLAINT).partition('"')[0]


PROFILE: Final = Profile(
    name="droid",
    named=_named,
    armed=(Armed(names=frozenset({"Read", "LS", "Execute", "Grep", "Glob"})),),
    session_headers=(CHOSEN,),
    session_fields=("prompt_cache_key", "safety_identifier"),
    speaks_as_user=True,
    hints=_hints,
)
