"""The four ways through a relay: what its client speaks, and what it speaks to the backend.

| bridge | client | backend | `websocket` |
| --- | --- | --- | --- |
| `sse-http` | HTTP | HTTP | `auto` |
| `sse-ws` | HTTP | WebSocket | `on` |
| `ws-http` | WebSocket | HTTP | `off` |
| `ws-ws` | WebSocket | WebSocket | `auto` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from codexrelay.protocol.raw import get_list, get_text, is_object, parse_object
from harness.proof.client import (
    ClientSocket,
    Heard,
    SocketHeard,
    ask,
    ask_over_socket,
    request_bytes,
)
from harness.proof.streams import RESPONSE_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.proof.asked import Asked
    from harness.proof.oracle import Protocol

Bridge: TypeAlias = Literal["sse-http", "sse-ws", "ws-http", "ws-ws"]
BRIDGES: Final[tuple[Bridge, ...]] = get_args(Bridge)
#: In the text of a case it is left out.
PLAIN: Final[Bridge] = "sse-http"
#: What a client may ask for over HTTP.
WAYS: Final[tuple[tuple[Protocol, bool], ...]] = (
    ("responses", True),
    ("chat", True),
    ("responses", False),
    ("chat", False),
)
Mode: TypeAlias = Literal["auto", "on", "off"]
_MODES: Final[dict[Bridge, Mode]] = {
    "sse-http": "auto",
    "sse-ws": "on",
    "ws-http": "off",
    "ws-ws": "auto",
}
#: All turns of the proof are of one conversation.
_SESSION: Final = "proof"


def mode_of(bridge: Bridge) -> Mode:
    """Return the setting with which a relay goes this way."""
    return _MODES[bridge]


def has_client_socket(bridge: Bridge) -> bool:
    """Tell whether its client speaks WebSocket."""
    return bridge.startswith("ws-")


def has_upstream_socket(bridge: Bridge) -> bool:
    """Tell whether its backend is spoken to over a WebSocket."""
    return bridge.endswith("-ws")


def ways_of(bridge: Bridge) -> tuple[tuple[Protocol, bool], ...]:
    """Return what a client may ask for on it."""
    return WAYS[:1] if has_client_socket(bridge) else WAYS


def shown(bridge: Bridge) -> str:
    """Return how a case's text begins."""
    return "" if bridge == PLAIN else f"{bridge} "


def split(text: str) -> tuple[Bridge, str]:
    """Return the bridge of a case's text, and the rest of that."""
    word, _, rest = text.partition(" ")
    found = next((bridge for bridge in BRIDGES if bridge == word), None)
    return (PLAIN, text) if found is None else (found, rest)


#: What the first turn of a conversation is answered, where another one follows (`streams`).
BEFORE: Final = "tool-call"
_CALL: Final[JsonObject] = {
    "type": "function_call",
    "call_id": "call_0",
    "name": "shell",
    "arguments": '{"cmd":"ls"}',
}


def asking(protocol: Protocol, *, streamed: bool, goes_on: bool = False) -> bytes:
    """Return a client's request over HTTP; one that goes on brings all that was said before."""
    body: JsonObject = {"model": "gpt-5.5", "stream": streamed, "prompt_cache_key": _SESSION}
    if protocol == "responses":
        return request_bytes("/v1/responses", body | {"input": [_HELLO, *_since() * goes_on]})
    function: JsonObject = {"name": _CALL["name"], "arguments": _CALL["arguments"]}
    call: JsonObject = {"id": "call_0", "type": "function", "function": function}
    messages: list[Json] = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "done"},
    ]
    told = messages if goes_on else messages[:1]
    return request_bytes("/v1/chat/completions", body | {"messages": told})


_HELLO: Final[JsonObject] = {"type": "message", "role": "user", "content": "hello"}
_DONE: Final[JsonObject] = {
    "type": "function_call_output",
    "call_id": "call_0",
    "output": "done",
}


def _since() -> list[Json]:
    return [_CALL, _DONE]


def creating(*, goes_on: bool = False) -> JsonObject:
    """Return a client's message over a WebSocket; one that goes on names the answer before it."""
    message: JsonObject = {
        "type": "response.create",
        "model": "gpt-5.5",
        "stream": True,
        "store": False,
        "prompt_cache_key": _SESSION,
    }
    if not goes_on:
        return message | {"input": [_HELLO]}
    return message | {"input": [_DONE], "previous_response_id": RESPONSE_ID}


def judge_bodies(asked: Sequence[Asked], answered: Sequence[Asked], *, goes_on: bool) -> list[str]:
    """Return what is wrong with what upstream was asked for a turn.

    `answered` are the requests that were answered whole before, on any connection.
    """
    problems = []
    for one in asked:
        body = parse_object(one.body)
        items = get_list(body, "input") or []
        previous = get_text(body, "previous_response_id")
        known = any(one.connection == before.connection for before in answered)
        if one.way == "http" and not body.keys().isdisjoint(_OF_MESSAGES):
            problems.append(f"a body over HTTP with {sorted(body.keys() & _OF_MESSAGES)}")
        if one.way == "message" and body.get("type") != "response.create":
            problems.append(f"a message of the type {body.get('type')}")
        if previous is not None and (previous != RESPONSE_ID or not known):
            problems.append(f"it goes on from {previous}, which this connection has not given")
        said = [item.get("type") for item in items if is_object(item)]
        wanted = ["message", *(["function_call", "function_call_output"] * goes_on)]
        if previous is not None:
            wanted = wanted[2:]
        if [kind for kind in said if kind is not None] != wanted:
            problems.append(f"upstream was told {said} instead of {wanted}")
    return problems


_OF_MESSAGES: Final = frozenset({"type", "generate", "previous_response_id"})


class Client:
    """A client of one bridge, on one connection: over HTTP for one turn, or a WebSocket for all."""

    def __init__(self, bridge: Bridge, stream: trio.SocketStream) -> None:
        self.socket = ClientSocket(stream) if has_client_socket(bridge) else None
        self.stream = stream

    async def ask(
        self,
        protocol: Protocol,
        *,
        streamed: bool,
        goes_on: bool = False,
        heard: Heard | None = None,
        reads_after_s: float = 0.0,
        lingers_s: float = 0.0,
    ) -> Heard:
        """Ask, and return what was heard, in `heard` where that is given.

        See `client` for the seconds. Over HTTP the connection is closed at the end.
        """
        heard = heard or self.listener()
        if self.socket is None:
            request = asking(protocol, streamed=streamed, goes_on=goes_on)
            await ask(self.stream, request, heard, reads_after_s=reads_after_s)
        else:
            assert isinstance(heard, SocketHeard)
            await ask_over_socket(
                self.socket,
                creating(goes_on=goes_on),
                heard,
                reads_after_s=reads_after_s,
                lingers_s=lingers_s,
            )
        return heard

    def listener(self) -> Heard:
        """Return what notes an answer."""
        return Heard() if self.socket is None else SocketHeard()

    async def leave(self) -> None:
        """Close the connection without a word."""
        await ClientSocket(self.stream).drop()
