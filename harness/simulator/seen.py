"""What a simulator saw of one request, for assertions and for the wire log (`--record`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    dump,
    get_list,
    get_number,
    get_text,
    is_object,
)

if TYPE_CHECKING:
    from pathlib import Path

Transport: TypeAlias = Literal["http", "ws"]
#: The method of a message that came over a WebSocket.
MESSAGE: Final = "WS"
#: Whoever points a signed-in agent straight at the simulator sends it a real token.
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_SECRET_FIELDS: Final = frozenset(
    {"token", "refresh_token", "access_token", "id_token", "subject_token", "code", "code_verifier"}
)
_MASK: Final = "(not kept)"
_PAIR: Final = 2


@attrs.define(eq=False, kw_only=True)
class Seen:
    """One request, and what became of its answer.

    A WebSocket's handshake is one with method `GET` and transport `ws`, whose answer ends with its
    head; each message that asks for something is one more, with method `WS` and the headers of the
    handshake.
    """

    #: `WS` for a message of a WebSocket.
    method: str
    #: With the query, as it stood in the request line.
    path: str
    #: Names in lower case, in the order of the wire.
    headers: list[tuple[str, str]] = attrs.field(repr=False)
    #: The parsed body (JSON or form); None if there was none or it could not be read.
    body: Json = attrs.field(repr=False)
    #: When it had arrived whole, on trio's clock.
    arrived_at_s: float
    #: Name of the simulated account whose bearer it carried.
    account: str | None = None
    #: Name of the fault that its answer was given.
    fault: str | None = None
    #: Name of the condition that its account was in.
    condition: str | None = None
    #: The status answered; None while nothing was, and for faults that answer nothing.
    status: int | None = None
    #: When the client closed before the answer had ended, on trio's clock; None if it did not.
    left_at_s: float | None = None
    #: Every step of the answer was performed, its fault included.
    finished: bool = False
    transport: Transport = "http"
    #: The number of the WebSocket that it opened or came over, from 1.
    socket: int | None = None
    #: The request that a message stands for: its body with everything before its input, as far as
    #: the connection knows that, and without what only messages have. None: it stands for itself.
    whole: JsonObject | None = attrs.field(default=None, repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of the header `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def is_handshake(self) -> bool:
        """Whether it asked for a WebSocket."""
        return self.transport == "ws" and self.method != MESSAGE

    @property
    def is_message(self) -> bool:
        """Whether it came over a WebSocket."""
        return self.method == MESSAGE

    @property
    def is_warm_up(self) -> bool:
        """Whether it asked for no output."""
        return self.is_message and is_object(self.body) and self.body.get("generate") is False

    @property
    def previous_response_id(self) -> str | None:
        """The response that it goes on from."""
        return get_text(self.body, "previous_response_id") if is_object(self.body) else None

    @property
    def request(self) -> Json:
        """The whole request: `whole` where a message stands for more than itself, else the body."""
        return self.body if self.whole is None else self.whole

    @property
    def ended(self) -> bool:
        """Nothing more will happen to this request."""
        return self.finished or self.left_at_s is not None

    def as_json(self) -> JsonObject:
        """Return everything but secrets."""
        return {
            "method": self.method,
            "path": self.path,
            "headers": [
                [name, _MASK if name in _SECRET_HEADERS else value] for name, value in self.headers
            ],
            "body": _masked(self.body) if "/oauth/" in self.path else self.body,
            "account": self.account,
            "fault": self.fault,
            "condition": self.condition,
            "status": self.status,
            "arrived_at_s": self.arrived_at_s,
            "left_at_s": self.left_at_s,
            "finished": self.finished,
            "transport": self.transport,
            "socket": self.socket,
            "whole": None if self.previous_response_id is None else self.whole,
        }


def seen_from(told: JsonObject, *, later_s: float = 0.0) -> Seen:
    """Return what `as_json` told of a request, secrets masked.

    `later_s` is added to its times: the two sides may be processes with clocks of their own.
    """
    left_at_s = get_number(told, "left_at_s")
    socket, whole = get_number(told, "socket"), told.get("whole")
    status = get_number(told, "status")
    return Seen(
        method=get_text(told, "method") or "",
        path=get_text(told, "path") or "",
        headers=[
            (str(pair[0]), str(pair[1]))
            for pair in get_list(told, "headers")
            if isinstance(pair, list) and len(pair) == _PAIR
        ],
        body=told.get("body"),
        arrived_at_s=(get_number(told, "arrived_at_s") or 0.0) + later_s,
        account=get_text(told, "account"),
        fault=get_text(told, "fault"),
        condition=get_text(told, "condition"),
        status=None if status is None else int(status),
        left_at_s=None if left_at_s is None else left_at_s + later_s,
        finished=told.get("finished") is True,
        transport="ws" if told.get("transport") == "ws" else "http",
        socket=None if socket is None else int(socket),
        whole=whole if is_object(whole) else None,
    )


@attrs.define(eq=False, kw_only=True)
class SeenSocket:
    """One WebSocket that was opened, and what became of it."""

    #: From 1, in the order of opening.
    number: int
    #: Name of the simulated account that opened it.
    account: str
    #: Its handshake.
    handshake: Seen = attrs.field(repr=False)
    #: When it was opened, on trio's clock.
    opened_at_s: float
    #: When it ended, on trio's clock; None while it is open.
    closed_at_s: float | None = None
    #: The code of the client's close frame, 1005 if it had none; None: there was no such frame.
    client_code: int | None = None
    #: The code of the simulator's own close frame, whoever was first; None: it has sent none.
    own_code: int | None = None
    #: Pings that the client sent.
    pings: int = 0
    #: Pongs that the client sent.
    pongs: int = 0
    #: Messages that asked for a response, warm-ups included.
    asked: int = 0
    #: Messages `response.processed`.
    processed: int = 0

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.closed_at_s is None

    def as_json(self) -> JsonObject:
        """Return everything but the handshake."""
        return {
            "number": self.number,
            "account": self.account,
            "opened_at_s": self.opened_at_s,
            "closed_at_s": self.closed_at_s,
            "client_code": self.client_code,
            "own_code": self.own_code,
            "pings": self.pings,
            "pongs": self.pongs,
            "asked": self.asked,
            "processed": self.processed,
        }


def append_to(wire_log: Path, seen: Seen) -> None:
    """Write a request that has ended as one more line of JSON, without secrets."""
    with wire_log.open("ab") as file:
        file.write(dump(seen.as_json()) + b"\n")


def _masked(body: Json) -> Json:
    if not is_object(body):
        return None
    return {key: _MASK if key in _SECRET_FIELDS else value for key, value in body.items()}
