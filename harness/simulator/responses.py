"""The model endpoint: from a request, or a WebSocket's message, to the steps of its answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING

import attrs

from codexrelay.protocol.events import COMPLETED, INCOMPLETE
from codexrelay.protocol.raw import JsonObject, get_list, get_object, get_text, is_object
from harness.simulator import checks
from harness.simulator.arrival import RefusedError
from harness.simulator.faults import (
    AT_MESSAGES,
    AT_REQUESTS,
    FAULTS,
    INSTEAD,
    OF_MESSAGES,
    WITHIN,
    Situation,
    chunk,
    limit_reached,
    unspoilt,
)
from harness.simulator.script import script_for
from harness.simulator.steps import Answer, Head, Step, paced, reply
from harness.simulator.stream import ResponseStream, compaction_item, usage

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    situation = Situation(quota=backend.quota(account), now_unix_s=arrival.now_unix_s)
    refused = checks.refusal(body, account, backend.plans)
    if answer := _unserved(backend, account, situation, refused):
        return answer
    script = script_for(body)
    fault = arrival.seen.fault = _fault_for(script, backend, account, AT_REQUESTS)
    if fault is not None and fault in INSTEAD:
        return INSTEAD[fault](situation)
    if not script.aside:
        situation.quota.turns += 1
    stream = _response_stream(backend, arrival, account, body)
    events = stream.events(script)
    steps = WITHIN[fault](events, stream, situation) if fault else unspoilt(events)
    return _stream(_headers(backend, arrival, situation.quota), paced(steps, backend.pace_s))


@attrs.frozen
class Whole:
    """The request that a WebSocket's message stands for, with all that it goes on from."""

    body: JsonObject
    #: Of all messages that led to it.
    size_bytes: int
    #: To be called with its response when that has ended well.
    keep: Callable[[JsonObject], object]


def message(
    backend: SimulatedBackend, arrival: Arrival, account: SimulatedAccount, whole: Whole
) -> Answer:
    """Answer a `response.create` of `account`."""
    asked = arrival.json_object()
    situation = Situation(quota=backend.quota(account), now_unix_s=arrival.now_unix_s)
    refused = checks.message_refusal(asked, whole.body, account, backend.plans)
    if answer := _unserved(backend, account, situation, refused):
        return answer
    stream = _response_stream(backend, arrival, account, asked)
    stream.request_bytes = whole.size_bytes
    if arrival.seen.is_warm_up:
        return _stream((), unspoilt(_kept(stream.warmed_up(), whole.keep)))
    script = script_for(whole.body)
    fault = arrival.seen.fault = _fault_for(script, backend, account, AT_MESSAGES)
    if fault is not None and fault in INSTEAD:
        return INSTEAD[fault](situation)
    if not script.aside:
        situation.quota.turns += 1
    events = _kept(stream.events(script), whole.keep)
    spoil = None if fault is None else WITHIN.get(fault) or OF_MESSAGES[fault]
    steps = unspoilt(events) if spoil is None else spoil(events, stream, situation)
    limits = chunk(situation.quota.event(now_unix_s=arrival.now_unix_s))
    return _stream((), paced(itertools.chain((limits,), steps), backend.pace_s))


def _unserved(
    backend: SimulatedBackend,
    account: SimulatedAccount,
    situation: Situation,
    refused: JsonObject | None,
) -> Answer | None:
    """Return the answer to a request that no model sees; `refused`: what its body deserves."""
    if condition := backend.condition(account):
        return condition.answer(situation)
    if refused is not None:
        raise RefusedError(400, refused)
    if situation.quota.reached(now_unix_s=situation.now_unix_s):
        return limit_reached(situation)
    return None


def _response_stream(
    backend: SimulatedBackend, arrival: Arrival, account: SimulatedAccount, body: JsonObject
) -> ResponseStream:
    return ResponseStream(
        request=body,
        ids=backend.ids,
        now_unix_s=arrival.now_unix_s,
        request_bytes=len(arrival.http.body),
        user_id=account.user_id,
    )


def _kept(
    events: Iterator[JsonObject], keep: Callable[[JsonObject], object]
) -> Iterator[JsonObject]:
    """Yield the events; before the last one, if it is a good end, its response is kept."""
    for event in events:
        if event["type"] in (COMPLETED, INCOMPLETE):
            keep(get_object(event, "response"))
        yield event


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


def _fault_for(
    script: Script, backend: SimulatedBackend, account: SimulatedAccount, possible: frozenset[str]
) -> str | None:
    if script.aside:
        return None
    if script.fault is None:
        return backend.next_fault(account, possible)
    if script.fault not in FAULTS:
        raise RefusedError(400, {"detail": f"No fault is called {script.fault!r}"})
    return script.fault if script.fault in possible else None


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
