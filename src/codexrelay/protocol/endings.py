"""Whether a stream ended well: what its terminal event is called, and what its response says.

Some gateways call every end `response.completed` (or by its older name, `response.done`) and leave
it to the `status` inside to say that the answer was cut or failed. An answer that looks finished
and is not would be acted on, so that the worse of the two counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol import events, faults
from codexrelay.protocol.raw import get_object, get_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import JsonObject

#: Statuses of a response that has not ended well -> the event that would have said so.
_BY_STATUS: Final[Mapping[str, str]] = {
    "incomplete": events.INCOMPLETE,
    "failed": events.FAILED,
    "cancelled": events.FAILED,
}
_SEVERITY: Final[Mapping[str, int]] = {
    events.COMPLETED: 0,
    events.INCOMPLETE: 1,
    events.FAILED: 2,
    events.ERROR: 2,
}


def true_name(line: str, event: JsonObject) -> str:
    """Return what a terminal event is: completed, incomplete or failed (by event name), or `error`.

    `line` is a terminal name that its event line gave; a terminal `type` in its data has the last
    word. A status that says nothing bad (or nothing) changes neither.
    """
    told = get_text(event, "type") or ""
    name = told if told in events.TERMINAL else line
    name = events.COMPLETED if name == events.DONE else name
    status = get_text(get_object(event, "response"), "status")
    worse = _BY_STATUS.get(status or "")
    return name if worse is None else max(name, worse, key=_SEVERITY.__getitem__)


def without_response() -> Fault:
    """A terminal event that reports no failure holds no `response`: nothing shows that it is so."""
    return faults.broken("the backend ended the answer without its response object")
