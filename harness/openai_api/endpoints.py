"""Which endpoint answers what. Paths are exact: a base URL ends with `/v1`, and nothing else."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.raw import dump, get_text, is_object
from harness.openai_api import chat_checks, responses_checks
from harness.openai_api.as_input import as_input
from harness.openai_api.chat_stream import ChatAnswer
from harness.openai_api.faults import FAULTS, INSTEAD, WITHIN, refused
from harness.simulator.arrival import RefusedError
from harness.simulator.script import Reasoning, script_for
from harness.simulator.steps import Answer, Chunk, End, Head, Step, paced, reply
from harness.simulator.stream import ResponseStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import JsonObject
    from harness.openai_api.api import SimulatedApi
    from harness.simulator.arrival import Arrival
    from harness.simulator.script import Script

CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MODELS: Final = "/v1/models"
_PATHS: Final = {"chat": CHAT, "responses": RESPONSES}
_CHECKS: Final = {"chat": chat_checks.problem_of, "responses": responses_checks.problem_of}
#: Headers that say to Codex's backend who asks, whole or by their beginnings.
_CODEX_HEADERS: Final = ("chatgpt-account-id", "originator", "openai-beta", "openai-sentinel")
_CODEX_PREFIXES: Final = ("x-codex", "x-openai-", "chatgpt-")
_STREAM_HEAD: Final = Head(
    200, (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
)


def answer(api: SimulatedApi, arrival: Arrival) -> Answer:
    """Return the answer to any request."""
    try:
        match (arrival.http.method, arrival.http.path):
            case ("POST", "/_sim/faults"):
                return _queue_faults(api, arrival)
            case ("GET", "/_sim/seen"):
                return reply(200, [one.as_json() for one in api.seen if one is not arrival.seen])
            case ("GET", path) if path == MODELS:
                return _refusal(api, arrival) or reply(200, _models(api, arrival))
            case ("POST", path) if path == _PATHS[api.wire]:
                return _refusal(api, arrival) or _model(api, arrival)
            case _:
                return refused(404, f"No such path: {arrival.http.method} {arrival.http.path}")
    except RefusedError as error:
        return reply(error.status, error.body)


def _refusal(api: SimulatedApi, arrival: Arrival) -> Answer | None:
    """Return the answer to a request whose headers are not as they should be, None if they are."""
    for name, _ in arrival.http.headers:
        if name in _CODEX_HEADERS or name.startswith(_CODEX_PREFIXES):
            return refused(400, f"The header {name} is for Codex's backend alone")
    given = arrival.http.header("authorization")
    if api.key is None:
        return refused(400, "A key was sent where none is wanted") if given is not None else None
    if not hmac.compare_digest(arrival.bearer or "", api.key):
        return refused(401)
    return None


def _model(api: SimulatedApi, arrival: Arrival) -> Answer:
    """Answer a request to the model."""
    body = arrival.json_object()
    if problem := _CHECKS[api.wire](body):
        return refused(400, problem)
    if body.get("model") not in api.models:
        return refused(404, f"The model '{body.get('model')}' does not exist")
    said = as_input(body) if api.wire == "chat" else _with_items(body)
    script = script_for(said)
    fault = arrival.seen.fault = _fault_for(api, script)
    if fault is not None and fault in INSTEAD:
        return INSTEAD[fault]()
    if body.get("stream") is not True:
        return reply(200, _whole(api, arrival, body, script))
    steps = _steps(api, arrival, body, script)
    spoilt = WITHIN[fault](steps) if fault else steps
    return _streamed(paced(spoilt, api.pace_s))


def _fault_for(api: SimulatedApi, script: Script) -> str | None:
    if script.aside:
        return None
    if script.fault is None:
        return api.next_fault()
    if script.fault not in FAULTS:
        raise RefusedError(400, {"error": {"message": f"No fault is called {script.fault!r}"}})
    return script.fault


def _streamed(steps: Iterator[Step]) -> Iterator[Step]:
    yield _STREAM_HEAD
    yield from steps


def _steps(api: SimulatedApi, arrival: Arrival, body: JsonObject, script: Script) -> Iterator[Step]:
    if api.wire == "chat":
        yield from _chat_answer(api, arrival, body).steps(script)
        return
    for event in _events(api, arrival, body, script):
        name = get_text(event, "type") or ""
        yield Chunk(sse.write(name, dump(event)), delta=name.endswith(".delta"))
    yield End()


def _whole(api: SimulatedApi, arrival: Arrival, body: JsonObject, script: Script) -> JsonObject:
    if api.wire == "chat":
        return _chat_answer(api, arrival, body).whole(script)
    *_, last = _events(api, arrival, body, script)
    response = last["response"]
    assert is_object(response)
    return response


def _chat_answer(api: SimulatedApi, arrival: Arrival, body: JsonObject) -> ChatAnswer:
    return ChatAnswer(
        request=body,
        ids=api.ids,
        now_unix_s=arrival.now_unix_s,
        request_bytes=len(arrival.http.body),
    )


def _events(
    api: SimulatedApi, arrival: Arrival, body: JsonObject, script: Script
) -> Iterator[JsonObject]:
    stream = ResponseStream(
        request=body,
        ids=api.ids,
        now_unix_s=arrival.now_unix_s,
        request_bytes=len(arrival.http.body),
        user_id="local",
    )
    # What it has thought stays here: it has no key to encrypt it with.
    spoken = tuple(item for item in script.items if not isinstance(item, Reasoning))
    return stream.events(attrs.evolve(script, items=spoken))


def _with_items(body: JsonObject) -> JsonObject:
    said = body.get("input")
    return body | {"input": [{"role": "user", "content": said}]} if isinstance(said, str) else body


def _models(api: SimulatedApi, arrival: Arrival) -> JsonObject:
    created = int(arrival.now_unix_s)
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": created, "owned_by": "harness"}
            for name in api.models
        ],
    }


def _queue_faults(api: SimulatedApi, arrival: Arrival) -> Answer:
    names = arrival.seen.body
    if not isinstance(names, list):
        raise RefusedError(400, {"detail": "A JSON list of fault names is expected"})
    try:
        api.queue_faults(*map(str, names))
    except ValueError as error:
        raise RefusedError(400, {"detail": str(error)}) from None
    return reply(200, {})
