"""Judging a run: one that went well, and each way in which it may not have."""

from __future__ import annotations

import attrs
import pytest

from harness.compat.drivers.codex_cli import CLIENT_ACCOUNT_ID
from harness.compat.scenarios import MARK, SCENARIOS, Ending, Scenario
from harness.compat.verdict import ANSWER, CLIENT_KEY, Evidence, problems_of
from harness.simulator import Seen

PROMPT_ITEM = {"role": "user", "content": "please"}
OUTPUT_ITEM = {"type": "function_call_output", "call_id": "c", "output": f"{MARK}\n"}
FIRST = {"input": [PROMPT_ITEM]}
SECOND = {"input": [PROMPT_ITEM, OUTPUT_ITEM]}
REPAIRED = "12:00:00 info    turn completed           request=r account=two attempts=2 total_ms=4.0"


def scenario(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def turn(
    body: object,
    *,
    account: str = "one",
    token: str = "t1",
    fault: str | None = None,
    left_at_s: float | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Seen:
    return Seen(
        method="POST",
        path="/backend-api/codex/responses",
        headers=[
            ("authorization", f"Bearer {token}"),
            ("chatgpt-account-id", f"id of {account}"),
            *headers,
        ],
        body=body,
        arrived_at_s=1.0,
        account=account,
        fault=fault,
        left_at_s=left_at_s,
        finished=left_at_s is None,
    )


WELL = Evidence(
    scenario=scenario("tool"),
    ending=Ending.ANSWERED,
    interrupted_status=130,
    status=0,
    stdout=f"{ANSWER}\n",
    seen=(turn(FIRST), turn(SECOND)),
    account_ids={"one": "id of one", "two": "id of two"},
    interrupted_at_s=None,
    relay_status=0,
    relay_log=(),
)


def judged(**changes: object) -> tuple[str, ...]:
    return problems_of(attrs.evolve(WELL, **changes))


def repaired(name: str, *repeat: Seen, log: tuple[str, ...] = (REPAIRED,)) -> tuple[str, ...]:
    seen = (turn(FIRST, fault=name), *repeat, turn(SECOND))
    return judged(scenario=scenario(name), seen=seen, relay_log=log)


def test_a_conversation_that_went_well_has_no_problems() -> None:
    assert judged() == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": 1}, "exit status 1"),
        ({"status": None}, "it was still running when its time was up"),
        ({"stdout": f"echo {MARK}"}, f"it did not print {ANSWER!r}"),
        ({"seen": (turn(FIRST), turn(FIRST))}, "the backend never got the tool's output"),
        ({"relay_status": 1}, "the relay ended with 1 after SIGTERM"),
        ({"relay_status": -9}, "the relay ended with -9 after SIGTERM"),
        (
            {"seen": (turn(FIRST), turn(SECOND, fault="drop"))},
            "the backend's faults were ('drop',), not ()",
        ),
        (
            {"seen": (turn(FIRST), attrs.evolve(turn(SECOND), account=None))},
            "POST /backend-api/codex/responses: the backend knows no such bearer",
        ),
        (
            {"seen": (turn(FIRST), attrs.evolve(turn(SECOND), account="two"))},
            "POST /backend-api/codex/responses: not the account id of the bearer's account",
        ),
    ],
    ids=[
        "status",
        "hang",
        "text",
        "tool",
        "relay",
        "killed relay",
        "fault",
        "bearer",
        "account id",
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, object], problem: str) -> None:
    assert problem in judged(**changes)


@pytest.mark.parametrize("secret", [CLIENT_KEY, CLIENT_ACCOUNT_ID])
def test_a_secret_of_the_client_at_the_backend_is_a_problem_and_is_not_repeated(
    secret: str,
) -> None:
    in_header = judged(seen=(turn(FIRST, headers=(("x-key", f"a {secret}"),)), turn(SECOND)))
    in_body = judged(seen=(turn(FIRST | {"metadata": {"k": secret}}), turn(SECOND)))
    assert in_header == (
        "POST /backend-api/codex/responses: header x-key carries a secret of the client",
    )
    assert in_body == (
        "POST /backend-api/codex/responses: the body carries a secret of the client",
    )
    assert secret not in str((in_header, in_body))


@pytest.mark.parametrize(
    ("name", "repeat"),
    [
        ("429", turn(FIRST, account="two", token="t2")),
        ("401", turn(FIRST, token="t1 refreshed")),
        ("500", turn(FIRST)),
    ],
)
def test_the_repair_that_a_fault_asks_for_is_accepted(name: str, repeat: Seen) -> None:
    assert repaired(name, repeat) == ()


def test_another_repair_than_the_expected_one_is_a_problem() -> None:
    assert repaired("401", turn(FIRST, account="two", token="t2")) == (
        "the repair was rotate, not refresh",
    )


def test_a_request_that_was_not_repeated_was_not_repaired() -> None:
    assert repaired("429") == ("the request that met the fault was not repeated",)


def test_a_repeat_by_the_program_itself_is_no_repair() -> None:
    log = (
        "12:00:00 warning turn failed              fault=limited attempts=1",
        "12:00:02 info    turn completed           account=two attempts=1",
    )
    assert repaired("429", turn(FIRST, account="two", token="t2"), log=log) == (
        "the relay served no turn in two attempts",
    )


def test_an_error_must_end_the_program_with_another_status_than_success() -> None:
    broken = {
        "scenario": scenario("eof"),
        "ending": Ending.REPORTED,
        "seen": (turn(FIRST, fault="eof"),),
        "stdout": "",
    }
    assert judged(**broken, status=1) == ()
    assert judged(**broken, status=0) == ("exit status 0, though it got no answer",)
    assert judged(**broken | {"stdout": ANSWER}, status=1) == (
        "it printed an answer, though none was complete",
    )


@pytest.mark.parametrize(
    ("left_at_s", "problems"),
    [
        (10.9, ()),
        (11.5, ("the backend saw it leave after 1.5 s",)),
        (None, ("the backend never saw it leave",)),
    ],
    ids=["at once", "late", "never"],
)
def test_an_interrupted_program_must_leave_the_backend_at_once(
    left_at_s: float | None, problems: tuple[str, ...]
) -> None:
    assert (
        judged(
            scenario=scenario("interrupt"),
            ending=Ending.INTERRUPTED,
            status=130,
            stdout="",
            seen=(turn(FIRST, fault="hang", left_at_s=left_at_s),),
            interrupted_at_s=10.0,
        )
        == problems
    )


def test_a_program_that_ended_before_its_interruption_proves_nothing() -> None:
    assert "it ended before it could be interrupted" in judged(
        scenario=scenario("interrupt"), ending=Ending.INTERRUPTED, status=130, stdout=""
    )
