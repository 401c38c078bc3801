"""How a conversation is recognised, and where in it a request stands.

Real clients name their session in a header or in the body; two of them (Droid and pi in chat mode)
send nothing, so that the conversation's opening has to do (measured).
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.profiles.generic import PROFILE as GENERIC
from codexrelay.protocol.raw import dump, get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from codexrelay.profiles.profile import Profile
    from codexrelay.protocol.raw import Json, JsonObject

#: A longer name stands as its digest. Real ones have 36 characters.
MAX_NAME: Final = 200
#: So much of a client's own name is shown in logs.
MAX_SHOWN: Final = 80
#: Longest response id that is looked up. Real ones have about 60 characters.
MAX_RESPONSE_ID: Final = 256
#: What a program writes that has no name at hand: it would make one session of all that say so.
_NOBODY: Final = frozenset({"undefined", "null", "none", "nil", "[object object]"})
#: A client shows the same key each time; what it makes up costs no more memory than so many keys.
_KEPT: Final = 32
_BY_DIGEST, _BY_OPENING = "name:", "opening:"
_SYSTEM: Final = ("system", "developer")
#: Who the program works for, by its own word.
_END_USER: Final = ("safety_identifier", "user")
#: A user message of a program's own, such as `<environment_context>…</environment_context>`.
_TAGGED: Final = re.compile(r"\s*<.*>\s*", re.DOTALL)

#: What a `user-agent` begins with. The rest may change within a conversation, as pi's does from
#: `pi (browser)` to `pi (linux 6.1.0; x64)` (measured: 0.73.1).
_PROGRAM: Final = re.compile(r"[^/ (]*")

#: Returns the session whose latest answers include the one of that id, None if none does.
Lineage: TypeAlias = "Callable[[str], SessionKey | None]"


def _no_lineage(_response_id: str) -> None:
    return None


@attrs.frozen(kw_only=True)
class SessionKey:
    """What identifies a session. The same conversation has the same key, also after a restart."""

    #: As the client named it, else a digest; no two sessions have the same.
    text: str
    #: The client's own name for it, None where it gave none.
    name: str | None = attrs.field(default=None, eq=False)
    #: Digest of the client key to which the name belongs; empty where names are everybody's.
    scope: str = attrs.field(default="", eq=False)
    #: Digest of the client key that the session's first request came with.
    client: str = attrs.field(default="", eq=False, repr=False)

    @cached_property
    def cache_key(self) -> str:
        """A stable UUID-shaped id: for logs, for the disk, and for upstream.

        It is what upstream gets from clients that bring no `prompt_cache_key`, so that cache hits
        do not depend on the client's manners.
        """
        digest = _digest("codexrelay session", self.text)
        return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"

    @property
    def shown_name(self) -> str | None:
        """The client's own name as a log may show it: printable, and not long."""
        if self.name is None:
            return None
        shown = "".join(c if c.isprintable() else "?" for c in self.name[:MAX_SHOWN])
        return f"{shown}…" if len(self.name) > MAX_SHOWN else shown


def session_key(
    headers: Mapping[str, str],
    body: JsonObject,
    profile: Profile = GENERIC,
    *,
    scoped: bool = False,
    lineage: Lineage = _no_lineage,
) -> SessionKey:
    """Return the key of the session that a request belongs to. Header names are lower-case.

    A name that the client gives comes first, then the answer that it goes on from, then a
    fingerprint of the conversation's opening.

    Args:
        headers: the request's.
        body: the request's.
        profile: the program's; it says where the program names its sessions.
        scoped: the relay knows its clients apart by their keys, so that two clients may use one
            name for two sessions. A fingerprint tells them apart in any case.
        lineage: finds the session of an earlier answer.

    Raises:
        ValueError: the opening is nested too deeply.
    """
    client = client_of(headers)
    scope = client if scoped else ""
    if (name := _name(headers, body, profile)) is not None:
        return SessionKey(text=_text_of(name, scope), name=name, scope=scope, client=client)
    previous = _previous(body)
    if previous is not None:
        found = lineage(previous)
        if found is not None and found.scope == scope:
            return found
    return SessionKey(
        text=_BY_OPENING + _fingerprint(headers, body, profile, client, previous),
        scope=scope,
        client=client,
    )


def _name(headers: Mapping[str, str], body: JsonObject, profile: Profile) -> str | None:
    """Return the client's name for its session. What names nothing counts as left out."""
    for header in profile.session_headers:
        if header in headers and (name := _naming(headers[header])):
            return name
    for field in profile.session_fields:
        if field in body and (name := _naming(get_text(body, field) or "")):
            return name
    return None


def _naming(text: str) -> str | None:
    """Return the name that a text gives, None if it names nothing."""
    name = text.strip()
    return name if name and name.lower() not in _NOBODY else None


def _text_of(name: str, scope: str) -> str:
    plain = len(name) <= MAX_NAME and name.isprintable()
    if not scope and plain and not name.startswith((_BY_DIGEST, _BY_OPENING)):
        return name
    return _BY_DIGEST + _digest(scope, name)


def client_of(headers: Mapping[str, str]) -> str:
    """Return a digest of the key that the client shows, of nothing if it shows none."""
    return _digest_of_key(headers.get("authorization", ""), headers.get("x-api-key", ""))


@lru_cache(maxsize=_KEPT)
def _digest_of_key(authorization: str, api_key: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    shown = token.strip() if scheme.lower() == "bearer" else f"{scheme} {token}".strip()
    return _digest("client key", shown or api_key.strip())


def _previous(body: JsonObject) -> str | None:
    if "previous_response_id" not in body:
        return None
    previous = (get_text(body, "previous_response_id") or "").strip()
    return previous if 0 < len(previous) <= MAX_RESPONSE_ID else None


def _digest(*texts: str) -> str:
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()


def _fingerprint(
    headers: Mapping[str, str],
    body: JsonObject,
    profile: Profile,
    client: str,
    previous: str | None,
) -> str:
    """Hash what stays the same while history is appended: system text and the user's first words.

    The client's key, its program (not its version) and its end user keep conversations apart that
    begin alike. A request that goes on from an answer which nobody here remembers begins a session
    of its own, whatever it holds.
    """
    program = _PROGRAM.match(headers.get("user-agent", ""))
    end_user: list[Json] = [get_text(body, field) if field in body else None for field in _END_USER]
    told: list[Json] = [client, program and program[0], end_user, previous]
    told.append(_opening(body, profile))
    return hashlib.sha256(dump(told)).hexdigest()


def _opening(body: JsonObject, profile: Profile) -> list[Json]:
    """Return who says what, up to the user's first words.

    Programs put user messages of their own before them: those in tags, and with `speaks_as_user`
    any others, whose end is the first answer where no tags tell it. Only texts count of what can be
    written in two ways, so that a conversation may go on in the other protocol.
    """
    opening: list[Json] = []
    if "instructions" in body and (told := _words(body["instructions"])):
        opening.append(["system", *told])
    asked = tagged = False
    items = _items(body)
    for item in items:
        if not isinstance(item, dict):
            continue
        if asked and _is_an_answer(item):
            break
        role, words = item.get("role"), _words(item.get("content"))
        if not words:
            continue
        opening.append(["system" if role in _SYSTEM else role, *words])
        if role == "user":
            asked = True
            if all(isinstance(word, str) and _TAGGED.fullmatch(word) for word in words):
                tagged = True
            elif tagged or not profile.speaks_as_user:
                break
    if not asked:
        # Nobody has said anything: what stands first stays there.
        opening += [item for item in items if isinstance(item, dict)][:1]
    return opening


def _words(content: Json) -> list[Json]:
    """Return the texts of a message's content, and its other parts as they are."""
    if isinstance(content, str):
        return [content] if content else []
    words: list[Json] = []
    for part in content if isinstance(content, list) else []:
        text = get_text(part, "text") if is_object(part) else None
        if text is None and is_object(part):
            # A mark of where a cache ends, which moves from turn to turn.
            words.append({key: value for key, value in part.items() if key != "cache_control"})
        elif text != "":
            words.append(part if text is None else text)
    return words


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
    count, opens = 0, True
    last: Json = None
    for item in _items(body):
        if not isinstance(item, dict):
            continue
        if item.get("role") == "user":
            count, last, opens = count + 1, item.get("content"), True
        elif opens and _is_an_answer(item):
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


def _items(body: JsonObject) -> Sequence[Json]:
    """Return the messages of a Chat request, or the input items of a Responses request.

    What is no object among them says nothing.
    """
    if "messages" in body and (messages := get_list(body, "messages")):
        return messages
    said = body.get("input")
    if isinstance(said, str):
        return ({"role": "user", "content": said},)
    return said if isinstance(said, list) else ()
