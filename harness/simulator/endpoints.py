"""Which endpoint answers what, and the small ones: models, usage, workspaces, tokens, control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from codexrelay.protocol.raw import get_number, get_text
from harness.simulator import catalogue, responses
from harness.simulator.arrival import RefusedError
from harness.simulator.quota import DEFAULT_RESET_S
from harness.simulator.steps import Answer, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.arrival import Arrival
    from harness.simulator.backend import SimulatedBackend

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


def _websocket(_backend: SimulatedBackend, _arrival: Arrival) -> Answer:
    # The one refusal after which Codex CLI goes on over HTTP at once (wire notes 7).
    return reply(426, {"detail": "Upgrade Required"})


def _models(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    backend.identify(arrival)
    body = catalogue.catalogue(arrival.http.query("client_version"))
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


def _faults(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    names = arrival.seen.body
    if not isinstance(names, list):
        raise RefusedError(400, {"detail": "A JSON list of fault names is expected"})
    return _done(lambda: backend.queue_faults(*map(str, names)))


def _seen(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return reply(200, [seen.as_json() for seen in backend.seen if seen is not arrival.seen])


def _expire(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return _done(lambda: backend.expire(_named(arrival)))


def _revoke(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    return _done(lambda: backend.revoke(_named(arrival)))


def _limit(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    fields = arrival.json_object()
    after = get_number(fields, "after")
    resets_in_s = get_number(fields, "resets_in_s")
    return _done(
        lambda: backend.limit(
            _named(arrival),
            after=int(after or 0),
            resets_in_s=DEFAULT_RESET_S if resets_in_s is None else resets_in_s,
        )
    )


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
    ("POST", "/_sim/expire", _expire),
    ("POST", "/_sim/revoke", _revoke),
    ("POST", "/_sim/limit", _limit),
    ("POST", "/responses", responses.responses),
    ("GET", "/responses", _websocket),
    ("POST", "/responses/compact", responses.compact),
    ("GET", "/models", _models),
    ("GET", "/wham/usage", _usage),
    ("GET", "/wham/accounts/check", _accounts_check),
    ("POST", "/oauth/token", _token),
    ("POST", "/oauth/revoke", _revoke_token),
)
