from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.openai_errors import error_body
from codexrelay.protocol.raw import JsonObject, dump, parse, parse_object
from codexrelay.relay.budgets import Budgets
from tests.fakes.recordings import observed, samples

NOW = 1_795_347_089.0
KINDS = {kind.value: kind for kind in FaultKind}


def answered(status: int, body: object = b"", **headers: str) -> Fault:
    raw = body if isinstance(body, bytes) else dump(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return faults.from_response(status, named, raw, now_unix_s=NOW)


def error(**keys: object) -> JsonObject:
    return {"error": keys}


# --- what it is


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (400, {"detail": "Store must be set to false"}, "refused", 400),
        (400, error(code="context_length_exceeded"), "refused", 400),
        (400, error(code="usage_not_included"), "unusable", 403),
        (401, {"detail": "Unauthorized"}, "unauthorized", 401),
        (401, error(code="token_expired"), "unauthorized", 401),
        (402, {"detail": {"code": "deactivated_workspace"}}, "unusable", 403),
        (402, error(code="workspace_owner_credits_depleted"), "limited", 402),
        (403, b"<html><title>Attention</title></html>", "forbidden", 403),
        (403, error(code="rate_limit_exceeded"), "forbidden", 403),
        (404, {"detail": "Not Found"}, "refused", 404),
        (413, b"", "refused", 413),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "refused", 422),
        (429, error(type="usage_limit_reached"), "limited", 429),
        (429, error(code="insufficient_quota"), "limited", 429),
        (429, error(type="usage_not_included"), "unusable", 403),
        (429, error(code="rate_limit_exceeded", type="tokens"), "throttled", 429),
        (429, error(message="Selected model is at capacity."), "overloaded", 429),
        (429, b"", "throttled", 429),
        (500, error(code="whatever"), "overloaded", 500),
        (502, b"<html>", "overloaded", 502),
        (503, error(code="server_is_overloaded"), "overloaded", 503),
        (503, b"upstream connect error", "overloaded", 503),
    ],
)
def test_an_answer_is_classified_by_its_status_and_code(
    status: int, body: object, kind: str, told: int
) -> None:
    fault = answered(status, body)
    assert fault.kind is KINDS[kind]
    assert fault.status == told


@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        (error(code="context_length_exceeded"), "refused", 400),
        (error(type="invalid_request_error"), "refused", 400),
        (error(code="server_is_overloaded"), "overloaded", 503),
        (error(code="unheard_of"), "overloaded", 502),
        (error(type="usage_limit_reached"), "limited", 429),
        (error(code="rate_limit_exceeded"), "throttled", 429),
        (error(code="token_invalidated"), "unauthorized", 401),
        ({"response": error(code="slow_down")}, "overloaded", 503),
        ({"body": error(type="usage_limit_reached"), "status": 429}, "limited", 429),
        ({"code": "context_length_exceeded", "message": "too long"}, "refused", 400),
        ({**error(message="no"), "status": 401}, "unauthorized", 401),
        ({**error(message="no"), "status_code": 500}, "overloaded", 500),
        ({**error(message="no"), "status": "nan"}, "overloaded", 502),
        ({**error(message="no"), "status": "inf"}, "overloaded", 502),
        ({**error(message="no"), "status": 200}, "overloaded", 502),
        ({}, "overloaded", 502),
    ],
)
def test_a_failure_event_is_classified_by_its_code_and_else_by_its_status(
    event: JsonObject, kind: str, status: int
) -> None:
    fault = faults.from_event(event, now_unix_s=NOW)
    assert fault.kind is KINDS[kind]
    assert fault.status == status
    assert fault.message


# --- what the client is told


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"detail": "Stream must be set to true"}, "Stream must be set to true"),
        (400, {"detail": {"message": "no", "code": "c"}}, "no"),
        (422, {"detail": [{"msg": "field required"}]}, "field required"),
        (400, error(message="no"), "no"),
        (400, {"error": "invalid_grant", "error_description": "gone"}, "gone"),
        (400, {"error": "invalid_grant"}, "invalid_grant"),
        (400, {"message": "no"}, "no"),
        (400, {"detail": []}, "the backend rejected the request"),
        (500, error(code="c"), "the backend answered 500"),
        (
            502,
            b"<html><TITLE>Bad\n gateway</TITLE>",
            "the backend answered 502 with a web page: Bad gateway",
        ),
        (502, b"<html>", "the backend answered 502 with a web page"),
        (503, b" no \n way", "the backend answered 503: no way"),
        (503, b"", "the backend answered 503 without a body"),
        (503, b"x" * 900, "the backend answered 503: " + "x" * 200),
        (500, b"[1]", "the backend answered 500: [1]"),
        (500, b"\xff\xfe", "the backend answered 500: \ufffd\ufffd"),
    ],
)
def test_the_message_is_upstreams_own_or_says_what_came(
    status: int, body: object, message: str
) -> None:
    assert answered(status, body).message == message


def test_the_error_keeps_upstreams_code_type_and_further_keys() -> None:
    given = {"message": "spent", "type": "usage_limit_reached", "plan_type": "plus"}
    assert answered(429, {"error": given}).error == {**given, "code": None, "param": None}


@pytest.mark.parametrize(
    ("status", "body", "type_"),
    [
        (400, {"detail": "no"}, "invalid_request_error"),
        (401, {"detail": "no"}, "authentication_error"),
        (403, error(message="no"), "permission_error"),
        (429, error(code="rate_limit_exceeded"), "rate_limit_error"),
        (503, error(code="server_is_overloaded"), "service_unavailable_error"),
        (403, b"<html>", "upstream_error"),
    ],
)
def test_an_error_without_a_type_gets_that_of_its_kind(
    status: int, body: object, type_: str
) -> None:
    assert answered(status, body).error["type"] == type_


@given(
    body=st.one_of(
        st.binary(max_size=50),
        st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["error", "detail", "message", "code", "type", "msg", "resets_at"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
    ),
    status=st.sampled_from([400, 401, 403, 404, 429, 500, 503]),
)
def test_every_answer_becomes_an_error_in_the_openai_shape(body: object, status: int) -> None:
    fault = answered(status, body)
    told = parse_object(error_body(fault.error))["error"]
    assert isinstance(told, dict)
    assert {"message", "type", "code", "param"} <= set(told)
    assert isinstance(told["message"], str)
    assert told["type"]
    if isinstance(body, dict):
        assert faults.from_event(body, now_unix_s=NOW).error["type"]


# --- when it may be tried again


@pytest.mark.parametrize(
    ("keys", "headers", "resets_in_s"),
    [
        ({"resets_at": NOW + 60, "resets_in_seconds": 999}, {}, 60),
        ({"resets_in_seconds": 90}, {}, 90),
        ({"resets_at": NOW - 5, "resets_in_seconds": 90}, {}, 90),
        ({"resets_at": NOW * 1000}, {}, None),
        ({"resets_at": "inf"}, {}, None),
        ({"resets_at": None, "resets_in_seconds": "nan"}, {}, None),
        ({}, {}, None),
        ({}, {"retry_after": "7"}, 7),
        ({}, {"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (
            {},
            {
                "x_codex_primary_used_percent": "100.0",
                "x_codex_primary_reset_at": str(NOW + 300),
                "x_codex_secondary_used_percent": "41",
                "x_codex_secondary_reset_at": str(NOW + 9000),
            },
            300,
        ),
        (
            {},
            {
                "x_codex_primary_used_percent": "100",
                "x_codex_primary_reset_at": str(NOW + 300),
                "x_codex_secondary_used_percent": "100",
                "x_codex_secondary_reset_after_seconds": "9000",
            },
            9000,
        ),
        ({}, {"x_codex_primary_used_percent": "100", "x_codex_primary_reset_at": ""}, None),
    ],
    ids=[
        "an instant before a duration",
        "a duration",
        "an instant that has passed",
        "an instant in milliseconds",
        "infinite",
        "no number",
        "nothing",
        "Retry-After",
        "Retry-After as a date",
        "the window that is spent",
        "the later of two spent windows",
        "a window without a time",
    ],
)
def test_the_reset_of_a_limit(
    keys: dict[str, object], headers: dict[str, str], resets_in_s: float | None
) -> None:
    fault = answered(429, error(type="usage_limit_reached", **keys), **headers)
    expected = None if resets_in_s is None else NOW + resets_in_s
    assert fault.resets_at_unix_s == expected


@pytest.mark.parametrize(
    ("message", "headers", "seconds"),
    [
        ("Please try again in 11.054s. Visit", {}, 11.054),
        ("please TRY AGAIN IN 250 ms", {}, 0.25),
        ("try again in 3 seconds", {}, 3.0),
        ("try again in 1.2.3s", {}, None),
        ("try again in 6m0s", {}, None),
        ("try again later", {}, None),
        ("try again in 9s", {"retry_after": "2"}, 2.0),
        ("", {"retry_after": "-1"}, 0.0),
        ("", {"retry_after": "inf"}, None),
    ],
)
def test_the_wait_is_that_of_the_header_and_else_of_the_words(
    message: str, headers: dict[str, str], seconds: float | None
) -> None:
    fault = answered(429, error(code="rate_limit_exceeded", message=message), **headers)
    assert fault.retry_after_s == seconds


def test_a_refusal_has_no_time_at_which_it_would_be_none() -> None:
    fault = answered(400, error(message="try again in 3s", resets_in_seconds=5), retry_after="9")
    assert (fault.retry_after_s, fault.resets_at_unix_s) == (None, None)


def test_an_events_own_headers_count() -> None:
    event = error(type="usage_limit_reached") | {
        "status": 429,
        "headers": {
            "X-Codex-Primary-Used-Percent": "100",
            "X-Codex-Primary-Reset-At": str(NOW + 60),
        },
    }
    assert faults.from_event(event, now_unix_s=NOW).resets_at_unix_s == NOW + 60


# --- what the relay finds itself


def test_every_budget_has_words_of_its_own() -> None:
    budgets = [field for field in attrs.fields(Budgets) if field.name.endswith("_s")]
    assert len(budgets) == 5
    for field in budgets:
        fault = faults.slow(field.name, 90.0)
        assert fault.kind is FaultKind.SLOW
        assert fault.status == 504
        assert field.name in fault.message
        assert "90 s" in fault.message
        assert f"budgets.{field.name}" in fault.message


def test_a_budget_of_another_block_names_that_block() -> None:
    fault = faults.slow("silence_s", 90.0, block="backends.local")
    assert "(budget silence_s; configure backends.local.budgets.silence_s)" in fault.message


def test_a_prompt_that_is_too_long_has_a_code_also_where_a_stream_says_so_in_words() -> None:
    said = "This model's maximum context length is 512 tokens"
    fault = faults.from_event(error(message=said, type="BadRequestError"), now_unix_s=NOW)
    assert (fault.kind, fault.status) == (FaultKind.REFUSED, 400)
    assert (fault.code, fault.message) == ("context_length_exceeded", said)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (faults.broken("it broke"), 502, "upstream_connection_error"),
        (faults.ended_early(), 502, "upstream_stream_incomplete"),
        (faults.not_json(), 502, "upstream_connection_error"),
        (faults.slow("headers_s", 1), 504, "upstream_timeout_headers"),
        (faults.shutting_down(), 503, "relay_shutting_down"),
    ],
)
def test_faults_of_our_own_say_so(fault: Fault, status: int, code: str) -> None:
    assert (fault.status, fault.code) == (status, code)
    assert fault.is_ours


def test_upstreams_codes_are_not_ours() -> None:
    assert not answered(503, error(code="server_is_overloaded")).is_ours
    assert not answered(503).is_ours


# --- what was seen on the wire


def test_every_written_error_body_is_understood() -> None:
    seen = {
        name: faults.from_response(int(name.split("_")[1]), {}, body, now_unix_s=NOW)
        for name, body in samples("error_[0-9]*.json").items()
        if not name.endswith("_headers.json")
    }
    kinds = {name.removeprefix("error_").removesuffix(".json"): f.kind for name, f in seen.items()}
    assert kinds["401_token_expired"] is FaultKind.UNAUTHORIZED
    assert kinds["429_rate_limit"] is FaultKind.THROTTLED
    assert kinds["429_usage_limit"] is FaultKind.LIMITED
    assert kinds["429_usage_not_included"] is FaultKind.UNUSABLE
    assert kinds["503_overloaded"] is FaultKind.OVERLOADED
    assert kinds.pop("400_detail_model") is FaultKind.UNSUPPORTED
    refused = {kind for name, kind in kinds.items() if name.startswith("400")}
    assert refused == {FaultKind.REFUSED}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": {"code": "deactivated_workspace"}}, "the workspace of this account is"),
        ({"error": {"type": "usage_not_included"}}, "does not include Codex"),
    ],
)
def test_a_code_without_words_is_put_into_words(body: JsonObject, message: str) -> None:
    fault = answered(402, dump(body))
    assert fault.kind is FaultKind.UNUSABLE
    assert message in fault.message


def test_a_plan_without_the_model_is_no_fault_of_the_request() -> None:
    text = "The 'gpt-6-sol' model is not supported when using Codex with a ChatGPT account."
    fault = answered(400, dump({"detail": text}))
    assert (fault.kind, fault.status, fault.message) == (FaultKind.UNSUPPORTED, 400, text)


def test_every_observed_error_is_understood() -> None:
    for fact in observed():
        status, body = fact.get("status"), fact.get("body")
        if not isinstance(status, int) or status < 400 or body is None:
            continue
        raw = body.encode() if isinstance(body, str) else dump(body)
        fault = faults.from_response(status, {}, raw, now_unix_s=1.7e9)
        assert fault.message, fact["label"]
        if "usage_limit_reached" in str(body):
            assert fault.kind is FaultKind.LIMITED, fact["label"]


def test_every_observed_error_frame_is_understood() -> None:
    frames = [frame for fact in observed() for frame in (fact.get("frames") or [])]
    events = [parse(frame) if isinstance(frame, str) else frame for frame in frames]
    failures = [e for e in events if isinstance(e, dict) and e.get("type") == "error"]
    assert failures
    for event in failures:
        fault = faults.from_event(event, now_unix_s=1.7e9)
        if "usage_limit_reached" in str(event):
            assert fault.kind is FaultKind.LIMITED
            assert fault.resets_at_unix_s is not None
            assert fault.status == 429


def test_a_throttle_says_in_words_when_to_come_back() -> None:
    fault = answered(429, error(message="slow", code="rate_limit_exceeded"), retry_after="3600")
    assert fault.message == "slow (try again in 1 h)"
    assert fault.error["resets_in_seconds"] == 3600


def test_upstreams_own_words_are_enough() -> None:
    told = "Please try again in 1.5s."
    fault = answered(429, error(message=told, code="rate_limit_exceeded"))
    assert fault.message == told
