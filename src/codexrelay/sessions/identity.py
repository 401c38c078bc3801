"""How a conversation is recognised, and where in it a request stands.

Real clients name their session in a header or in the body; two of them (Droid and pi in chat mode)
send nothing, so that the conversation's opening has to do (measured).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from codexrelay.profiles.generic import PROFILE as GENERIC
from codexrelay.protocol.raw import dump, get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.profiles.profile import Profile
    from codexrelay.protocol.raw import Json, JsonObject


@attrs.frozen(kw_only=True)
class SessionKey:
    """What identifies a session in this process."""

    #: As the client named it, else the fingerprint of the conversation's opening.
    text: str

    @property
    def cache_key(self) -> str:
        """A stable UUID-shaped id for upstream, for clients that bring no `prompt_cache_key`."""
        named = self.text.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(b"codexrelay session\0" + named).hexdigest()
        return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def session_key(
    headers: Mapping[str, str], body: JsonObject, profile: Profile = GENERIC
) -> SessionKey:
    """Return the key of the session that a request belongs to. Header names are lower-case.

    `profile` is the program's: it says where the program names its sessions.
    """
    for name in profile.session_headers:
        if value := headers.get(name):
            return SessionKey(text=value)
    for name in profile.session_fields:
        if value := get_text(body, name):
            return SessionKey(text=value)
    return SessionKey(text=_fingerprint(headers, body, profile))


def _fingerprint(headers: Mapping[str, str], body: JsonObject, profile: Profile) -> str:
    """Hash what stays the same while history is appended: system text and the first user message.

    Of a program that speaks as the user itself, all user messages before the first answer count.
    The program's name (not its version) keeps two programs with the same opening apart.
    """
    program = headers.get("user-agent", "").partition("/")[0]
    opening: list[Json] = [program, body.get("instructions")]
    asked = False
    for item in _items(body):
        role = item.get("role")
        if asked and role != "user":
            break
        if role in ("system", "developer", "user"):
            opening.append(item.get("content"))
        asked = asked or role == "user"
        if asked and not profile.speaks_as_user:
            break
    if not asked:
        opening.append(body.get("input"))
    return hashlib.sha256(dump(opening)).hexdigest()


@attrs.frozen
class UserTurn:
    """What a user asked once, and everything the model and its tools do about it."""

    #: The same for all requests of the turn, another one after the next user message.
    name: str
    #: This request begins it: the model has done nothing about the user's message yet.
    opens: bool


def user_turn(body: JsonObject) -> UserTurn:
    """Return the user's turn that a request belongs to.

    A tool follow-up and the client's own compaction in the middle of a turn belong to it.
    Source: the rule for `x-codex-turn-state` (wire notes 2.2).
    """
    count, last, opens = 0, body.get("input"), True
    for item in _items(body):
        if item.get("role") == "user":
            count, last, opens = count + 1, item.get("content"), True
        elif _is_an_answer(item):
            opens = False
    return UserTurn(hashlib.sha256(dump([count, last])).hexdigest(), opens)


def _is_an_answer(item: JsonObject) -> bool:
    """Whether an item is of the model's or a tool's making."""
    kind = get_text(item, "type") or ""
    return (
        item.get("role") in ("assistant", "tool", "function")
        or kind.endswith(("_call", "_output"))
        or kind == "reasoning"
    )


def _items(body: JsonObject) -> Iterator[JsonObject]:
    """Yield the messages of a Chat request, or the input items of a Responses request."""
    for item in get_list(body, "messages") or get_list(body, "input"):
        if is_object(item):
            yield item
