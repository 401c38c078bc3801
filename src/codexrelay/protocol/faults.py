"""What upstream or the network did wrong, classified: a value, never an exception.

Two families of error bodies exist (wire notes 2.4): `{"detail": …}` from the front end and
`{"error": {message, type, code, param}}` from the Responses service; besides them web pages of the
edge, and errors inside a 200 stream (`response.failed`, `error`). All become a `Fault`, which keeps
upstream's own message, type, code and further keys.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import in_words
from codexrelay.protocol import too_long
from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import (
    JsonObject,
    get_number,
    get_object,
    get_text,
    is_object,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Json


#: Code of a turn that its client has interrupted.
INTERRUPTED: Final = "interrupted"


class FaultKind(enum.Enum):
    """Whose fault it was, and so what may follow."""

    #: 401: the bearer is not accepted (any more).
    UNAUTHORIZED = "unauthorized"
    #: 403: the account or the edge forbids it.
    FORBIDDEN = "forbidden"
    #: 429 `usage_limit_reached` and its kin: the account's quota is spent until a reset.
    LIMITED = "limited"
    #: The account's plan or workspace has no Codex.
    UNUSABLE = "unusable"
    #: 429 of the short kind: too fast, not too much.
    THROTTLED = "throttled"
    #: 5xx: the backend cannot at the moment; nobody's fault here.
    OVERLOADED = "overloaded"
    #: The connection failed, ended early or carried something that is no answer.
    BROKEN = "broken"
    #: A budget ran out.
    SLOW = "slow"
    #: The request holds encrypted content that the account did not make.
    UNREADABLE = "unreadable"
    #: The account's plan does not offer the model.
    UNSUPPORTED = "unsupported"
    #: The request itself is at fault; every account would answer the same.
    REFUSED = "refused"


class Reached(enum.Enum):
    """How far an attempt's request got before its fault: it decides what a repeat may cost."""

    #: No byte of it has left this process, so nobody can have begun to work on it.
    NOT_SENT = "not sent"
    #: All of it was handed to the system. Whether the backend works on it, it alone knows.
    SENT = "sent"
    #: The connection broke while it was being sent.
    UNKNOWN = "unknown"


_USAGE_LIMITS: Final = frozenset(
    {
        "usage_limit_reached",
        "insufficient_quota",
        "organization_usage_limit_exceeded",
        "organization_spend_limit_exceeded",
        "workspace_owner_credits_depleted",
        "workspace_member_credits_depleted",
        "workspace_owner_usage_limit_reached",
        "workspace_member_usage_limit_reached",
    }
)
_UNUSABLE: Final = frozenset({"usage_not_included", "deactivated_workspace"})
#: For codes that come without words.
_WORDS: Final[Mapping[str, str]] = {
    "deactivated_workspace": "the workspace of this account is deactivated",
    "usage_not_included": "the plan of this account does not include Codex",
}
_OVERLOADS: Final = frozenset({"server_is_overloaded", "slow_down"})
_THROTTLES: Final = frozenset({"rate_limit_exceeded", "rate_limit_error"})
_UNAUTHORIZED: Final = frozenset({"token_expired", "token_invalidated", "invalid_api_key"})
#: Codes of failures inside a stream that are the request's own fault (wire notes 3).
_REFUSALS: Final = frozenset(
    {
        "context_length_exceeded",
        "invalid_prompt",
        "invalid_request_error",
        "previous_response_not_found",
        "cyber_policy",
        "bio_policy",
        "misalignment_policy_violation",
        "image_generation_user_error",
    }
)

_STATUS: Final[Mapping[FaultKind, int]] = {
    FaultKind.UNAUTHORIZED: 401,
    FaultKind.FORBIDDEN: 403,
    FaultKind.LIMITED: 429,
    FaultKind.UNUSABLE: 403,
    FaultKind.THROTTLED: 429,
    FaultKind.OVERLOADED: 503,
    FaultKind.BROKEN: 502,
    FaultKind.SLOW: 504,
    FaultKind.UNREADABLE: 400,
    FaultKind.UNSUPPORTED: 400,
    FaultKind.REFUSED: 400,
}
_TYPE: Final[Mapping[FaultKind, str]] = {
    FaultKind.UNAUTHORIZED: "authentication_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.LIMITED: "usage_limit_reached",
    FaultKind.UNUSABLE: "usage_not_included",
    FaultKind.THROTTLED: "rate_limit_error",
    FaultKind.OVERLOADED: "service_unavailable_error",
    # OpenCode tries again when it reads `server_error`, and gives up on other words (measured).
    FaultKind.BROKEN: "server_error",
    FaultKind.SLOW: "server_error",
    FaultKind.UNREADABLE: "invalid_request_error",
    FaultKind.UNSUPPORTED: "invalid_request_error",
    FaultKind.REFUSED: "invalid_request_error",
}

#: Used when upstream limits an account without saying until when.
DEFAULT_COOL_DOWN_S: Final = 30.0
#: How the codes begin that are made here.
_OUR_CODES: Final = ("upstream_", "relay_")
#: Windows last a week; a reset or a wait that is further away than this is no time at all.
_LONGEST_S: Final = 100 * 24 * 3600.0
#: A quoted part of a body that is no JSON, in messages.
_EXCERPT_CHARACTERS: Final = 200
# "Please try again in 11.054s", also "250ms" and "3 seconds"; Codex CLI reads the same words.
_TRY_AGAIN: Final = re.compile(
    r"try again in\s+([\d.]+)\s*(ms|s(?:ec(?:ond)?s?)?\b)", re.IGNORECASE
)
#: The front end's words, which carry no code. Said of unknown models too, by every account then.
_NOT_OFFERED: Final = "model is not supported when using codex"
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


@attrs.frozen(kw_only=True)
class Fault:
    """What went wrong with one attempt."""

    kind: FaultKind
    #: HTTP status towards the client when nothing has been sent yet.
    status: int
    #: OpenAI error object: message, type, code, param, and whatever else upstream gave.
    error: JsonObject
    #: When the limited account may be tried again, Unix seconds; None when upstream did not say.
    resets_at_unix_s: float | None = None
    #: Of upstream's refusal, lower-case names; empty when it came in a stream or is not upstream's.
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    #: Seconds upstream asked to wait (`Retry-After`, or words in the message).
    retry_after_s: float | None = None
    #: How far the request got; None for what is no attempt's fault.
    reached: Reached | None = None

    @property
    def message(self) -> str:
        """Upstream's own words, or ours where it gave none."""
        return get_text(self.error, "message") or ""

    @property
    def type(self) -> str:
        """Upstream's error type, verbatim, or ours where it gave none."""
        return get_text(self.error, "type") or self.kind.value

    @property
    def code(self) -> str | None:
        """Upstream's error code, verbatim."""
        return get_text(self.error, "code")

    @property
    def plan_type(self) -> str | None:
        """The plan whose quota is spent, where upstream names it."""
        return get_text(self.error, "plan_type")

    @property
    def is_ours(self) -> bool:
        """Whether the relay found the fault itself; otherwise `code` is upstream's own."""
        return (self.code or "").startswith(_OUR_CODES)


def from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, now_unix_s: float
) -> Fault:
    """Classify an answer that is not 2xx. `headers` has lower-case names."""
    if not 400 <= status < 600:
        return broken(f"the backend answered {status}, which no client of it understands")
    error = _error_of(status, body)
    kind = _kind_of_status(status, error)
    error["type"] = error["type"] or _TYPE[kind]
    _name_model(kind, error)
    return _with_times(
        kind, status if kind is not FaultKind.UNUSABLE else 403, error, headers, now_unix_s
    )


def from_event(event: JsonObject, *, now_unix_s: float) -> Fault:
    """Classify a `response.failed` or `error` event, also one with `status` and `headers`."""
    inner = (
        get_object(event, "error")
        or get_object(get_object(event, "response"), "error")
        or get_object(get_object(event, "body"), "error")
    )
    if not inner:
        # The public API's flat form: the keys stand beside `type`.
        inner = {key: event.get(key) for key in ("message", "code", "param")}
    error = _error_from(inner, "the backend reported a failure without a message")
    status = _status_of(event)
    kind = _kind_of_code(error)
    if kind is None and too_long.says_too_long(error_words(error)):
        kind, error["code"] = FaultKind.REFUSED, too_long.CODE
    if kind is None:
        kind = _kind_of_status(status, error) if status else FaultKind.OVERLOADED
    error["type"] = error["type"] or _TYPE[kind]
    _name_model(kind, error)
    headers = {name.lower(): str(value) for name, value in get_object(event, "headers").items()}
    return _with_times(kind, status or _in_stream_status(kind, error), error, headers, now_unix_s)


def no_stream(body: bytes, *, now_unix_s: float) -> Fault:
    """Classify the body of a 200 that holds no event: a page, a JSON error, nothing at all."""
    try:
        value = parse(body)
    except ValueError:
        return broken(_words_of(200, body))
    if is_object(value) and is_object(value.get("error")):
        return from_event(value, now_unix_s=now_unix_s)
    return broken(get_text(_error_of(200, body), "message") or "")


def not_json() -> Fault:
    """An event of the stream holds no JSON object."""
    return broken("the backend sent an event that is no JSON object")


def broken(what: str) -> Fault:
    """The connection failed or carried no answer; `what` says it in words."""
    return _own(FaultKind.BROKEN, what, code="upstream_connection_error")


def ended_early() -> Fault:
    """The stream ended without a terminal event."""
    return _own(
        FaultKind.BROKEN,
        "the backend's stream ended before its terminal event; the answer is not complete",
        code="upstream_stream_incomplete",
    )


def slow(budget: str, seconds: float, *, block: str = "backends.openai_codex") -> Fault:
    """The budget named `budget` (`first_event_s`) of `seconds` ran out.

    `block` is the block of the configuration that the budget stands in.
    """
    told = _BUDGETS[budget].format(in_words(seconds))
    return _own(
        FaultKind.SLOW,
        f"{told} (budget {budget}; configure {block}.budgets.{budget})",
        code=f"upstream_timeout_{budget.removesuffix('_s')}",
    )


def not_offered(
    told: str, *, heard: str = "", plans: Sequence[str] = (), available: Sequence[str] = ()
) -> Fault:
    """No account may have the model.

    Args:
        told: what the relay knows of its accounts.
        heard: the backend's words, if it was asked.
        plans: those that have the model.
        available: models that can be had.
    """
    message = told
    if available:
        message += (
            f". Available: {', '.join(available)}; models.aliases can give one of them this name"
        )
    if heard:
        message += f". The backend said: {heard}"
    error = error_object(
        message,
        type=_TYPE[FaultKind.UNSUPPORTED],
        plans=list(plans),
        available=list(available),
    )
    _name_model(FaultKind.UNSUPPORTED, error)
    return Fault(kind=FaultKind.UNSUPPORTED, status=_STATUS[FaultKind.UNSUPPORTED], error=error)


def shutting_down() -> Fault:
    """The relay is being stopped and the grace is over."""
    return _own(
        FaultKind.OVERLOADED,
        "codexrelay is being stopped; send the request again",
        code="relay_shutting_down",
    )


def interrupted() -> Fault:
    """The client has asked for its turn to be ended, and waits for that end."""
    return _own(FaultKind.REFUSED, "interrupted by the client", code=INTERRUPTED)


def unforeseen() -> Fault:
    """The relay itself failed in a way nobody foresaw."""
    fault = _own(
        FaultKind.BROKEN,
        "codexrelay failed in a way nobody foresaw; its log has the details",
        code="internal_error",
    )
    return attrs.evolve(fault, status=500)


_BUDGETS: Final = {
    "connect_s": "no connection to the backend within {}",
    "headers_s": "the backend did not answer within {}",
    "first_event_s": "the backend answered but sent no event within {}",
    "silence_s": "the backend fell silent for {}",
    "turn_s": "the turn took longer than {}",
}


def _own(kind: FaultKind, message: str, *, code: str) -> Fault:
    return Fault(
        kind=kind, status=_STATUS[kind], error=error_object(message, type=_TYPE[kind], code=code)
    )


def _error_of(status: int, body: bytes) -> JsonObject:
    """Return the OpenAI error object for an error body; its type is empty if the body has none."""
    try:
        value: Json = parse(body)
    except ValueError:
        return error_object(_words_of(status, body), type="upstream_error")
    if not is_object(value):
        return error_object(_words_of(status, body), type="upstream_error")
    match value.get("error"):
        case dict(inner):
            return _error_from(inner, f"the backend answered {status}")
        case str(code):
            told = get_text(value, "error_description") or get_text(value, "message") or code
            return error_object(told, type="", code=code)
        case _:
            pass
    match value.get("detail"):
        case dict(detail):
            return _error_from(detail, f"the backend answered {status}")
        case list(entries):
            return error_object(_first_message(entries), type="")
        case str(told):
            return error_object(told, type="")
        case _:
            return _error_from(value, _words_of(status, body))


def _error_from(given: JsonObject, otherwise: str) -> JsonObject:
    """Return the OpenAI error object that says what `given` says, with all its further keys."""
    code = get_text(given, "code") or get_text(given, "type") or ""
    error = error_object(
        get_text(given, "message") or _WORDS.get(code, otherwise),
        type=get_text(given, "type") or "",
        code=get_text(given, "code"),
        param=get_text(given, "param"),
    )
    return error | {key: value for key, value in given.items() if key not in error}


def _first_message(detail: list[Json]) -> str:
    """FastAPI's list form: `[{"loc": […], "msg": "…"}]`."""
    for entry in detail:
        if is_object(entry) and (message := get_text(entry, "msg")):
            return message
    return "the backend rejected the request"


def _words_of(status: int, body: bytes) -> str:
    """Say in one line what a body that is no JSON holds: a page's title, or the text itself."""
    text = body.decode("utf-8", "replace").strip()
    if title := _TITLE.search(text):
        return f"the backend answered {status} with a web page: {' '.join(title[1].split())}"
    if text.startswith("<"):
        return f"the backend answered {status} with a web page"
    if text:
        return f"the backend answered {status}: {' '.join(text.split())[:_EXCERPT_CHARACTERS]}"
    return f"the backend answered {status} without a body"


def error_words(error: JsonObject) -> str:
    """Return what an error object says about what it is, in words and in its type."""
    return f"{get_text(error, 'type') or ''} {get_text(error, 'message') or ''}"


def _name_model(kind: FaultKind, error: JsonObject) -> None:
    """Say of a refused model what OpenAI's own API says: the backend gives no code with its words.

    Clients read `model_not_found` as a name that must be changed, and do not ask again.
    """
    if kind is FaultKind.UNSUPPORTED:
        error["code"] = error.get("code") or "model_not_found"
        error["param"] = error.get("param") or "model"


def _kind_of_code(error: JsonObject) -> FaultKind | None:
    names = {get_text(error, "type"), get_text(error, "code")}
    message = (get_text(error, "message") or "").lower()
    if names & _USAGE_LIMITS:
        return FaultKind.LIMITED
    if names & _UNUSABLE:
        return FaultKind.UNUSABLE
    if names & _OVERLOADS or "at capacity" in message:
        return FaultKind.OVERLOADED
    if names & _THROTTLES:
        return FaultKind.THROTTLED
    if names & _UNAUTHORIZED:
        return FaultKind.UNAUTHORIZED
    if "invalid_encrypted_content" in names:
        return FaultKind.UNREADABLE
    if _NOT_OFFERED in message:
        return FaultKind.UNSUPPORTED
    if names & _REFUSALS:
        return FaultKind.REFUSED
    return None


def _kind_of_status(status: int, error: JsonObject) -> FaultKind:
    match status:
        case 401:
            return FaultKind.UNAUTHORIZED
        case 402 | 403:
            named = _kind_of_code(error)
            return (
                named if named in (FaultKind.UNUSABLE, FaultKind.LIMITED) else FaultKind.FORBIDDEN
            )
        case 429:
            named = _kind_of_code(error)
            limited = (FaultKind.LIMITED, FaultKind.UNUSABLE, FaultKind.OVERLOADED)
            return named if named in limited else FaultKind.THROTTLED
        case _ if status >= 500:
            return FaultKind.OVERLOADED
        case _:
            named = _kind_of_code(error)
            known = (FaultKind.UNUSABLE, FaultKind.UNREADABLE, FaultKind.UNSUPPORTED)
            return named if named in known else FaultKind.REFUSED


def _in_stream_status(kind: FaultKind, error: JsonObject) -> int:
    """The status for a failure that came inside a 200: by its code, else "bad gateway"."""
    if kind is FaultKind.OVERLOADED and _kind_of_code(error) is None:
        return 502
    return _STATUS[kind]


def _with_times(
    kind: FaultKind, status: int, error: JsonObject, headers: Mapping[str, str], now_unix_s: float
) -> Fault:
    resets_at = retry_after = None
    if kind is FaultKind.LIMITED:
        resets_at = _resets_at(error, headers, now_unix_s)
    if kind in (FaultKind.LIMITED, FaultKind.THROTTLED, FaultKind.OVERLOADED):
        retry_after = _retry_after(error, headers, now_unix_s)
    if retry_after is None and resets_at is not None:
        retry_after = resets_at - now_unix_s
    if retry_after is not None and kind in (FaultKind.LIMITED, FaultKind.THROTTLED):
        _say_when(error, retry_after)
    return Fault(
        kind=kind,
        status=status,
        error=error,
        resets_at_unix_s=resets_at,
        retry_after_s=retry_after,
        headers=headers,
    )


def _say_when(error: JsonObject, wait_s: float) -> None:
    """Put the wait into words where upstream gives none: the header is capped, they are not."""
    message = get_text(error, "message") or ""
    if not _TRY_AGAIN.search(message):
        error["message"] = f"{message} (try again in {in_words(wait_s)})".lstrip()
    error.setdefault("resets_in_seconds", round(wait_s))


def _status_of(event: JsonObject) -> int | None:
    """Codex sends `status` or `status_code`, never both (wire notes 7)."""
    status = get_number(event, "status") or get_number(event, "status_code")
    return int(status) if status is not None and 400 <= status < 600 else None


def _resets_at(error: JsonObject, headers: Mapping[str, str], now_unix_s: float) -> float | None:
    """When the quota comes back: from the body, else from the headers (wire notes 4.2)."""
    told = _instant(error, "resets_at", "resets_in_seconds", now_unix_s)
    if told is not None:
        return told
    values: JsonObject = dict(headers)
    # The latest reset among the exhausted windows counts: the 5 h window may come back while the
    # weekly one is still empty.
    exhausted = [
        f"x-codex-{window}"
        for window in ("primary", "secondary")
        if (get_number(values, f"x-codex-{window}-used-percent") or 0.0) >= 100.0
    ]
    resets = [
        _instant(values, f"{window}-reset-at", f"{window}-reset-after-seconds", now_unix_s)
        for window in exhausted
    ]
    known = [reset for reset in resets if reset is not None]
    return max(known) if known else _from_now(values, "retry-after", now_unix_s)


def _instant(values: JsonObject, at: str, after: str, now_unix_s: float) -> float | None:
    """Return the instant that `values` names, absolutely or from now; None if it has passed."""
    instant = get_number(values, at)
    if instant is not None and 0.0 < instant - now_unix_s < _LONGEST_S:
        return instant
    return _from_now(values, after, now_unix_s)


def _from_now(values: JsonObject, after: str, now_unix_s: float) -> float | None:
    seconds = get_number(values, after)
    return now_unix_s + seconds if seconds is not None and 0.0 < seconds < _LONGEST_S else None


def _seconds_until(date: str, now_unix_s: float) -> float | None:
    """Read the other form of `Retry-After`, an HTTP date."""
    try:
        return parsedate_to_datetime(date).timestamp() - now_unix_s
    except ValueError:
        return None


def _retry_after(error: JsonObject, headers: Mapping[str, str], now_unix_s: float) -> float | None:
    told = get_number(dict(headers), "retry-after")
    if told is None and (date := headers.get("retry-after")):
        told = _seconds_until(date, now_unix_s)
    if told is not None and told < _LONGEST_S:
        return max(0.0, told)
    if match := _TRY_AGAIN.search(get_text(error, "message") or ""):
        try:
            amount = float(match[1])
        except ValueError:
            return None
        return amount / 1000 if match[2].lower() == "ms" else amount
    return None
