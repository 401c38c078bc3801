"""Judging a run: one that went well, and each way in which it may not have."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import attrs
import pytest

from codexrelay.compaction.settings import STUB_MARK
from codexrelay.protocol.raw import get_list
from harness.compat.conversation import same_request
from harness.compat.drivers.codex_cli import CLIENT_ACCOUNT_ID
from harness.compat.scenarios import (
    ANSWER,
    END_OF_NOTES,
    LONG_TEXT,
    MARK,
    PICTURE,
    SCENARIOS,
    SECOND_MARK,
    Ending,
    Scenario,
)
from harness.compat.verdict import CLIENT_KEY, Account, Evidence, problems_of
from harness.simulator import Seen
from harness.simulator.script import THOUGHTS

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

PROMPT_ITEM: JsonObject = {"role": "user", "content": "please"}
CALL_ITEM: JsonObject = {"type": "function_call", "call_id": "c", "name": "bash"}
OUTPUT_ITEM: JsonObject = {"type": "function_call_output", "call_id": "c", "output": f"{MARK}\n"}
REASONING_ITEM: JsonObject = {"type": "reasoning", "encrypted_content": "one's"}
TOOLS: JsonObject = {"tools": [{"type": "function", "name": "bash"}]}
FIRST: JsonObject = TOOLS | {"input": [PROMPT_ITEM]}
SECOND: JsonObject = TOOLS | {"input": [PROMPT_ITEM, REASONING_ITEM, CALL_ITEM, OUTPUT_ITEM]}
SECOND_STRIPPED = TOOLS | {"input": [PROMPT_ITEM, CALL_ITEM, OUTPUT_ITEM]}
REPAIRED = "12:00:00 info    turn completed           request=r account=two attempts=2 total_ms=4.0"


def scenario(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def turn(
    body: object,
    *,
    account: str | None = "one",
    workspace_id: str = "id of one",
    token: str = "t1",
    status: int = 200,
    arrived_at_s: float = 1.0,
    fault: str | None = None,
    left_at_s: float | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Seen:
    return Seen(
        method="POST",
        path="/backend-api/codex/responses",
        headers=[
            ("authorization", f"Bearer {token}"),
            ("chatgpt-account-id", workspace_id),
            *headers,
        ],
        body=body,
        arrived_at_s=arrived_at_s,
        account=account,
        status=status,
        fault=fault,
        left_at_s=left_at_s,
        finished=left_at_s is None,
    )


def on_two(body: object, *, arrived_at_s: float = 1.0, status: int = 200) -> Seen:
    return turn(
        body,
        account="two",
        workspace_id="id of two",
        token="u1",
        arrived_at_s=arrived_at_s,
        status=status,
    )


def refresh(status: int) -> Seen:
    return Seen(
        method="POST",
        path="/oauth/token",
        headers=[],
        body={"grant_type": "refresh_token"},
        arrived_at_s=1.0,
        status=status,
        finished=True,
    )


def account(name: str, *, before: str, after: str = "", needs_reauth: bool = False) -> Account:
    return Account(
        workspace_id=f"id of {name}",
        file_before={"access_token": before, "needs_reauth": False},
        file_after={"access_token": after or before, "needs_reauth": needs_reauth},
    )


ONE, TWO = account("one", before="t1"), account("two", before="u1")

WELL = Evidence(
    scenario=scenario("tool"),
    ending=Ending.ANSWERED,
    interrupted_status=130,
    tools_in_input=False,
    status=0,
    stdout=f"{ANSWER}\n",
    stderr="",
    seen=(turn(FIRST), turn(SECOND)),
    accounts={"one": ONE, "two": TWO},
    quota_back_at_s=None,
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
            {"seen": (turn(FIRST), turn(SECOND, account=None, token="t0"))},
            "POST /backend-api/codex/responses: the backend knows no such bearer",
        ),
        (
            {"seen": (turn(FIRST), turn(SECOND, workspace_id="id of two"))},
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
    ("seen", "words"),
    [
        (
            turn(FIRST, headers=(("X-CodexRelay-Capabilities", "prompt_mode=custom_only"),)),
            "x-codexrelay-capabilities",
        ),
        (turn(FIRST | {"codex_capabilities": {}}), "codex_capabilities"),
        (turn(FIRST | {"extra_body": {"codex_capabilities": {}}}), "codex_capabilities"),
    ],
    ids=["header", "field", "extra_body"],
)
def test_what_is_said_to_the_relay_must_not_reach_the_backend(seen: Seen, words: str) -> None:
    assert judged(seen=(seen, turn(SECOND))) == (
        f"POST /backend-api/codex/responses: it says {words}",
    )


def asking(body: JsonObject, *names: str, effort: str | None = "xhigh") -> JsonObject:
    """Return a request as it is to be once the program's configuration has had its say."""
    tools: list[Json] = [{"type": "function", "name": name} for name in names]
    return {**body, "tools": tools, "reasoning": {"effort": effort}}


def in_input(body: JsonObject) -> JsonObject:
    """Return a request whose tools ride in an item of its input."""
    carrier: JsonObject = {"type": "additional_tools", "tools": body["tools"]}
    rest = {key: value for key, value in body.items() if key != "tools"}
    return {**rest, "input": [carrier, *get_list(body, "input")]}


ADDED = ("shell", "apply_patch", "view_image")
MERGED = (asking(FIRST, *ADDED, "bash"), asking(SECOND, *ADDED, "bash"))
#: OpenCode's.
TITLE = asking({"input": [PROMPT_ITEM]}, *ADDED)


def overridden(*bodies: JsonObject, tools_in_input: bool = False) -> tuple[str, ...]:
    return judged(
        scenario=scenario("overrides"),
        seen=tuple(map(turn, bodies)),
        tools_in_input=tools_in_input,
    )


def test_overrides_have_arrived_when_each_request_shows_them() -> None:
    assert overridden(*MERGED) == ()
    assert overridden(*map(in_input, MERGED), tools_in_input=True) == ()


def test_a_request_that_brought_no_tools_may_have_the_built_in_ones_alone() -> None:
    assert overridden(TITLE, *MERGED) == ()
    assert overridden(asking({"input": [PROMPT_ITEM]}), *MERGED) == ()


NOT_MERGED = "request 2 with tools: the built-in shell is not among them"
ELSEWHERE = "they stand in another place than the program's"


@pytest.mark.parametrize(
    ("bodies", "problems"),
    [
        ((MERGED[0], asking(SECOND, "bash")), (NOT_MERGED,)),
        (
            (MERGED[0], asking(SECOND, *ADDED)),
            ("the program's own tools were offered in 1 requests, not in 2",),
        ),
        (
            tuple(map(in_input, MERGED)),
            (f"request 1 with tools: {ELSEWHERE}", f"request 2 with tools: {ELSEWHERE}"),
        ),
        (
            (MERGED[0], asking(SECOND, *ADDED, "bash", effort="medium")),
            ('request 2: the effort was "medium", not xhigh',),
        ),
        (
            ({**MERGED[0], "reasoning": None}, MERGED[1]),
            ("request 1: the effort was null, not xhigh",),
        ),
        (
            (asking({"input": [PROMPT_ITEM]}, effort="low"), *MERGED),
            ('request 1: the effort was "low", not xhigh',),
        ),
    ],
    ids=[
        "not merged",
        "the program's left out",
        "another place",
        "the program's own effort",
        "no effort",
        "a side request's own effort",
    ],
)
def test_an_override_that_does_not_show_is_a_problem(
    bodies: tuple[JsonObject, ...], problems: tuple[str, ...]
) -> None:
    assert overridden(*bodies) == problems


def test_a_lite_models_tools_must_stay_in_its_input() -> None:
    assert overridden(*MERGED, tools_in_input=True) == (
        f"request 1 with tools: {ELSEWHERE}",
        f"request 2 with tools: {ELSEWHERE}",
    )


def test_a_scenario_without_overrides_asks_for_none() -> None:
    bodies = (asking(FIRST, "bash", effort=None), asking(SECOND, "bash", effort="low"))
    assert judged(seen=tuple(map(turn, bodies))) == ()


def test_a_fault_that_asks_for_nothing_but_patience_is_repaired_by_the_same_token() -> None:
    assert repaired("500", turn(FIRST)) == ()


def test_another_repair_than_the_expected_one_is_a_problem() -> None:
    assert repaired("500", on_two(FIRST)) == ("the repair was rotate, not retry",)


def test_a_request_that_was_not_repeated_was_not_repaired() -> None:
    assert repaired("500") == ("the request that met the fault was not repeated",)


def test_a_repeat_by_the_program_itself_is_no_repair() -> None:
    log = (
        "12:00:00 warning turn failed              fault=overloaded attempts=1",
        "12:00:02 info    turn completed           account=one attempts=1",
    )
    assert repaired("500", turn(FIRST), log=log) == (
        "the relay served no turn in two attempts",
        "the relay failed a turn instead of repairing it",
    )


def test_a_client_that_is_told_has_to_repair_it_itself() -> None:
    log = ("12:00:00 warning turn failed              fault=limited attempts=1", REPAIRED)
    assert judged(**EXHAUSTED | {"relay_log": log}) == (
        "the relay failed a turn instead of repairing it",
    )


EXHAUSTED = {
    "scenario": scenario("exhausted"),
    "seen": (turn(FIRST), turn(SECOND, status=429), on_two(SECOND_STRIPPED)),
    "quota_back_at_s": 3600.0,
    "relay_log": (REPAIRED,),
}


def test_a_turn_may_go_on_elsewhere_without_the_reasoning_that_is_another_accounts() -> None:
    assert judged(**EXHAUSTED) == ()


def test_an_account_is_repeated_to_with_every_byte_of_what_it_can_read() -> None:
    *seen, _ = REFRESHED_TWICE["seen"]
    stripped = turn(SECOND_STRIPPED, token="t3")
    assert judged(**REFRESHED_TWICE | {"seen": (*seen, stripped)}) == (
        "the request that met the fault was not repeated",
    )


def test_a_mishap_that_nobody_met_proves_nothing() -> None:
    seen = (turn(FIRST), turn(SECOND))
    assert "the mishap was met on nobody, not on one" in judged(**EXHAUSTED | {"seen": seen})


def test_a_mishap_may_be_met_first_by_a_side_request() -> None:
    title = {"input": [PROMPT_ITEM]}
    seen = (turn(FIRST), turn(title, status=429), on_two(title), on_two(SECOND_STRIPPED))
    assert judged(**EXHAUSTED | {"seen": seen}) == ()
    not_repaired = (turn(FIRST), turn(title, status=429), on_two(SECOND_STRIPPED))
    assert judged(**EXHAUSTED | {"seen": not_repaired}) == (
        "the request that met the fault was not repeated",
    )


def test_a_mishap_of_the_account_that_the_conversation_left_is_no_mishap() -> None:
    seen = (turn(FIRST), on_two(SECOND, status=429), turn(SECOND))
    assert "the mishap was met on two, not on one" in judged(**EXHAUSTED | {"seen": seen})


def test_an_account_is_left_alone_until_its_quota_is_back() -> None:
    limited, again = turn(SECOND, status=429), turn(SECOND, status=429, arrived_at_s=3598.0)
    served = on_two(SECOND_STRIPPED)
    problem = "account one was asked 2.0 s before its quota was back"
    assert problem in judged(**EXHAUSTED | {"seen": (turn(FIRST), limited, served, again)})
    later = attrs.evolve(again, status=200, arrived_at_s=3600.0)
    assert judged(**EXHAUSTED | {"seen": (turn(FIRST), limited, served, later)}) == ()


SIGNED_OUT = account("one", before="t1", needs_reauth=True)
#: The backend cannot tell whose a withdrawn token was.
WITHDRAWN = turn(SECOND, account=None, status=401)
REVOKED = {
    "scenario": scenario("revoked"),
    "seen": (turn(FIRST), WITHDRAWN, refresh(401), on_two(SECOND_STRIPPED)),
    "accounts": {"one": SIGNED_OUT, "two": TWO},
    "relay_log": (REPAIRED,),
}


def test_a_revoked_account_alone_must_sign_in_again() -> None:
    assert judged(**REVOKED) == ()


@pytest.mark.parametrize(
    ("accounts", "problem"),
    [
        ({"one": ONE, "two": TWO}, "account one: needs_reauth is false"),
        (
            {"one": SIGNED_OUT, "two": account("two", before="u1", needs_reauth=True)},
            "account two: needs_reauth is true",
        ),
        (
            {"one": SIGNED_OUT, "two": account("two", before="u0", after="u1")},
            "account two: its file was changed (access_token)",
        ),
    ],
    ids=["unmarked", "both marked", "the other one changed"],
)
def test_a_wrong_mark_is_a_problem(accounts: dict[str, Account], problem: str) -> None:
    assert problem in judged(**REVOKED | {"accounts": accounts})


def test_a_refresh_token_that_is_gone_is_presented_once() -> None:
    seen = (turn(FIRST), WITHDRAWN, refresh(401), refresh(401), on_two(SECOND_STRIPPED))
    assert judged(**REVOKED | {"seen": seen}) == (
        "the issuer answered refreshes with (401, 401), not (401,)",
    )


REFRESHED_TWICE = {
    "scenario": scenario("refreshed"),
    "seen": (
        refresh(200),
        turn(FIRST, token="t2"),
        turn(SECOND, account=None, token="t2", status=401),
        refresh(200),
        turn(SECOND, token="t3"),
    ),
    "accounts": {"one": account("one", before="t1", after="t3"), "two": TWO},
    "relay_log": (REPAIRED,),
}


def test_each_expiry_is_followed_by_one_refresh() -> None:
    assert judged(**REFRESHED_TWICE) == ()


def test_a_token_that_is_good_no_more_must_be_exchanged() -> None:
    *seen, last = REFRESHED_TWICE["seen"]
    same_token = turn(SECOND, token="t2")
    assert last.header("authorization") == "Bearer t3"
    assert "the repair was retry, not refresh" in judged(
        **REFRESHED_TWICE | {"seen": (*seen, same_token)}
    )


def test_a_token_that_was_used_and_not_kept_is_a_problem() -> None:
    accounts = {"one": account("one", before="t1", after="t2"), "two": TWO}
    assert judged(**REFRESHED_TWICE | {"accounts": accounts}) == (
        "account one: the token that it used last is not the one in its file",
    )


def test_a_token_of_nobodys_is_a_problem_although_it_was_refused() -> None:
    unknown = turn(SECOND, account=None, token="t0", status=401)
    seen = tuple(unknown if seen.status == 401 else seen for seen in REFRESHED_TWICE["seen"])
    assert "POST /backend-api/codex/responses: the backend knows no such bearer" in judged(
        **REFRESHED_TWICE | {"seen": seen}
    )


SPENT = {
    "scenario": scenario("spent"),
    "seen": (
        turn(FIRST),
        turn(SECOND, status=429, arrived_at_s=2.0),
        on_two(SECOND_STRIPPED, status=429, arrived_at_s=2.1),
        turn(SECOND, arrived_at_s=5.0),
    ),
    "quota_back_at_s": 5.0,
}


def test_when_all_quota_is_spent_everybody_is_asked_once_and_again_when_it_is_back() -> None:
    assert judged(**SPENT) == ()


def test_when_all_quota_is_spent_it_must_have_been_everybodys() -> None:
    seen = (turn(FIRST), turn(SECOND, status=429), on_two(SECOND_STRIPPED))
    assert judged(**SPENT | {"seen": seen}) == ("the mishap was met on one, not on one, two",)


def test_a_program_that_does_not_wait_for_quota_says_why() -> None:
    ended = SPENT | {
        "ending": Ending.REPORTED,
        "status": 1,
        "stdout": "",
        "seen": SPENT["seen"][:-1],
    }
    assert judged(**ended, stderr="You've hit your Usage Limit.") == ()
    assert judged(**ended, stderr="Something failed.") == ("it did not say 'usage limit'",)


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


# --- a local model, and both in one conversation

NOTES_TOLD = f"{MARK}\n{END_OF_NOTES}\n"
STUBBED = f"{STUB_MARK} an older result was left out"
WARNED = "12:00:00 warning history compaction is off for the rest of this session session=s"
LOCAL = attrs.evolve(
    WELL, scenario=scenario("local-chat"), seen=(), stdout=f"{ANSWER}\n", accounts={}
)


def asked(*outputs: str, at: str, arrived_at_s: float, status: int = 200) -> Seen:
    """Return a turn of a conversation in which tools have put out this so far."""
    if at == "codex":
        items: list[Json] = [OUTPUT_ITEM | {"output": told} for told in outputs]
        return turn(TOOLS | {"input": [PROMPT_ITEM, *items]}, arrived_at_s=arrived_at_s)
    results: list[Json] = [{"role": "tool", "content": told} for told in outputs]
    return Seen(
        method="POST",
        path="/v1/chat/completions",
        headers=[],
        body=TOOLS | {"messages": [PROMPT_ITEM, *results]},
        arrived_at_s=arrived_at_s,
        status=status,
        finished=True,
    )


def local_turns(*told: tuple[str, ...], status: int = 200) -> tuple[Seen, ...]:
    return tuple(
        asked(*outputs, at="local", arrived_at_s=float(place), status=status)
        for place, outputs in enumerate(told)
    )


SERVED_LOCALLY = attrs.evolve(LOCAL, local_seen=local_turns((), (MARK,)))


def test_a_conversation_with_a_local_model_is_fine() -> None:
    assert problems_of(SERVED_LOCALLY) == ()


def test_codex_must_not_be_asked_in_a_local_model_s_stead() -> None:
    evidence = attrs.evolve(SERVED_LOCALLY, seen=(turn(FIRST),), accounts={"one": ONE})
    assert "Codex was asked" in problems_of(evidence)


def test_a_local_model_must_not_refuse() -> None:
    evidence = attrs.evolve(LOCAL, local_seen=local_turns((), (MARK,), status=400))
    assert "the local model answered 400, 400" in problems_of(evidence)


def test_a_local_model_must_be_asked_in_each_turn() -> None:
    evidence = attrs.evolve(LOCAL, local_seen=local_turns((MARK,)))
    assert "the local model was asked 1 times with tools" in problems_of(evidence)


def test_a_local_model_is_not_asked_where_there_is_none() -> None:
    assert "the local model was asked" in judged(local_seen=local_turns(()))


def test_no_key_of_the_client_reaches_a_local_model() -> None:
    first, second = SERVED_LOCALLY.local_seen
    leaking = attrs.evolve(second, headers=[("authorization", f"Bearer {CLIENT_KEY}")])
    (problem,) = problems_of(attrs.evolve(SERVED_LOCALLY, local_seen=(first, leaking)))
    assert "authorization carries a secret" in problem


def mixed(*, second: str = STUBBED, fourth: str = NOTES_TOLD, warnings: int = 1) -> Evidence:
    """Return a conversation of four runs; `second` and `fourth`: the oldest result in these."""
    turns = [
        asked(at="local", arrived_at_s=0),
        asked(NOTES_TOLD, at="local", arrived_at_s=1),
        asked(NOTES_TOLD, at="local", arrived_at_s=2),
        asked(second, NOTES_TOLD, at="local", arrived_at_s=3),
        asked(NOTES_TOLD, NOTES_TOLD, at="codex", arrived_at_s=4),
        asked(NOTES_TOLD, NOTES_TOLD, NOTES_TOLD, at="codex", arrived_at_s=5),
        asked(fourth, NOTES_TOLD, NOTES_TOLD, at="local", arrived_at_s=6),
        asked(fourth, NOTES_TOLD, NOTES_TOLD, NOTES_TOLD, at="local", arrived_at_s=7),
    ]
    return attrs.evolve(
        WELL,
        scenario=scenario("mixed"),
        stdout=f"{ANSWER}\n" * 4,
        seen=tuple(one for one in turns if "codex" in one.path),
        local_seen=tuple(one for one in turns if "codex" not in one.path),
        relay_log=(WARNED,) * warnings,
    )


def test_history_is_compacted_until_codex_is_asked_and_never_again() -> None:
    assert problems_of(mixed()) == ()


def test_history_must_be_compacted_before_codex_is_asked() -> None:
    told = problems_of(mixed(second=NOTES_TOLD))
    assert told == (
        "request 4 with tools: results are whole, whole",
        "no result became a stub",
    )


def test_history_must_not_be_compacted_after_codex_was_asked() -> None:
    told = problems_of(mixed(fourth=STUBBED))
    assert told[0] == "request 7 with tools: results are stub, whole, whole"


@pytest.mark.parametrize("times", [0, 2])
def test_the_relay_warns_once_about_compaction(times: int) -> None:
    told = problems_of(mixed(warnings=times))
    assert told == (f"the relay warned {times} times about compaction, not once",)


def test_each_run_must_print_the_answer() -> None:
    told = problems_of(attrs.evolve(mixed(), stdout=ANSWER))
    assert told == ("1 of 4 runs printed the answer",)


def called(*calls: tuple[str, str]) -> JsonObject:
    """A request in which each call (its id) has an output."""
    items: list[Json] = [{"type": "function_call", "call_id": call} for call, _ in calls]
    items += [
        {"type": "function_call_output", "call_id": call, "output": output}
        for call, output in calls
    ]
    return TOOLS | {"input": items}


def told(name: str, *bodies: Json, **changes: object) -> tuple[str, ...]:
    """What is wrong with a run of a scenario in which the backend was sent these requests."""
    wanted = scenario(name)
    asked = {
        "scenario": wanted,
        "stdout": f"{wanted.answer}\n" * wanted.runs,
        "seen": tuple(turn(body, headers=(("session-id", "s"),)) for body in bodies),
    }
    return judged(**(asked | changes))


def test_words_alone_call_no_tool() -> None:
    assert told("text", FIRST) == ()
    assert told("text", FIRST, called(("a", MARK))) == (
        "the backend got a tool's output, though it called none",
    )


def test_two_calls_bring_two_outputs_each_its_own() -> None:
    assert told("parallel", FIRST, called(("a", MARK), ("b", SECOND_MARK))) == ()
    for wrong in ([("a", MARK)], [("a", SECOND_MARK), ("b", MARK)], [("a", MARK), ("b", MARK)]):
        assert told("parallel", FIRST, called(*wrong)) == (
            "the backend never got the tool's output",
        )


def test_thoughts_come_back_with_their_summary_and_are_shown() -> None:
    thought: JsonObject = {
        "type": "reasoning",
        "encrypted_content": "e",
        "summary": [{"type": "summary_text", "text": text} for text in THOUGHTS],
    }
    answered = called(("a", MARK))
    items = get_list(answered, "input")
    back = answered | {"input": [thought, *items]}
    bare = answered | {"input": [{**thought, "encrypted_content": None}, *items]}
    shown = {"stderr": "\n".join(THOUGHTS).replace("*", ""), "shows_thoughts": True}
    assert told("reasoning", FIRST, back, echoes_reasoning=True, **shown) == ()
    assert told("reasoning", FIRST, bare, echoes_reasoning=True) == (
        "the backend never got its encrypted reasoning back, with its summary",
    )
    assert len(told("reasoning", FIRST, back, shows_thoughts=True)) == len(THOUGHTS)


def test_a_file_that_was_to_be_changed_is_looked_at() -> None:
    answered, wanted = called(("a", "done")), dict(scenario("patch").changed)
    assert told("patch", FIRST, answered, files=wanted) == ()
    (problem,) = told("patch", FIRST, answered, files={"greeting.txt": "good morning"})
    assert problem.startswith("greeting.txt holds 'good morning', not ")


def test_a_picture_arrives_as_it_went_in() -> None:
    def showing(url: str) -> JsonObject:
        content: list[Json] = [{"type": "input_image", "image_url": url}]
        answered = called(("a", MARK))
        items = get_list(answered, "input")
        return answered | {"input": [{"role": "user", "content": content}, *items]}

    good = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    assert told("image", showing(good)) == ()
    assert told("image", called(("a", MARK))) == (
        "request 1 with tools: not the picture that went in, but none",
    )
    assert len(told("image", showing(good[:-4]))) == 1


def test_a_long_text_arrives_whole() -> None:
    def saying(text: str) -> JsonObject:
        answered = called(("a", MARK))
        items = get_list(answered, "input")
        return answered | {"input": [{"role": "user", "content": f"please\n{text}"}, *items]}

    assert told("long", saying(LONG_TEXT)) == ()
    (problem,) = told("long", saying(LONG_TEXT[:-1]))
    assert problem.startswith("request 1 with tools: its longest text has")


def test_a_title_is_asked_for_while_the_task_is() -> None:
    title: JsonObject = {"input": [PROMPT_ITEM]}
    answered = called(("a", MARK))
    assert told("title", title, FIRST, answered) == ()
    assert told("title", FIRST, answered) == ("it asked for a title 0 times, not once",)
    in_turn = (
        turn(title, arrived_at_s=1.0, headers=(("session-id", "s"),)),
        turn(answered, arrived_at_s=9.0, headers=(("session-id", "s"),)),
    )
    assert told("title", seen=in_turn) == (
        "title and task were asked for 8.0 s apart, one after the other",
    )


def test_a_second_run_brings_the_first_one_along_in_one_session() -> None:
    first, second = called(("a", MARK)), called(("a", MARK), ("b", MARK))
    assert told("resume", first, second) == ()
    assert told("resume", first, called(("b", MARK))) == ("its last request had 1 results, not 2",)
    others = (
        turn(first, headers=(("session-id", "s"),)),
        turn(second, headers=(("session-id", "another"),)),
    )
    assert told("resume", seen=others) == ("the turns were those of 2 sessions",)


def test_a_program_that_compacts_asks_for_it_and_has_less_history_then() -> None:
    trigger: JsonObject = {"input": [PROMPT_ITEM, {"type": "compaction_trigger"}]}
    sums_up: JsonObject = {"input": [{"role": "user", "content": "Write a summary."}]}
    whole = called(("a", MARK), ("b", MARK), ("c", MARK))
    short = called(("c", MARK))
    assert told("compaction", called(("a", MARK)), trigger, short) == ()
    assert told("compaction", called(("a", MARK)), sums_up, short) == ()
    assert told("compaction", short) == ("it never asked for a compaction",)
    assert told("compaction", sums_up, whole) == (
        "its last request still had 3 results: it compacted nothing",
    )


def test_two_faults_of_one_turn_take_three_attempts() -> None:
    faulty = (turn(FIRST, fault="503", status=503), turn(FIRST, fault="failed_early"))
    log = "12:00:00 info    turn completed  request=r account=two attempts={} total_ms=4.0"
    seen = (*faulty, on_two(FIRST), turn(called(("a", MARK))))
    wanted = scenario("overload")
    assert judged(scenario=wanted, seen=seen, relay_log=(log.format(3),)) == ()
    assert judged(scenario=wanted, seen=seen, relay_log=(log.format(2),)) == (
        "the relay served no turn in three attempts",
    )


HANDSHAKE = Seen(
    method="GET",
    path="/backend-api/codex/responses",
    headers=[("authorization", "Bearer t1"), ("chatgpt-account-id", "id of one")],
    body=None,
    arrived_at_s=0.0,
    account="one",
    status=101,
    finished=True,
    transport="ws",
    socket=1,
)


def message(
    body: JsonObject,
    *,
    after: Seen | None = None,
    fault: str | None = None,
    account: str | None = "one",
    status: int = 200,
) -> Seen:
    """Return a message; behind `after` it goes on from that one's response with its last item."""
    sent = {"type": "response.create", **body}
    if after is not None:
        sent |= {"previous_response_id": "resp_1", "input": get_list(body, "input")[-1:]}
    seen = turn(sent, fault=fault, account=account, status=status)
    return attrs.evolve(seen, method="WS", transport="ws", socket=1, whole=body)


HEARD = "12:00:00 info    turn completed  request=1 client_over=websocket account=one attempts=1"
WARM_UP = message({"generate": False, "input": []})
BEGUN = message(FIRST)
GONE_ON = message(SECOND, after=BEGUN)
#: What the relay did with both sides over WebSockets.
OVER: dict[str, object] = {
    "client_websocket": True,
    "backend_websocket": True,
    "seen": (HANDSHAKE, WARM_UP, BEGUN, GONE_ON),
    "relay_log": (HEARD, HEARD),
}


def test_a_conversation_over_websockets_that_went_well_has_no_problems() -> None:
    assert judged(**OVER) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"backend_websocket": False}, "the backend was asked for a WebSocket 1 times"),
        (
            {"seen": (HANDSHAKE, WARM_UP, BEGUN, turn(SECOND))},
            "1 of 2 turns went over HTTP",
        ),
        ({"seen": (turn(FIRST), turn(SECOND))}, "no turn went to the backend over a WebSocket"),
        (
            {"seen": (HANDSHAKE, BEGUN, GONE_ON)},
            "the backend was warmed up 0 times",
        ),
        (
            {"seen": (HANDSHAKE, WARM_UP, BEGUN, message(SECOND))},
            "the tool's output went up with the whole conversation before it",
        ),
        (
            {"seen": (*[HANDSHAKE] * 5, WARM_UP, BEGUN, GONE_ON)},
            "5 handshakes for 2 turns",
        ),
        (
            {"relay_log": (HEARD, HEARD.replace("client_over=websocket ", ""))},
            "1 of 2 turns came over HTTP",
        ),
        ({"client_websocket": False}, "2 turns came over a WebSocket"),
    ],
)
def test_what_is_wrong_over_websockets_is_said(changes: dict[str, object], problem: str) -> None:
    assert problem in judged(**OVER | changes)


def test_a_fault_that_nobody_sees_is_neither_logged_nor_printed() -> None:
    limit = message(FIRST, fault="connection_limit", status=400)
    second = attrs.evolve(HANDSHAKE, socket=2)
    seen = (HANDSHAKE, WARM_UP, limit, second, BEGUN, GONE_ON)
    well = {**OVER, "scenario": scenario("reconnect"), "seen": seen}
    assert judged(**well) == ()
    told = judged(**well | {"stderr": "ERROR: Reconnecting... 1/5"})
    assert told == ("the program said 'Reconnecting... 1/5'",)
    failed = HEARD.replace("completed", "failed")
    told = judged(**well | {"relay_log": (failed, HEARD)})
    assert told == ("the relay failed a turn instead of repairing it",)


def test_after_426_a_turn_goes_over_http_and_nobody_asks_again() -> None:
    refused = attrs.evolve(HANDSHAKE, status=426, socket=None, fault="upgrade426")
    well = {**OVER, "scenario": scenario("upgrade-426")}
    assert judged(**well | {"seen": (refused, turn(FIRST), turn(SECOND))}) == ()
    again = (refused, turn(FIRST), HANDSHAKE, message(SECOND))
    assert judged(**well | {"seen": again}) == ("2 handshakes, though there are no WebSockets",)
    kept = (HANDSHAKE, BEGUN, GONE_ON)
    assert "no turn went over HTTP" in judged(**well | {"seen": kept})


def test_a_request_is_repeated_whatever_carries_it() -> None:
    told = message(SECOND, after=BEGUN, account=None, status=401)
    fresh = attrs.evolve(message(SECOND), headers=on_two(SECOND).headers, account="two")
    assert same_request(told, fresh, reasoning=True)
    assert same_request(told, turn(SECOND), reasoning=True)
    assert not same_request(BEGUN, fresh, reasoning=False)
