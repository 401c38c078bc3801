"""The rules of one WebSocket: what it knows, and the answer to each of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.protocol import frames
from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import Json, dump, get_list, get_text, is_object, parse
from harness.simulator import checks, responses
from harness.simulator.arrival import Arrival, HttpRequest, RefusedError, arrived
from harness.simulator.backend import SimulatedBackend
from harness.simulator.faults import CONNECTION_LIMIT, FORGET
from harness.simulator.seen import MESSAGE, SeenSocket
from harness.simulator.steps import reply
from harness.simulator.wire import SWITCHED, handshake_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.seen import Seen
    from harness.simulator.steps import Answer, Headers

#: What the backend answers to a second message while it answers a first one is not known.
_BUSY: Final = error_object(
    "A response is already in progress on this connection.",
    type="invalid_request_error",
    code="response_in_progress",
)
_LIMIT: Final[JsonObject] = {
    "type": "invalid_request_error",
    "code": "websocket_connection_limit_reached",
    "message": "Responses websocket connection limit reached (60 minutes). Create a new websocket "
    "connection to continue.",
}


def opened(backend: SimulatedBackend, arrival: Arrival) -> SocketRules:
    """Return the rules of the WebSocket that a request, which is granted one, has just opened."""
    seen = arrival.seen
    seen.transport, seen.status, seen.finished = "ws", SWITCHED, True
    seen.socket = backend.new_socket()
    backend.seen.append(seen)
    socket = SeenSocket(
        number=seen.socket,
        account=seen.account or "",
        handshake=seen,
        opened_at_s=trio.current_time(),
    )
    backend.sockets.append(socket)
    return SocketRules(backend, arrival.http, socket)


@attrs.frozen
class _Past:
    """What a connection knows of a response, and of all before it."""

    items: list[Json] = attrs.field(factory=list)
    #: The size of what was said in the messages that led to it.
    items_bytes: int = 0


@attrs.define(eq=False)
class SocketRules:
    """Decides what is answered on one WebSocket."""

    backend: SimulatedBackend
    _handshake: HttpRequest
    #: The record of this WebSocket.
    socket: SeenSocket
    #: The responses that may be gone on from, by id; the latest is last.
    _known: dict[str, _Past] = attrs.field(factory=dict, init=False)
    #: It takes no more messages.
    _spent: bool = attrs.field(default=False, init=False)

    @property
    def head(self) -> Headers:
        """The headers that grant it (wire notes 7)."""
        asked = self._handshake
        hint = (asked.header("x-codex-routing-hint") or "").partition("model=")[2]
        given = asked.header("x-codex-turn-state")
        state = given or f"sim-{self.socket.account}-{self.backend.ids.text(16)}"
        return handshake_headers(
            asked.headers,
            (
                ("x-codex-turn-state", state),
                ("x-models-etag", self.backend.models_etag),
                *((("openai-model", hint),) if hint else ()),
                ("x-reasoning-included", "true"),
            ),
        )

    def cut_off(self) -> Seen | None:
        """Return the record of a message to be cut off while it arrives; None: let it arrive."""
        if not self.backend.cuts_off:
            return None
        arrival = self._arrived("")
        try:
            account = self.backend.identify(arrival)
        except RefusedError:
            return None
        arrival.seen.fault = self.backend.fault_while_arriving(account)
        if arrival.seen.fault is None:
            return None
        self.backend.seen.append(arrival.seen)
        return arrival.seen

    def answer(self, text: str, *, busy: bool = False) -> tuple[Seen, Answer] | None:
        """Return the record of a message, and the steps of its answer; None: it gets none.

        `busy`: another one is being answered.
        """
        if _type_of(text) == "response.processed":
            self.socket.processed += 1
            return None
        arrival = self._arrived(text)
        self.backend.seen.append(arrival.seen)
        if busy:
            return arrival.seen, reply(400, {"error": _BUSY})
        try:
            return arrival.seen, self._answer(arrival)
        except RefusedError as refused:
            return arrival.seen, reply(refused.status, refused.body)

    def _arrived(self, text: str) -> Arrival:
        """Return the message as a request with the headers of the handshake."""
        request = attrs.evolve(self._handshake, method=MESSAGE, body=text.encode())
        arrival = arrived(request, now_unix_s=self.backend.wall_clock())
        arrival.seen.transport, arrival.seen.socket = "ws", self.socket.number
        return arrival

    def _answer(self, arrival: Arrival) -> Answer:
        seen, body = arrival.seen, arrival.json_object()
        if (type_ := get_text(body, "type")) != "response.create":
            told = f"Unknown message type: {type_!r}"
            raise RefusedError(400, {"error": error_object(told, type="invalid_request_error")})
        self.socket.asked += 1
        # Should its turn fail, what it goes on from cannot be had again.
        response_id = seen.previous_response_id
        past = _Past() if response_id is None else self._known.pop(response_id, None)
        if past is not None:
            seen.whole = checks.whole_request(body, past.items)
        account = self.backend.identify(arrival)
        if not seen.is_warm_up:
            seen.fault = self.backend.connection_fault(account)
        age_s = trio.current_time() - self.socket.opened_at_s
        if seen.fault == CONNECTION_LIMIT or age_s >= self.backend.socket_life_s:
            self._spent = True
        if self._spent:
            return reply(400, {"error": {**_LIMIT}})
        if seen.fault == FORGET:
            self._known.clear()
        forgot = seen.fault
        if seen.whole is None or past is None or (forgot and response_id is not None):
            raise RefusedError(400, {"error": _not_found(response_id)})
        size_bytes = past.items_bytes + len(arrival.http.body)
        # Tools and the like stand in each message, and count once.
        items_bytes = past.items_bytes + len(dump(get_list(body, "input")))
        whole = responses.Whole(seen.whole, size_bytes, self._keep(seen.whole, items_bytes))
        answer = responses.message(self.backend, arrival, account, whole)
        seen.fault = seen.fault or forgot
        return answer

    def _keep(self, whole: JsonObject, items_bytes: int) -> Callable[[JsonObject], None]:
        def keep(response: JsonObject) -> None:
            items = [*get_list(whole, "input"), *get_list(response, "output")]
            self._known[get_text(response, "id") or ""] = _Past(items, items_bytes)
            while len(self._known) > self.backend.remembered:
                del self._known[next(iter(self._known))]

        return keep


def _not_found(response_id: str | None) -> JsonObject:
    return error_object(
        f"Previous response with id '{response_id}' not found.",
        type="invalid_request_error",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def error_message(status: int, headers: Headers, body: bytes) -> bytes:
    """Return the message that says what an answer with this status says over HTTP."""
    kept = {
        name: value for name, value in headers if name.startswith("x-") or name == "retry-after"
    }
    return frames.error(status, _error_in(body), kept)


def _error_in(body: bytes) -> JsonObject:
    try:
        parsed = parse(body)
    except ValueError:
        return error_object("The answer is no JSON", type="server_error")
    if not is_object(parsed):
        return error_object("The answer is no JSON object", type="server_error")
    if is_object(error := parsed.get("error")):
        return error
    detail = parsed.get("detail")
    if isinstance(detail, str):
        return error_object(detail, type="invalid_request_error")
    return {"message": dump(detail).decode(), **(detail if is_object(detail) else {})}


def _type_of(text: str) -> str:
    return frames.type_of(text.encode())
