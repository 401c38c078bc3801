"""Decides whether a run went as its scenario says, from what was seen on both sides of the relay.

Pure: every check is a function of `Evidence` that says in words what is wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import Json, dump, get_list, is_object
from harness.compat.drivers.codex_cli import CLIENT_ACCOUNT_ID
from harness.compat.scenarios import MARK, Ending, Repair, Scenario
from harness.simulator import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: From SIGINT until the backend has seen its request abandoned.
LEAVE_S: Final = 1.0
#: What every program presents as its key.
CLIENT_KEY: Final = "compat-client-key-4711"
#: What belongs to the client alone.
CLIENT_SECRETS: Final = (CLIENT_KEY, CLIENT_ACCOUNT_ID)
#: The final text; no program prints it unless the backend said so.
ANSWER: Final = f"The command printed: {MARK}"

#: The relay's log line of a turn that a client got after a fault it did not see.
_REPAIRED: Final = re.compile(r"turn completed .*\battempts=2\b")
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


@attrs.frozen(kw_only=True)
class Evidence:
    """What one run left behind."""

    scenario: Scenario
    ending: Ending
    #: The program's exit status after SIGINT.
    interrupted_status: int
    #: Its exit status in this run; None if it was killed because its time was up.
    status: int | None
    stdout: str
    #: What the backend saw, in order.
    seen: tuple[Seen, ...]
    #: Workspace id of each simulated account, by its name.
    account_ids: dict[str, str]
    #: When the program was interrupted, on trio's clock; None if it was not.
    interrupted_at_s: float | None
    #: The relay's exit status after SIGTERM.
    relay_status: int | None
    #: What it logged, line by line.
    relay_log: tuple[str, ...]

    @property
    def turns(self) -> tuple[Seen, ...]:
        """Return the model requests."""
        return tuple(
            seen for seen in self.seen if seen.path.partition("?")[0].endswith("/responses")
        )


def problems_of(evidence: Evidence) -> tuple[str, ...]:
    """Return everything that is wrong with a run; nothing if it went as it should."""
    return tuple(problem for check in _CHECKS for problem in check(evidence))


def _ended_as_it_should(evidence: Evidence) -> Iterator[str]:
    status = evidence.status
    if status is None:
        yield "it was still running when its time was up"
        return
    match evidence.ending:
        case Ending.ANSWERED if status != 0:
            yield f"exit status {status}"
        case Ending.REPORTED if status == 0:
            yield "exit status 0, though it got no answer"
        case Ending.INTERRUPTED if status != evidence.interrupted_status:
            yield f"exit status {status} after SIGINT, not {evidence.interrupted_status}"
        case _:
            pass


def _said_what_it_was_told(evidence: Evidence) -> Iterator[str]:
    answered = ANSWER in evidence.stdout
    if evidence.ending is Ending.ANSWERED and not answered:
        yield f"it did not print {ANSWER!r}"
    if evidence.ending is not Ending.ANSWERED and answered:
        yield "it printed an answer, though none was complete"


def _tool_output_came_back(evidence: Evidence) -> Iterator[str]:
    if evidence.ending is not Ending.ANSWERED:
        return
    if not any(MARK in output for turn in evidence.turns for output in tool_outputs(turn.body)):
        yield "the backend never got the tool's output"


def _fault_happened_once(evidence: Evidence) -> Iterator[str]:
    happened = tuple(seen.fault for seen in evidence.seen if seen.fault is not None)
    if happened != evidence.scenario.faults:
        yield f"the backend's faults were {happened}, not {evidence.scenario.faults}"


def _nothing_of_the_client_leaked(evidence: Evidence) -> Iterator[str]:
    for seen in evidence.seen:
        for name, value in seen.headers:
            if any(secret in value for secret in CLIENT_SECRETS):
                yield f"{seen.method} {seen.path}: header {name} carries a secret of the client"
        body = dump(seen.body).decode()
        if any(secret in body for secret in CLIENT_SECRETS):
            yield f"{seen.method} {seen.path}: the body carries a secret of the client"


def _accounts_match(evidence: Evidence) -> Iterator[str]:
    for turn in evidence.turns:
        if turn.account is None:
            yield f"{turn.method} {turn.path}: the backend knows no such bearer"
        elif turn.header("chatgpt-account-id") != evidence.account_ids[turn.account]:
            yield f"{turn.method} {turn.path}: not the account id of the bearer's account"


def _fault_was_repaired(evidence: Evidence) -> Iterator[str]:
    if evidence.scenario.repair is None:
        return
    # Programs repeat requests too; only the relay's own log tells that it was not one of them.
    if not any(_REPAIRED.search(line) for line in evidence.relay_log):
        yield "the relay served no turn in two attempts"
    attempts = iter(evidence.turns)
    faulty = next((turn for turn in attempts if turn.fault is not None), None)
    repeat = next((turn for turn in attempts if faulty and turn.body == faulty.body), None)
    if faulty is None or repeat is None:
        yield "the request that met the fault was not repeated"
    elif (repair := _repair_between(faulty, repeat)) is not evidence.scenario.repair:
        yield f"the repair was {repair.value}, not {evidence.scenario.repair.value}"


def _repair_between(faulty: Seen, repeat: Seen) -> Repair:
    if repeat.account != faulty.account:
        return Repair.ROTATE
    same_token = repeat.header("authorization") == faulty.header("authorization")
    return Repair.RETRY if same_token else Repair.REFRESH


def _left_at_once(evidence: Evidence) -> Iterator[str]:
    if evidence.ending is not Ending.INTERRUPTED:
        return
    if evidence.interrupted_at_s is None:
        yield "it ended before it could be interrupted"
        return
    for turn in evidence.turns:
        if turn.fault is None:
            continue
        if turn.left_at_s is None:
            yield "the backend never saw it leave"
        elif (seconds := turn.left_at_s - evidence.interrupted_at_s) > LEAVE_S:
            yield f"the backend saw it leave after {seconds:.1f} s"


def _relay_stopped_well(evidence: Evidence) -> Iterator[str]:
    if evidence.relay_status != 0:
        yield f"the relay ended with {evidence.relay_status} after SIGTERM"


_CHECKS: Final[tuple[Callable[[Evidence], Iterator[str]], ...]] = (
    _ended_as_it_should,
    _said_what_it_was_told,
    _tool_output_came_back,
    _fault_happened_once,
    _fault_was_repaired,
    _left_at_once,
    _nothing_of_the_client_leaked,
    _accounts_match,
    _relay_stopped_well,
)


def tool_outputs(body: Json) -> Iterator[str]:
    """Return the tool outputs in a request's input, as JSON text."""
    if not is_object(body):
        return
    for item in get_list(body, "input"):
        if is_object(item) and item.get("type") in _OUTPUTS:
            yield dump(item.get("output")).decode()
