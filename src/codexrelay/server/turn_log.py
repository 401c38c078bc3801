"""What is told of a turn: one log line when it has ended, and its lines in the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.server.journal import Journal, in_short, way_of
from codexrelay.sessions.state import NOTHING_SAVED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.relay.record import Record
    from codexrelay.relay.turn import Ending
    from codexrelay.server.lightening import Lightened
    from codexrelay.sessions.state import Savings

_log = structlog.get_logger("codexrelay.turns")


@attrs.frozen(kw_only=True)
class TurnLog:
    """Tells of one turn."""

    journal: Journal
    #: Unix seconds.
    wall_clock: Callable[[], float]
    request_id: str
    protocol: str
    model: str
    #: What the client calls itself.
    client: str | None
    #: What carries its side where that is no HTTP.
    client_over: str | None = None
    #: The session's id, of our making.
    session: str

    def waits(self, record: Record) -> None:
        """The turn begins to wait in line for an account."""
        names = ", ".join(name for name, _ in record.waiting_for)
        _log.info("turn waits", request=self.request_id, model=self.model, accounts=names)
        self._note({"state": "waiting"}, record, _model(record) or self.model)

    def ended(
        self, ending: Ending, counted: Counted, lightened: Lightened, sums: Savings | None
    ) -> None:
        """The turn has ended.

        `counted` is what its answer has cost, `lightened` the request of the leg that it was on;
        `sums` what was saved over the whole session, if the turn was served.
        """
        terminal = ending.terminal
        facts: dict[str, Json] = {
            "account": ending.account_id,
            "backend": ending.backend,
            "attempts": ending.attempts,
            "total_ms": _ms(ending.total_s),
            **_saved(lightened, sums),
        }
        if ending.first_output_s is not None:
            facts["first_output_ms"] = _ms(ending.first_output_s)
        if terminal is not None and terminal.response_id is not None:
            facts["response"] = terminal.response_id
        if terminal is not None and terminal.usage is not None:
            facts["input_tokens"] = counted.input_tokens
            facts["output_tokens"] = counted.output_tokens
        if ending.left:
            state = "client left"
        elif ending.fault is not None:
            state = "turn failed"
            facts |= _blame(ending.fault)
        else:
            state = f"turn {terminal.name}" if terminal is not None else "turn ended"
        self._tell(state, facts, ending.record)

    def answered(self, record: Record, *, account_id: str | None, fault: Fault | None) -> None:
        """A request whose answer is one body was answered."""
        facts = _sums_of(record, account_id)
        if fault is not None:
            facts |= _blame(fault)
        self._tell("turn completed" if fault is None else "turn failed", facts, record)

    def left(self, record: Record) -> None:
        """The client has left before such an answer was there."""
        self._tell("client left", _sums_of(record, None), record)

    def _tell(self, state: str, facts: dict[str, Json], record: Record) -> None:
        told: dict[str, Json] = {
            "request": self.request_id,
            "protocol": self.protocol,
            "model": (model := _model(record) or self.model),
            "client": self.client,
        }
        if self.client_over is not None:
            told["client_over"] = self.client_over
        log = _log.warning if state == "turn failed" else _log.info
        log(state, **told, **_carried(record), **facts, **_astray(record))
        self._note({"state": state, **facts}, record, model)

    def _note(self, facts: JsonObject, record: Record, model: str) -> None:
        now_unix_s = self.wall_clock()
        about: JsonObject = {
            "request": self.request_id,
            "at_unix_s": round(now_unix_s, 3),
            "protocol": self.protocol,
            "model": model,
            "client": self.client,
            "session": self.session,
        }
        if self.client_over is not None:
            about["client_over"] = self.client_over
        self.journal.note(about | facts | way_of(record, now_unix_s=now_unix_s))


@attrs.frozen
class Counted:
    """The tokens that a backend has counted; None where it did not."""

    input_tokens: int | None = None
    output_tokens: int | None = None


#: Where nobody has.
NOTHING_COUNTED: Final = Counted()


def counted_in(terminal: Terminal | None) -> Counted:
    """Return the tokens of an answer, in the words of Responses or of Chat."""
    if terminal is None or terminal.usage is None:
        return NOTHING_COUNTED
    usage = terminal.usage
    return Counted(
        _first_count(usage, "input_tokens", "prompt_tokens"),
        _first_count(usage, "output_tokens", "completion_tokens"),
    )


def _first_count(usage: JsonObject, *names: str) -> int | None:
    for name in names:
        if name in usage and type(count := usage[name]) is int:  # what is a `bool` counts nothing
            return count
    return None


def _saved(lightened: Lightened, sums: Savings | None) -> dict[str, Json]:
    """Return what was saved of the request, and of its session, where something was."""
    if lightened.compaction is lightened.compression is sums is NOTHING_SAVED:
        return {}
    facts: dict[str, Json] = {
        "compaction_saved_bytes": lightened.compaction.saved_bytes,
        "compaction_saved_tokens": lightened.compaction.saved_tokens,
        "compression_saved_bytes": lightened.compression.saved_bytes,
        "compression_saved_tokens": lightened.compression.saved_tokens,
    }
    if sums is not None and sums:
        facts["session_saved_bytes"] = sums.saved_bytes
        facts["session_saved_tokens"] = sums.saved_tokens
    return {name: saved for name, saved in facts.items() if saved}


def _model(record: Record) -> str | None:
    """Return the model that the turn was on last, None if no backend was asked."""
    return record.tried[-1].model if record.tried else None


def _carried(record: Record) -> dict[str, Json]:
    """Return what carried the attempt that served the turn, or the last one; nothing for HTTP."""
    if not record.tried:
        return {}
    last = record.tried[-1]
    if not last.served:
        last = next((tried for tried in reversed(record.tried) if tried.served), last)
    return {} if last.via in (None, "http") else {"via": last.via}


def program_of(headers: Mapping[str, str]) -> str | None:
    """Return what a client calls itself, None if it does not say. Header names are lower-case."""
    return headers.get("user-agent", "").partition(" ")[0] or None


def _sums_of(record: Record, account_id: str | None) -> dict[str, Json]:
    return {
        "account": account_id,
        "attempts": len(record.tried),
        "total_ms": _ms(trio.current_time() - record.began_at_s),
    }


def _astray(record: Record) -> dict[str, Json]:
    """Return the way of a turn that was not simply served at once; None for what is not to say."""
    went_well, stripped = True, 0
    for tried in record.tried:
        went_well = went_well and tried.served and tried.fault is None
        stripped += tried.reasoning_stripped if tried.served else 0
    return {
        "tried": None if went_well else in_short(record),
        "reasoning_stripped": stripped or None,
    }


def _blame(fault: Fault) -> dict[str, Json]:
    return {"fault": fault.kind.value, "why": fault.message}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
