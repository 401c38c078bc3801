"""Decides whether a run went as its scenario says, from what was seen on both sides of the relay.

Pure: every check is a function of `Evidence` that says in words what is wrong.
"""

from __future__ import annotations

import base64
import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.compaction.settings import STUB_MARK
from codexrelay.protocol.capabilities import HEADER
from codexrelay.protocol.raw import JsonObject, dump, get_object, get_text, is_object
from codexrelay.protocol.tool_schema import BUILT_IN
from harness.compat.conversation import (
    encrypted_reasoning,
    first_served,
    has_tools,
    is_compaction,
    is_refresh,
    is_turn,
    outputs_by_call,
    picture_urls,
    same_request,
    texts_in,
    tool_names,
    tool_outputs,
)
from harness.compat.drivers.codex_cli import CLIENT_ACCOUNT_ID
from harness.compat.scenarios import (
    END_OF_NOTES,
    LOCAL_MODEL,
    MARK,
    PICTURE,
    TITLE_WORDS,
    Ending,
    Mishap,
    Repair,
    Scenario,
)
from harness.simulator import Seen
from harness.simulator.script import THOUGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


#: From SIGINT until the backend has seen its request abandoned.
LEAVE_S: Final = 1.0
#: What every program presents as its key.
CLIENT_KEY: Final = "compat-client-key-4711"
#: What belongs to the client alone.
CLIENT_SECRETS: Final = (CLIENT_KEY, CLIENT_ACCOUNT_ID)
#: What is said to the relay alone.
_TO_THE_RELAY: Final = ("codex_capabilities", HEADER)
#: A tool that the relay can offer and no program has, and all that it can offer.
_OFFERED: Final = "shell"
_CAN_BE_OFFERED: Final = frozenset(get_text(tool, "name") or "" for tool in BUILT_IN)
#: Requests of the conversation, if nothing goes wrong.
_TURNS: Final = 2

#: The relay's log line of a turn that a client got after a fault it did not see.
_REPAIRED: Final = re.compile(r"turn completed .*\battempts=(\d+)\b")
_NUMBERS: Final = {2: "two", 3: "three"}
#: And that of one whose fault it was told.
_FAILED: Final = " turn failed "
#: The relay's log lines of turns, and what they say of those whose client speaks WebSocket.
_TURN_LINES: Final = (" turn completed ", _FAILED)
_HEARD_BY_WEBSOCKET: Final = " client_over=websocket"
#: Codex CLI's word of a turn that it tries again, or over HTTP.
_CODEX_RETRIES: Final = re.compile(r"Reconnecting[^\n]*|Falling back[^\n]*|stream error[^\n]*")
_NO_WEBSOCKETS: Final = 426
#: Most handshakes of one turn.
_HANDSHAKES: Final = 2
#: What the backend answers when it is the account that cannot serve.
_ACCOUNT_STATUSES: Final = (401, 429)


@attrs.frozen(kw_only=True)
class Account:
    """One of the accounts behind the relay."""

    workspace_id: str
    #: The file with its tokens, before the relay started and after it ended.
    file_before: JsonObject = attrs.field(repr=False)
    file_after: JsonObject = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Evidence:
    """What one run left behind."""

    scenario: Scenario
    ending: Ending
    #: The program's exit status after SIGINT.
    interrupted_status: int
    #: See `Variant.tools_in_input`.
    tools_in_input: bool
    #: Its exit status in this run; None if it was killed because its time was up.
    status: int | None
    stdout: str
    stderr: str
    #: What the backend saw, in order.
    seen: tuple[Seen, ...]
    #: What the local model was asked, in order.
    local_seen: tuple[Seen, ...] = ()
    #: By name.
    accounts: dict[str, Account]
    #: When quota that a mishap has spent is there again, on trio's clock; None if none was spent.
    quota_back_at_s: float | None
    #: When the program was interrupted, on trio's clock; None if it was not.
    interrupted_at_s: float | None
    #: The relay's exit status after SIGTERM.
    relay_status: int | None
    #: What it logged, line by line.
    relay_log: tuple[str, ...]
    #: What became of the files that the scenario speaks of: name -> text.
    files: Mapping[str, str] = attrs.field(factory=dict)
    #: The program shows the model's thoughts where it is told to.
    shows_thoughts: bool = False
    #: It sends them back with the tool's output, encrypted.
    echoes_reasoning: bool = False
    #: It speaks WebSocket to the relay.
    client_websocket: bool = False
    #: The relay does to Codex.
    backend_websocket: bool = False

    @property
    def turns(self) -> tuple[Seen, ...]:
        """Return the model requests."""
        return tuple(filter(is_turn, self.seen))

    @property
    def all_turns(self) -> tuple[Seen, ...]:
        """Return the model requests to either backend, in order."""
        turns = (*self.turns, *filter(is_turn, self.local_seen))
        return tuple(sorted(turns, key=lambda turn: turn.arrived_at_s))

    @property
    def began_on(self) -> str | None:
        """Return the account that the conversation began on; None if it never began."""
        first = first_served(self.seen)
        return None if first is None else first.account

    def owner_of(self, turn: Seen) -> str | None:
        """Return the account whose bearer a model request carried, also if it is good no more.

        None: the backend has never taken it for anybody's.
        """
        if turn.account is not None:
            return turn.account
        bearer = turn.header("authorization")
        known = (
            seen for seen in self.seen if seen.account and seen.header("authorization") == bearer
        )
        return next((seen.account for seen in known), None)

    @property
    def refused(self) -> tuple[Seen, ...]:
        """Return the model requests that an account could not serve.

        OpenCode's request for a title may be the first to meet a mishap, and what the relay learns
        from it spares the follow-up.
        """
        return tuple(turn for turn in self.turns if turn.status in _ACCOUNT_STATUSES)


def problems_of(evidence: Evidence) -> tuple[str, ...]:
    """Return everything that is wrong with a run; nothing if it went as it should."""
    return tuple(problem for check in _CHECKS for problem in check(evidence))


def problems_seen_from_outside(evidence: Evidence) -> tuple[str, ...]:
    """Return what is wrong with a run through any relay, of which only the two sides are seen."""
    return tuple(problem for check in _FROM_OUTSIDE for problem in check(evidence))


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
    answer = evidence.scenario.answer
    answered = answer in evidence.stdout
    if evidence.ending is Ending.ANSWERED and not answered:
        yield f"it did not print {answer!r}"
    if evidence.ending is not Ending.ANSWERED and answered:
        yield "it printed an answer, though none was complete"
    printed = f"{evidence.stdout}\n{evidence.stderr}".lower()
    if evidence.ending is Ending.REPORTED and evidence.scenario.report not in printed:
        yield f"it did not say {evidence.scenario.report!r}"


def _tool_output_came_back(evidence: Evidence) -> Iterator[str]:
    if evidence.ending is not Ending.ANSWERED:
        return
    marks = evidence.scenario.marks
    by_call = [outputs_by_call(turn.request) for turn in evidence.all_turns]
    if not marks and any(by_call):
        yield "the backend got a tool's output, though it called none"
    elif marks and not any(_come_back(marks, outputs) for outputs in by_call):
        yield "the backend never got the tool's output"


def _come_back(marks: Sequence[str], outputs: Mapping[str, str]) -> bool:
    """Tell whether each mark was printed by a call of its own, in the order of the calls."""
    printed = list(outputs.values())[-len(marks) :]
    return len(printed) == len(marks) and all(map(operator.contains, printed, marks))


def _fault_happened_once(evidence: Evidence) -> Iterator[str]:
    happened = tuple(seen.fault for seen in evidence.seen if seen.fault is not None)
    if happened != evidence.scenario.faults:
        yield f"the backend's faults were {happened}, not {evidence.scenario.faults}"


def _nothing_of_the_client_leaked(evidence: Evidence) -> Iterator[str]:
    for seen in (*evidence.seen, *evidence.local_seen):
        for name, value in seen.headers:
            if any(secret in value for secret in CLIENT_SECRETS):
                yield f"{seen.method} {seen.path}: header {name} carries a secret of the client"
        body = dump(seen.body).decode()
        if any(secret in body for secret in CLIENT_SECRETS):
            yield f"{seen.method} {seen.path}: the body carries a secret of the client"


def _what_was_said_to_the_relay_went_no_further(evidence: Evidence) -> Iterator[str]:
    for seen in (*evidence.seen, *evidence.local_seen):
        told = [*(text for header in seen.headers for text in header), dump(seen.body).decode()]
        for words in _TO_THE_RELAY:
            if any(words in text.lower() for text in told):
                yield f"{seen.method} {seen.path}: it says {words}"


def _tools_were_merged(evidence: Evidence) -> Iterator[str]:
    asked = evidence.scenario.capabilities or {}
    if asked.get("tool_schema_mode") != "merge_custom":
        return
    armed = [turn for turn in evidence.turns if has_tools(turn)]
    for number, turn in enumerate(armed, start=1):
        if _OFFERED not in tool_names(turn):
            yield f"request {number} with tools: the built-in {_OFFERED} is not among them"
        in_input = not (is_object(turn.request) and "tools" in turn.request)
        if in_input is not evidence.tools_in_input:
            yield f"request {number} with tools: they stand in another place than the program's"
    # OpenCode's request for a title brings no tools: there the relay's are alone.
    merged = sum(not tool_names(turn) <= _CAN_BE_OFFERED for turn in armed)
    if merged < _TURNS:
        yield f"the program's own tools were offered in {merged} requests, not in {_TURNS}"


def _effort_is_that_of_the_name(evidence: Evidence) -> Iterator[str]:
    wanted = evidence.scenario.effort
    for number, turn in enumerate(evidence.turns, start=1):
        reasoning = get_object(turn.request, "reasoning") if is_object(turn.request) else {}
        if wanted is not None and reasoning.get("effort") != wanted:
            told = dump(reasoning.get("effort")).decode()
            yield f"request {number}: the effort was {told}, not {wanted}"


def _accounts_match(evidence: Evidence) -> Iterator[str]:
    for turn in evidence.turns:
        owner = evidence.owner_of(turn)
        if owner is None:
            yield f"{turn.method} {turn.path}: the backend knows no such bearer"
        elif turn.header("chatgpt-account-id") != evidence.accounts[owner].workspace_id:
            yield f"{turn.method} {turn.path}: not the account id of the bearer's account"


def _fault_was_repaired(evidence: Evidence) -> Iterator[str]:
    if evidence.scenario.repair is None:
        return
    # Programs repeat requests too; only the relay's own log tells that it was not one of them.
    wanted = 1 + max(1, len(evidence.scenario.faults))
    needed = {int(found[1]) for line in evidence.relay_log if (found := _REPAIRED.search(line))}
    if wanted not in needed:
        yield f"the relay served no turn in {_NUMBERS.get(wanted, wanted)} attempts"
    if any(_FAILED in line for line in evidence.relay_log):
        yield "the relay failed a turn instead of repairing it"
    attempts = iter(evidence.turns)
    faulty = next((turn for turn in attempts if turn.fault or turn in evidence.refused), None)
    repeat = next(
        (turn for turn in attempts if faulty and _is_repeat(turn, faulty, evidence)), None
    )
    if faulty is None or repeat is None:
        yield "the request that met the fault was not repeated"
    elif (repair := _repair_between(faulty, repeat, evidence)) is not evidence.scenario.repair:
        yield f"the repair was {repair.value}, not {evidence.scenario.repair.value}"


def _is_repeat(turn: Seen, earlier: Seen, evidence: Evidence) -> bool:
    same_account = evidence.owner_of(turn) == evidence.owner_of(earlier)
    return same_request(turn, earlier, reasoning=same_account)


def _repair_between(faulty: Seen, repeat: Seen, evidence: Evidence) -> Repair:
    if evidence.owner_of(repeat) != evidence.owner_of(faulty):
        return Repair.ROTATE
    same_token = repeat.header("authorization") == faulty.header("authorization")
    return Repair.RETRY if same_token else Repair.REFRESH


def _mishap_was_met(evidence: Evidence) -> Iterator[str]:
    mishap = evidence.scenario.mishap
    if mishap is None:
        return
    met = {evidence.owner_of(turn) for turn in evidence.refused}
    struck = set(evidence.accounts) if mishap is Mishap.ALL_SPENT else {evidence.began_on}
    if met != struck:
        yield f"the mishap was met on {_listed(met)}, not on {_listed(struck)}"


def _spent_accounts_were_left_alone(evidence: Evidence) -> Iterator[str]:
    back_at_s = evidence.quota_back_at_s
    known: set[str | None] = set()
    for turn in evidence.turns:
        owner = evidence.owner_of(turn)
        if back_at_s is not None and turn.arrived_at_s < back_at_s and owner in known:
            seconds = back_at_s - turn.arrived_at_s
            yield f"account {owner} was asked {seconds:.1f} s before its quota was back"
        if turn.status == 429:
            known.add(owner)


def _issuer_was_asked(evidence: Evidence) -> Iterator[str]:
    answers = tuple(seen.status for seen in evidence.seen if is_refresh(seen))
    if answers != evidence.scenario.refreshes:
        yield f"the issuer answered refreshes with {answers}, not {evidence.scenario.refreshes}"


def _files_are_right(evidence: Evidence) -> Iterator[str]:
    revoked = evidence.scenario.mishap is Mishap.REVOKED
    for name, account in evidence.accounts.items():
        before, after = account.file_before, account.file_after
        concerned = name == evidence.began_on
        if (after.get("needs_reauth") is True) is not (revoked and concerned):
            yield f"account {name}: needs_reauth is {dump(after.get('needs_reauth')).decode()}"
        if not (concerned and evidence.scenario.refreshes) and after != before:
            changed = [key for key in after if after[key] != before.get(key)]
            yield f"account {name}: its file was changed ({', '.join(changed)})"
        used = [turn for turn in evidence.turns if turn.account == name]
        newest = f"Bearer {get_text(after, 'access_token')}"
        if used and used[-1].header("authorization") != newest:
            yield f"account {name}: the token that it used last is not the one in its file"


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


def _each_model_was_asked_where_it_is(evidence: Evidence) -> Iterator[str]:
    """Judge where turns went; titles and the like may go to a model of an earlier run."""
    local = [turn for turn in evidence.local_seen if is_turn(turn)]
    wanted = evidence.scenario.models
    if any(turn.status != 200 for turn in local):
        yield f"the local model answered {', '.join(str(turn.status) for turn in local)}"
    if evidence.scenario.local is None and local:
        yield "the local model was asked"
    codex_runs = len([model for model in wanted if model != LOCAL_MODEL])
    if wanted and not codex_runs and evidence.turns:
        yield "Codex was asked"
    armed = [turn for turn in local if has_tools(turn)]
    answers = evidence.stdout.count(evidence.scenario.answer)
    if wanted and len(armed) != _TURNS * (len(wanted) - codex_runs):
        yield f"the local model was asked {len(armed)} times with tools"
    runs = evidence.scenario.runs
    # A run that compacts in its middle may be answered from the summary, in other words.
    least = runs - evidence.scenario.compacts_itself
    many = bool(wanted) or runs > 1
    if many and answers < least and evidence.ending is Ending.ANSWERED:
        yield f"{answers} of {runs} runs printed the answer"


def _thoughts_came_back(evidence: Evidence) -> Iterator[str]:
    if not evidence.scenario.thinks:
        return
    shown = f"{evidence.stdout}\n{evidence.stderr}"
    for thought in THOUGHTS if evidence.shows_thoughts else ():
        if _plainly(thought) not in _plainly(shown):
            yield f"it did not show {thought!r}"
    # OpenCode sends back the last part of a summary alone.
    follow_ups = [turn for turn in evidence.turns if any(tool_outputs(turn.request))]
    if evidence.echoes_reasoning and not any(
        any(text in summary for text in THOUGHTS)
        for turn in follow_ups
        for summary in encrypted_reasoning(turn.request)
    ):
        yield "the backend never got its encrypted reasoning back, with its summary"


def _plainly(text: str) -> str:
    """Return a text without its marks and gaps: programs show thoughts in their own dress."""
    return "".join(text.replace("*", "").split())


def _files_were_changed(evidence: Evidence) -> Iterator[str]:
    for name, wanted in evidence.scenario.changed.items():
        if (found := evidence.files.get(name)) != wanted:
            yield f"{name} holds {found!r}, not {wanted!r}"


def _picture_arrived(evidence: Evidence) -> Iterator[str]:
    picture = evidence.scenario.wishes.picture
    if picture is None:
        return
    wanted = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    for number, turn in enumerate(filter(has_tools, evidence.turns), start=1):
        urls = tuple(picture_urls(turn.request))
        if urls != (wanted,):
            other = ", ".join(f"{len(url)} characters" for url in urls) or "none"
            yield f"request {number} with tools: not the picture that went in, but {other}"


def _text_arrived_whole(evidence: Evidence) -> Iterator[str]:
    wanted = evidence.scenario.wishes.attached
    for number, turn in enumerate(filter(has_tools, evidence.turns), start=1):
        if wanted and not any(wanted in text for text in texts_in(turn.request)):
            longest = max(map(len, texts_in(turn.request)), default=0)
            yield f"request {number} with tools: its longest text has {longest} characters"


def _title_went_along(evidence: Evidence) -> Iterator[str]:
    if not evidence.scenario.titled:
        return
    titles = [turn for turn in evidence.turns if not has_tools(turn)]
    if len(titles) != 1:
        yield f"it asked for a title {len(titles)} times, not once"
    first = first_served(evidence.seen)
    if not titles or first is None:
        return
    apart_s = abs(first.arrived_at_s - titles[0].arrived_at_s)
    if apart_s >= TITLE_WORDS * evidence.scenario.pace_s:
        yield f"title and task were asked for {apart_s:.1f} s apart, one after the other"
    if any(turn.status != 200 for turn in (titles[0], first)):
        yield f"title and task were answered {titles[0].status} and {first.status}"


def _it_stayed_one_session(evidence: Evidence) -> Iterator[str]:
    scenario = evidence.scenario
    # What sums up a history is a conversation of its own for some.
    if not scenario.titled and (scenario.runs == 1 or scenario.models or scenario.compacts_itself):
        return
    # OpenCode names the session in the body of the task, and not in that of the title.
    sessions = {turn.header("session-id") for turn in filter(has_tools, evidence.turns)}
    if len(sessions) != 1 or None in sessions:
        yield f"the turns were those of {len(sessions)} sessions"


def _history_came_along(evidence: Evidence) -> Iterator[str]:
    scenario = evidence.scenario
    if scenario.runs == 1 or scenario.models:
        return
    counts = [len(list(tool_outputs(turn.request))) for turn in filter(has_tools, evidence.turns)]
    last = counts[-1] if counts else 0
    if scenario.compacts_itself:
        if last >= scenario.runs:
            yield f"its last request still had {last} results: it compacted nothing"
        if not any(map(is_compaction, evidence.seen)):
            yield "it never asked for a compaction"
    elif last != scenario.runs:
        yield f"its last request had {last} results, not {scenario.runs}"


def _history_was_compacted_until_codex_was_asked(evidence: Evidence) -> Iterator[str]:
    if not evidence.scenario.compacts:
        return
    met_codex, stubs = False, 0
    for number, turn in enumerate(filter(has_tools, evidence.all_turns), start=1):
        met_codex = met_codex or turn in evidence.turns
        *older, newest = [_what_is(output) for output in tool_outputs(turn.request)] or ["whole"]
        wanted = "whole" if met_codex else "stub"
        if newest != "whole" or any(kind != wanted for kind in older):
            yield f"request {number} with tools: results are {', '.join([*older, newest])}"
        stubs += older.count("stub")
    if not stubs:
        yield "no result became a stub"
    warned = [line for line in evidence.relay_log if " warning " in line and "compaction" in line]
    if len(warned) != 1:
        yield f"the relay warned {len(warned)} times about compaction, not once"


def _what_is(output: str) -> str:
    """Return what became of a print-out of the notes."""
    if STUB_MARK in output:
        return "stub"
    return "whole" if MARK in output and END_OF_NOTES in output else "something else"


def _nobody_saw_the_fault(evidence: Evidence) -> Iterator[str]:
    if not evidence.scenario.unseen:
        return
    if any(_FAILED in line for line in evidence.relay_log):
        yield "the relay failed a turn instead of repairing it"
    if (words := _CODEX_RETRIES.search(evidence.stderr)) is not None:
        yield f"the program said {words[0]!r}"


def _client_was_heard_as_told(evidence: Evidence) -> Iterator[str]:
    turns = [line for line in evidence.relay_log if any(word in line for word in _TURN_LINES)]
    heard = [line for line in turns if _HEARD_BY_WEBSOCKET in line]
    if evidence.client_websocket and len(heard) < len(turns):
        yield f"{len(turns) - len(heard)} of {len(turns)} turns came over HTTP"
    elif heard and not evidence.client_websocket:
        yield f"{len(heard)} turns came over a WebSocket"


def _turns_were_carried_as_told(evidence: Evidence) -> Iterator[str]:
    handshakes = [seen for seen in evidence.seen if seen.is_handshake]
    messages = [turn for turn in evidence.turns if turn.is_message]
    if not evidence.backend_websocket:
        if handshakes:
            yield f"the backend was asked for a WebSocket {len(handshakes)} times"
        return
    scenario = evidence.scenario
    if evidence.turns and len(handshakes) > _HANDSHAKES * len(evidence.turns):
        yield f"{len(handshakes)} handshakes for {len(evidence.turns)} turns"
    if scenario.over_http:
        if evidence.turns and len(messages) == len(evidence.turns):
            yield "no turn went over HTTP"
        if any(seen.status == _NO_WEBSOCKETS for seen in handshakes) and len(handshakes) > 1:
            yield f"{len(handshakes)} handshakes, though there are no WebSockets"
        return
    if not messages:
        if evidence.turns:
            yield "no turn went to the backend over a WebSocket"
        return
    smooth = not (scenario.faults or scenario.mishap or scenario.models)
    if smooth and len(messages) < len(evidence.turns):
        over_http = len(evidence.turns) - len(messages)
        yield f"{over_http} of {len(evidence.turns)} turns went over HTTP"
    warmed_up = [seen for seen in evidence.seen if seen.is_warm_up]
    if smooth and bool(warmed_up) is not evidence.client_websocket:
        yield f"the backend was warmed up {len(warmed_up)} times"
    last = messages[-1]
    if smooth and scenario.marks and scenario.runs == 1 and last.previous_response_id is None:
        yield "the tool's output went up with the whole conversation before it"


def _relay_stopped_well(evidence: Evidence) -> Iterator[str]:
    if evidence.relay_status != 0:
        yield f"the relay ended with {evidence.relay_status} after SIGTERM"


_CHECKS: Final[tuple[Callable[[Evidence], Iterator[str]], ...]] = (
    _ended_as_it_should,
    _said_what_it_was_told,
    _tool_output_came_back,
    _fault_happened_once,
    _fault_was_repaired,
    _mishap_was_met,
    _spent_accounts_were_left_alone,
    _issuer_was_asked,
    _files_are_right,
    _left_at_once,
    _nothing_of_the_client_leaked,
    _what_was_said_to_the_relay_went_no_further,
    _tools_were_merged,
    _effort_is_that_of_the_name,
    _accounts_match,
    _each_model_was_asked_where_it_is,
    _thoughts_came_back,
    _files_were_changed,
    _picture_arrived,
    _text_arrived_whole,
    _title_went_along,
    _it_stayed_one_session,
    _history_came_along,
    _history_was_compacted_until_codex_was_asked,
    _nobody_saw_the_fault,
    _client_was_heard_as_told,
    _turns_were_carried_as_told,
    _relay_stopped_well,
)

#: Those that need nothing of the relay itself: no log, no files, no configuration.
_FROM_OUTSIDE: Final = (
    _ended_as_it_should,
    _said_what_it_was_told,
    _tool_output_came_back,
    _fault_happened_once,
    _left_at_once,
    _nothing_of_the_client_leaked,
    _picture_arrived,
    _text_arrived_whole,
)


def _listed(names: Iterable[str | None]) -> str:
    return ", ".join(sorted(name or "nobody" for name in names)) or "nobody"
