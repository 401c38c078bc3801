"""What a simulator saw of one request, for assertions and for the wire log (`--record`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import Json, dump, get_list, get_number, get_text, is_object

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject

#: Whoever points a signed-in agent straight at the simulator sends it a real token.
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_SECRET_FIELDS: Final = frozenset(
    {"token", "refresh_token", "access_token", "id_token", "subject_token", "code", "code_verifier"}
)
_MASK: Final = "(not kept)"
_PAIR: Final = 2


@attrs.define(eq=False, kw_only=True)
class Seen:
    """One request, and what became of its answer."""

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

    def header(self, name: str) -> str | None:
        """Return the first value of the header `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

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
        }


def seen_from(told: JsonObject, *, later_s: float = 0.0) -> Seen:
    """Return what `as_json` told of a request, secrets masked.

    `later_s` is added to its times: the two sides may be processes with clocks of their own.
    """
    left_at_s = get_number(told, "left_at_s")
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
    )


def append_to(wire_log: Path, seen: Seen) -> None:
    """Write a request that has ended as one more line of JSON, without secrets."""
    with wire_log.open("ab") as file:
        file.write(dump(seen.as_json()) + b"\n")


def _masked(body: Json) -> Json:
    if not is_object(body):
        return None
    return {key: _MASK if key in _SECRET_FIELDS else value for key, value in body.items()}
