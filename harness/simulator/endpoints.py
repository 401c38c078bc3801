"""Which endpoint answers what, and the small ones: models, usage, workspaces, tokens, control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from codexrelay.protocol.raw import get_number, get_text, is_object
from harness.simulator import catalogue, responses
from harness.simulator.arrival import RefusedError
from harness.simulator.faults import (
    DEFAULT_WAIT_S,
    OF_HANDSHAKES,
    UPGRADE_REQUIRED,
    Situation,
)
from harness.simulator.quota import DEFAULT_RESET_S
from harness.simulator.steps import Answer, reply
from harness.simulator.wire import is_upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator.arrival import Arrival
    from harness.simulator.backend import SimulatedBackend

#: What a handshake's `openai-beta` says (wire notes 7).
BETA: Final = "responses_websockets=2026-02-06"
Endpoint: TypeAlias = "Callable[[SimulatedBackend, Arrival], Answer]"


def answer(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    """Return the answer to any request."""
    path, found = arrival.http.path, False
    for method, suffix, endpoint in ENDPOINTS:
        if path.endswith(suffix):
            found = True
            if method == arrival.http.method:
                try:
                    return endpoint(backend, arrival)
                except RefusedError as refused:
                    return reply(refused.status, refused.body)
    if found:
        return reply(405, {"detail": "Method Not Allowed"})
    return reply(404, {"detail": "Not Found"})


def cuts_off(backend: SimulatedBackend, arrival: Arrival) -> bool:
    """Tell whether a fault breaks this request off, of which only the head is here.

    If so, account and fault are noted in its record.
    """
    http = arrival.http
    if http.method != "POST" or not http.path.endswith("/responses"):
        return False
    try:
        account = backend.identify(arrival)
    except RefusedError:
        return False
    arrival.seen.fault = backend.fault_while_arriving(account)
    return arrival.seen.fault is not None


def opens(backend: SimulatedBackend, arrival: Arrival) -> bool:
    """Tell whether this is a request for a WebSocket that is granted; its account is noted."""
    http = arrival.http
    if http.method != "GET" or not http.path.endswith("/responses"):
        return False
    if not backend.websockets or not is_upgrade(http.headers):
        return False
    try:
        account = backend.identify(arrival)
    except RefusedError:
        return False
    return http.header("openai-beta") == BETA and not backend.refuses_handshake(account)


def _websocket(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    """Answer a request for a WebSocket that is not granted."""
    if not backend.websockets or not is_upgrade(arrival.http.headers):
        return reply(426, UPGRADE_REQUIRED)
    arrival.seen.transport = "ws"
    account = backend.identify(arrival)
    fault = arrival.seen.fault = backend.handshake_fault(account)
    if fault is None:
        raise RefusedError(400, {"detail": f"The header openai-beta must be {BETA}"})
    situation = Situation(quota=backend.quota(account), now_unix_s=arrival.now_unix_s)
    return OF_HANDSHAKES[fault](situation)


def _models(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    backend.identify(arrival)
    body = catalogue.catalogue(arrival.http.query("client_version"), backend.plans)
    return reply(200, body, headers=(("etag", catalogue.etag(body)),))


def _usage(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    quota = backend.quota(backend.identify(arrival))
    return reply(200, quota.usage(now_unix_s=arrival.now_unix_s))


def _accounts_check(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    account = backend.identify(arrival)
    entry: JsonObject = {
        "id": account.account_id,
        "account_user_id": f"{account.user_id}__{account.account_id}",
        "name": "Personal",
        "structure": "personal",
        "plan_type": account.plan,
        "can_access_with_session": True,
        "is_deactivated": False,
        "is_fedramp_compliant_workspace": False,
        "profile_picture_url": None,
        "sso_connection_name": None,
        "workspace_backend_origin": "NO_CONSTRAINT",
        "account_routing_override": "NO_CONSTRAINT",
    }
    return reply(
        200,
        {
            "accounts": [entry],
            "default_account_id": account.account_id,
            "account_ordering": [account.account_id],
        },
    )


def _token(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return backend.issuer.token(arrival.seen.body, now_unix_s=arrival.now_unix_s)


def _revoke_token(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return backend.issuer.revoke_token(arrival.seen.body)


def _authorize(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    account = backend.account_hinted(arrival.http.query("login_hint"))
    now_unix_s = arrival.now_unix_s
    return backend.issuer.sign_ins.authorize(arrival.http, account, now_unix_s=now_unix_s)


def _user_code(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return backend.issuer.sign_ins.user_code(arrival.seen.body, now_unix_s=arrival.now_unix_s)


def _device_token(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return backend.issuer.sign_ins.device_token(arrival.seen.body, now_unix_s=arrival.now_unix_s)


def _approve(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    user_code = get_text(arrival.json_object(), "user_code")
    return _done(lambda: backend.approve(_named(arrival), user_code))


def _faults(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    body = arrival.seen.body
    names = body.get("faults") if is_object(body) else body
    if not isinstance(names, list):
        raise RefusedError(400, {"detail": "A JSON list of fault names is expected"})
    account = get_text(body, "account") if is_object(body) else None
    return _done(lambda: backend.queue_faults(*map(str, names), account=account))


def _condition(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    fields = arrival.json_object()
    wait_s = get_number(fields, "wait_s")
    return _done(
        lambda: backend.set_condition(
            _named(arrival),
            get_text(fields, "condition"),
            wait_s=DEFAULT_WAIT_S if wait_s is None else wait_s,
        )
    )


def _seen(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return reply(200, [seen.as_json() for seen in backend.seen if seen is not arrival.seen])


def _sockets(backend: SimulatedBackend, _arrival: Arrival) -> Answer:
    return reply(200, [socket.as_json() for socket in backend.sockets])


def _expire(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return _done(lambda: backend.expire(_named(arrival)))


def _revoke(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return _done(lambda: backend.revoke(_named(arrival)))


def _limit(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    fields = arrival.json_object()
    after, used = get_number(fields, "after"), get_number(fields, "used")
    resets_in_s = get_number(fields, "resets_in_s")
    return _done(
        lambda: backend.limit(
            _named(arrival),
            after=int(after or 0),
            resets_in_s=DEFAULT_RESET_S if resets_in_s is None else resets_in_s,
            used=int(used or 0),
        )
    )


def _reset(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    pace_s = get_number(arrival.seen.body, "pace_s") if is_object(arrival.seen.body) else None
    backend.reset(pace_s=pace_s)
    names: list[Json] = [account.name for account in backend.accounts]
    return reply(200, {"accounts": names, "now_s": trio.current_time()})


def _close(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    code = get_number(arrival.json_object(), "code")
    return _done(lambda: backend.close_sockets(None if code is None else int(code)))


def _unlimit(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return _done(lambda: backend.unlimit(_named(arrival)))


def _named(arrival: Arrival) -> str:
    return get_text(arrival.json_object(), "account") or ""


def _done(act: Callable[[], None]) -> Answer:
    try:
        act()
    except ValueError as error:
        raise RefusedError(400, {"detail": str(error)}) from None
    return reply(200, {})


#: Method, end of the path (so that any base URL works), endpoint. The first that fits answers.
ENDPOINTS: Final[tuple[tuple[str, str, Endpoint], ...]] = (
    ("POST", "/_sim/faults", _faults),
    ("GET", "/_sim/seen", _seen),
    ("GET", "/_sim/sockets", _sockets),
    ("POST", "/_sim/close", _close),
    ("POST", "/_sim/reset", _reset),
    ("POST", "/_sim/expire", _expire),
    ("POST", "/_sim/revoke", _revoke),
    ("POST", "/_sim/limit", _limit),
    ("POST", "/_sim/unlimit", _unlimit),
    ("POST", "/_sim/condition", _condition),
    ("POST", "/responses", responses.responses),
    ("GET", "/responses", _websocket),
    ("POST", "/responses/compact", responses.compact),
    ("GET", "/models", _models),
    ("GET", "/wham/usage", _usage),
    ("GET", "/wham/accounts/check", _accounts_check),
    ("POST", "/oauth/token", _token),
    ("POST", "/oauth/revoke", _revoke_token),
    ("GET", "/oauth/authorize", _authorize),
    ("POST", "/deviceauth/usercode", _user_code),
    ("POST", "/deviceauth/token", _device_token),
    ("POST", "/_sim/approve", _approve),
)
