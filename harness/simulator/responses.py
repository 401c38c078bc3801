"""The model endpoint: from a request to the steps of its answer."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING

from codexrelay.protocol.raw import get_list, get_text, is_object
from harness.simulator import checks
from harness.simulator.arrival import RefusedError
from harness.simulator.faults import FAULTS, INSTEAD, WITHIN, Situation, chunk, limit_reached
from harness.simulator.script import script_for
from harness.simulator.steps import Answer, End, Head, Step, paced, reply
from harness.simulator.stream import ResponseStream, compaction_item, usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.accounts import SimulatedAccount
    from harness.simulator.arrival import Arrival
    from harness.simulator.backend import SimulatedBackend
    from harness.simulator.quota import Quota
    from harness.simulator.script import Script
    from harness.simulator.steps import Headers


def responses(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    """Answer `POST …/responses`."""
    account = backend.identify(arrival)
    body = arrival.json_object()
    quota = backend.quota(account)
    situation = Situation(quota=quota, now_unix_s=arrival.now_unix_s)
    if condition := backend.condition(account):
        return condition.answer(situation)
    if refusal := checks.refusal(body, account, backend.plans):
        raise RefusedError(400, refusal)
    if quota.reached(now_unix_s=arrival.now_unix_s):
        return limit_reached(situation)
    script = script_for(body)
    fault = arrival.seen.fault = _fault_for(script, backend, account)
    if fault is not None and fault in INSTEAD:
        return INSTEAD[fault](situation)
    if not script.aside:
        quota.turns += 1
    stream = ResponseStream(
        request=body,
        ids=backend.ids,
        now_unix_s=arrival.now_unix_s,
        request_bytes=len(arrival.http.body),
        user_id=account.user_id,
    )
    events = stream.events(script)
    steps = WITHIN[fault](events, stream, situation) if fault else _whole(events)
    return _stream(_headers(backend, arrival, quota), paced(steps, backend.pace_s))


def compact(backend: SimulatedBackend, arrival: Arrival) -> Answer:
    """Answer `POST …/responses/compact`: what was said by people, and one opaque item."""
    account = backend.identify(arrival)
    body = arrival.json_object()
    if condition := backend.condition(account):
        quota = backend.quota(account)
        return condition.answer(Situation(quota=quota, now_unix_s=arrival.now_unix_s))
    if refusal := checks.compact_refusal(body, account, backend.plans):
        raise RefusedError(400, refusal)
    kept = [
        item for item in get_list(body, "input") if is_object(item) and item.get("role") == "user"
    ]
    answer: JsonObject = {
        "id": backend.ids.of("resp"),
        "object": "response.compaction",
        "created_at": int(arrival.now_unix_s),
        "output": [*kept, compaction_item(backend.ids, account.user_id)],
        "usage": usage(
            request_bytes=len(arrival.http.body), follows_up=True, output_characters=400
        ),
    }
    headers = backend.quota(account).headers(now_unix_s=arrival.now_unix_s)
    return reply(200, answer, headers=headers)


def _fault_for(script: Script, backend: SimulatedBackend, account: SimulatedAccount) -> str | None:
    if script.aside:
        return None
    if script.fault is None:
        return backend.next_fault(account)
    if script.fault not in FAULTS:
        raise RefusedError(400, {"detail": f"No fault is called {script.fault!r}"})
    return script.fault


def _whole(events: Iterator[JsonObject]) -> Iterator[Step]:
    yield from map(chunk, events)
    yield End()


def _stream(headers: Headers, steps: Iterator[Step]) -> Iterator[Step]:
    yield Head(200, headers)
    yield from steps


def _headers(backend: SimulatedBackend, arrival: Arrival, quota: Quota) -> Headers:
    """Return the headers of a 200 stream: no content-type, as measured on 103 recorded streams."""
    given = arrival.http.header("x-codex-turn-state")
    return (
        ("date", formatdate(arrival.now_unix_s, usegmt=True)),
        ("server", "cloudflare"),
        *quota.headers(now_unix_s=arrival.now_unix_s),
        ("x-codex-turn-state", given or f"sim-{arrival.seen.account}-{backend.ids.text(16)}"),
        ("x-models-etag", backend.models_etag),
        ("openai-model", get_text(arrival.json_object(), "model") or ""),
        ("x-oai-request-id", backend.ids.uuid()),
        ("x-openai-proxy-wasm", "v0.1"),
        ("cf-ray", f"{backend.ids.text(16).lower()}-SIM"),
        ("cf-cache-status", "DYNAMIC"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("x-content-type-options", "nosniff"),
    )
