"""What varies from run to run in a request, and the stand-ins that take its place.

Ids, keys of sessions, moments, ports and folders of one run say nothing about what was asked. Each
is replaced by a stand-in that is numbered by the order of first appearance within the request: so
two requests are the same only if the same things belong together in both, such as a call and its
output.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import is_object, parse

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

#: The key under which JSON stands that was written into a text.
WRITTEN: Final = "{}"

#: Keys whose texts stand for somebody or something of one run, whatever they look like.
_KEYS: Final = frozenset(
    {
        "call_id",
        "conversation_id",
        "encrypted_content",
        "installation_id",
        "previous_response_id",
        "prompt_cache_key",
        "response_id",
        "safety_identifier",
        "session_id",
        "thread_id",
        "tool_call_id",
        "turn_id",
        "user_id",
    }
)
#: Objects that a program tells of itself in; all their ids vary.
_OF_ITSELF: Final = frozenset({"client_metadata", "metadata", "x-codex-turn-metadata"})
_ID_ENDINGS: Final = ("_id", "-id")
#: Keys and headers that say when a limit ends, as a moment or as seconds from now; and when a
#: program has begun a request over a WebSocket.
_RESET: Final = re.compile(
    r"(?:^|[_-])resets?[_-](?:at|in|after)(?:[_-]seconds)?\Z|-request-start-ms\Z"
)
#: Keys whose texts are meant for people and models: JSON in them is a text too.
_TEXTS: Final = frozenset(
    {"content", "definition", "description", "instructions", "output", "text", "title"}
)
#: Numbers that are moments, as Unix seconds or milliseconds: from 2017 to 2100.
_MOMENTS: Final = ((1.5e9, 4.1e9), (1.5e12, 4.1e12))

_UUID: Final = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_DAY: Final = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? "
_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_NAME: Final = r"[^/\\\s\"'`<>:;,()]+"
_WINDOWS_HOME: Final = rf"[A-Z]:\\{{1,2}}Users\\{{1,2}}{_NAME}"
#: By kind: what it looks like, and what must be in a text for it to be there. In order, since the
#: first that fits counts; of a long text most are ruled out by the second, which is fast.
_KINDS: Final = {
    kind: (f"(?P<{kind}>{looks})", re.compile(hint))
    for kind, looks, hint in (
        ("uuid", rf"(?<![0-9a-fA-F]){_UUID}", r"-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-"),
        ("encrypted", r"gAAAA[\w=-]{16,}", "gAAAA"),
        (
            "token",
            r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|\bsk-[\w-]{16,}|\brt[_.][\w.-]{16,}",
            r"eyJ|sk-|rt[_.]",
        ),
        (
            "id",
            r"\b(?:call|chatcmpl|cmp|conv|ctco?|fco?|ig|item|msg|prt|reason|req|resp|rs|ses|thread"
            rf"|toolu?|turn|ws)[_-](?:{_UUID}|(?=\w*\d)\w{{8,}}\b)",
            r"[_-][0-9A-Za-z]{8}",
        ),
        ("email", r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "@"),
        ("port", r"(?:127\.0\.0\.1|localhost|\[::1\]):\d+", r":\d"),
        (
            "temp",
            rf"/var/folders/{_NAME}/{_NAME}/T/{_NAME}|/tmp/{_NAME}|{_WINDOWS_HOME}"
            rf"\\{{1,2}}AppData\\{{1,2}}Local\\{{1,2}}Temp\\{{1,2}}{_NAME}",
            r"/folders/|/tmp/|Temp",
        ),
        ("home", rf"(?:/home|/Users)/{_NAME}|{_WINDOWS_HOME}", r"/home/|Users"),
        (
            "moment",
            r"\b\d{4}[-/]\d\d[-/]\d\d"
            r"(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
            rf"|\b(?:{_DAY})?{_MONTH} \d{{1,2}},? \d{{4}}\b"
            rf"|\b(?:{_DAY})?\d{{1,2}} {_MONTH} \d{{4}}\b"
            r"|\b\d\d:\d\d:\d\d\b",
            r"\d[-/:]\d\d| \d{4}",
        ),
        ("spent", r"\b\d+(?:\.\d+)? ?(?:seconds|secs|ms|s)\b", r"\d ?(?:s|ms)"),
        ("chunk", r"(?<=Chunk ID: )\w+", "Chunk ID: "),
    )
}
#: What all of them have one of. Most texts are names, and have none.
_PERHAPS: Final = re.compile(r"[\d@/\\]|gAAAA|eyJ|sk-|rt[_.]|Chunk ID: ")


@functools.cache
def _varying(kinds: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_KINDS[kind][0] for kind in kinds))


#: What has no identity of its own: one day is as good as another.
_ANY: Final = frozenset({"moment", "port", "spent", "chunk"})


@attrs.define(eq=False)
class StandIns:
    """Gives the same thing the same stand-in wherever it stands in one request."""

    _known: dict[str, str] = attrs.field(factory=dict, init=False)

    @property
    def replaced(self) -> tuple[str, ...]:
        """What has a stand-in with a number, in that order."""
        return tuple(self._known)

    def text(self, text: str) -> str:
        """Return `text` with stand-ins for what varies."""
        if _PERHAPS.search(text) is None:
            return text
        kinds = tuple(kind for kind, (_, hint) in _KINDS.items() if hint.search(text))
        return _varying(kinds).sub(self._replaced, text) if kinds else text

    def value(self, value: Json, *, key: str = "", of_itself: bool = False) -> Json:
        """Return a copy of `value` with stand-ins, its keys in order.

        `key` is where it stands; `of_itself` says that it is what a program tells of itself.
        """
        match value:
            case bool() | None:
                return value
            case int() | float() | str() if _RESET.search(key):
                return "<moment>"
            case dict():
                return self._object(value, of_itself=of_itself or key in _OF_ITSELF)
            case list():
                return [self.value(inner, key=key, of_itself=of_itself) for inner in value]
            case str():
                return self._told(value, key=key, of_itself=of_itself or key in _OF_ITSELF)
            case int() | float() if any(low <= value < high for low, high in _MOMENTS):
                return "<moment>"
            case _:
                return value

    def _object(self, value: JsonObject, *, of_itself: bool) -> JsonObject:
        # In order of the keys, not of their coming: some programs shuffle them.
        return {
            self.text(key): self.value(value[key], key=key, of_itself=of_itself)
            for key in sorted(value)
        }

    def _told(self, text: str, *, key: str, of_itself: bool) -> Json:
        if text.startswith("{") and key not in _TEXTS and is_object(inner := _parsed(text)):
            return {WRITTEN: self._object(inner, of_itself=of_itself)}
        replaced = self.text(text)
        whole = key in _KEYS or (of_itself and key.endswith(_ID_ENDINGS))
        return self._stand_in("id", text) if whole and text and replaced == text else replaced

    def _replaced(self, found: re.Match[str]) -> str:
        kind = found.lastgroup or "id"
        return f"<{kind}>" if kind in _ANY else self._stand_in(kind, found[0])

    def _stand_in(self, kind: str, value: str) -> str:
        known = self._known
        if value not in known:
            known[value] = f"<{kind} {len(known) + 1}>"
        return known[value]


def _parsed(text: str) -> Json:
    try:
        return parse(text)
    except ValueError:
        return None
