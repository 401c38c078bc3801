"""The scenes: what is asked, what goes wrong meanwhile, and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from codexrelay.accounts.lender import RESCAN_S
from codexrelay.errors import in_words
from codexrelay.protocol.raw import dump, get_number, get_object, get_text
from harness.demo.client import CHAT, RESPONSES, tool_call
from harness.demo.facts import Fact, equal, in_ms, same, says, soon, whole
from harness.demo.mixed.running import run as play_mixed
from harness.demo.requests import (
    SHELL,
    assistant,
    chat_request,
    responses_request,
    say,
    tool_exchange,
    tool_outputs,
    user,
)
from harness.demo.stage import Stage, put_account, statuses

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from harness.demo.client import Answer

Play: TypeAlias = Callable[[Stage], Awaitable[list[Fact]]]

SPEECH: Final = (
    "Each word of this answer leaves the simulated backend by itself, "
    "and is on your screen before the next one has left."
)
SHORT_SPEECH: Final = "The client has noticed nothing at all."
SESSION: Final = "a-long-conversation"
#: What is said in it, turn by turn.
SPEECHES: Final = (
    "From here on this session belongs to one account.",
    SHORT_SPEECH,
    "And this is the session's own account again.",
)
COMMAND: Final = "echo hi"
#: From the moment a client closes until the backend is left.
LEAVE_S: Final = 1.0
RESETS_IN_S: Final = 45 * 60.0
#: How much of it may have passed when the client is told.
_RESET_SLACK_S: Final = 20.0
#: Headers of each answer: what the relay calls the turn, who served it, in how many attempts.
_REQUEST_ID: Final = "x-codexrelay-request-id"
_ACCOUNT: Final = "x-codexrelay-account"
_ATTEMPTS: Final = "x-codexrelay-attempts"


@attrs.frozen
class Scene:
    """One thing that the relay does for a client."""

    title: str
    #: Plays it and returns what came of it.
    play: Play
    #: Words of the log lines it must leave, in order.
    logs: tuple[str, ...]
    #: A scene takes a second or two; this is for a machine that has other things to do.
    patience_s: float = 20.0


async def streamed_responses(stage: Stage) -> list[Fact]:
    """Stream an answer in the backend's own protocol."""
    answer = await stage.ask(RESPONSES, responses_request(say(SPEECH)))
    return [
        *_arrived(answer, SPEECH),
        equal("terminal event", answer.terminal, ["response.completed"]),
        same(answer.body, stage.simulator.bodies[-1]),
    ]


async def streamed_chat(stage: Stage) -> list[Fact]:
    """Stream an answer in the other protocol, translated."""
    answer = await stage.ask(CHAT, chat_request([user(say(SPEECH))]))
    return [
        *_arrived(answer, SPEECH),
        equal("finish reason", answer.finish_reasons, ["stop"]),
        equal("last event", answer.last, "[DONE]"),
    ]


async def tool_loop(stage: Stage) -> list[Fact]:
    """Let the model call a tool, run it, and send back what it printed."""
    prompt = user(f"Run the shell command '{COMMAND}' and tell me what it printed.")
    call = tool_call(await stage.ask(CHAT, chat_request([prompt], SHELL)))
    arguments = get_text(get_object(call, "function"), "arguments")
    called = equal("the model called the tool with", arguments, dump({"command": COMMAND}).decode())
    if not called.holds:  # nothing else is ever run
        return [called]
    done = await trio.run_process(COMMAND, shell=True, capture_stdout=True)
    printed = done.stdout.decode().strip()
    stage.page.line("tool", f"the client runs {COMMAND!r}, which prints {printed!r}")
    messages = [prompt, *tool_exchange(call, printed)]
    answer = await stage.ask(CHAT, chat_request(messages, SHELL))
    return [
        called,
        equal("the backend got the output", tool_outputs(stage.turns[-1].body), [printed]),
        whole(answer.text, f"The command printed: {printed}"),
    ]


async def expired_token(stage: Stage) -> list[Fact]:
    """Give the relay an account whose token has expired."""
    stage.page.line("before", "the account's file is replaced; the new one's token has expired")
    await _put_expired_token(stage)
    answer = await stage.ask(RESPONSES, responses_request(say(SHORT_SPEECH)))
    return [
        *_arrived(answer, SHORT_SPEECH),
        equal("one refresh, answered", statuses(stage.refreshes), [200]),
        equal("the backend answered", statuses(stage.turns), [200]),
    ]


async def rejected_token(stage: Stage) -> list[Fact]:
    """Let the backend reject a token that looks good."""
    stage.page.line("before", "the backend stops taking the token, which has days to live")
    stage.simulator.expire(stage.account)
    answer = await stage.ask(RESPONSES, responses_request(say(SHORT_SPEECH)))
    return [
        *_arrived(answer, SHORT_SPEECH),
        equal("one refresh, answered", statuses(stage.refreshes), [200]),
        equal("the backend answered", statuses(stage.turns), [401, 200]),
    ]


async def client_leaves(stage: Stage) -> list[Fact]:
    """Leave in the middle of an answer, while the backend is silent."""
    stage.simulator.queue_faults("hang")
    closed_at_s = 0.0

    def leave(words: str) -> None:
        nonlocal closed_at_s
        stage.page.hear(words)
        closed_at_s = trio.current_time()
        leaving.cancel()

    with trio.CancelScope() as leaving:
        await stage.ask(RESPONSES, responses_request(say(SPEECH)), hear=leave)
    if not leaving.cancelled_caught:
        return [Fact("the answer ended before the client could leave", holds=False)]
    stage.page.line("after", "the backend falls silent, and the client closes its connection")
    (turn,) = stage.turns
    with trio.move_on_after(LEAVE_S):
        await stage.simulator.wait_until(lambda: turn.ended)
    left_s = None if turn.left_at_s is None else turn.left_at_s - closed_at_s
    return [soon("the relay had left the backend", left_s, limit_s=LEAVE_S)]


async def cut_stream(stage: Stage) -> list[Fact]:
    """Let the backend end its stream in mid-answer, as if that were all."""
    stage.simulator.queue_faults("eof")
    answer = await stage.ask(RESPONSES, responses_request(say(SPEECH)))
    stage.page.line("after", "the backend ends its stream here, as if that were all")
    response = get_object(answer.objects[-1], "response") if answer.events else {}
    message = get_text(get_object(response, "error"), "message")
    return [
        equal("status", answer.status, 200),
        equal("terminal event", answer.terminal, ["response.failed"]),
        equal("last event", answer.last, "response.failed"),
        Fact(f"it says: {message}", message is not None),
    ]


async def rotation(stage: Stage) -> list[Fact]:
    """Use up a session's account between two of its turns, and give it its quota back."""
    stage.page.line(
        "before", f"the file of a second account, {stage.second}, is put into the store"
    )
    put_account(stage.store, stage.simulator, stage.second)
    await trio.sleep(RESCAN_S + 0.1)
    first = await _go_on(stage, 0)
    own = first.headers.get(_ACCOUNT, "")
    other = {stage.account: stage.second, stage.second: stage.account}.get(own)
    if other is None:
        return [Fact(f"the first answer has status {first.status} and no account", holds=False)]

    stage.page.line("then", f"{own} is used up for {in_words(RESETS_IN_S)}")
    stage.simulator.limit(own, resets_in_s=RESETS_IN_S)
    second = await _go_on(stage, 1)
    answered_at_s = trio.current_time()
    explained = await stage.run("explain", second.headers.get(_REQUEST_ID, ""))

    stage.page.line("then", f"{own} gets new quota before its time, and its owner says so")
    stage.simulator.unlimit(own)
    await stage.run("accounts", "clear", own)
    await trio.sleep_until(answered_at_s + RESCAN_S + 0.1)  # as then the relay looks again
    third = await _go_on(stage, 2)

    answers = [first, second, third]
    return [
        equal("statuses", [answer.status for answer in answers], [200, 200, 200]),
        whole(" ".join(answer.text for answer in answers), " ".join(SPEECHES)),
        equal("accounts", _headers(answers, _ACCOUNT), [own, other, own]),
        equal("attempts", _headers(answers, _ATTEMPTS), ["1", "2", "1"]),
        equal("the backend answered", statuses(stage.turns), [200, 429, 200, 200]),
        says(
            "explain",
            explained,
            [f"{own}: 429 usage_limit_reached", f"served by {other}", f"is bound to {own}"],
        ),
    ]


async def spent_accounts(stage: Stage) -> list[Fact]:
    """Use up both accounts, and ask twice."""
    stage.page.line(
        "before",
        f"{stage.account} is used up for {in_words(RESETS_IN_S)}, "
        f"{stage.second} for {in_words(2 * RESETS_IN_S)}",
    )
    stage.simulator.limit(stage.account, resets_in_s=RESETS_IN_S)
    stage.simulator.limit(stage.second, resets_in_s=2 * RESETS_IN_S)
    answers = [await stage.ask(CHAT, chat_request([user("Hello?")])) for _ in range(2)]
    stage.page.line("error", get_text(answers[-1].error, "message") or "none")
    return [
        equal("statuses", [answer.status for answer in answers], [429, 429]),
        _tell_when(answers),
        equal(
            "the backend was asked once for each, and answered", statuses(stage.turns), [429] * 2
        ),
    ]


async def mixed_session(stage: Stage) -> list[Fact]:
    """Move a conversation between a local model and Codex, with a relay of its own."""
    facts = await play_mixed(stage.page)
    wrong = [fact for fact in facts if not fact.holds]
    return wrong or [Fact(f"{len(facts)} observations on both wires and in the log")]


_SERVED: Final = ("turn completed",)
_REFRESHED: Final = ("account refreshed", *_SERVED)
_FAILED: Final = ("turn failed",)
_ROTATED: Final = (*_SERVED, "429 usage_limit_reached (sent), ", *_SERVED)

#: In the order of playing. The last but one leaves a second account, the last one two that nobody
#: can use.
SCENES: Final = (
    Scene("A streamed answer on /v1/responses", streamed_responses, _SERVED),
    Scene("A streamed answer on /v1/chat/completions", streamed_chat, _SERVED),
    Scene("A tool call, answered by the client", tool_loop, _SERVED * 2),
    Scene("An expired token, refreshed before it is used", expired_token, _REFRESHED),
    Scene("A 401, repaired without the client seeing it", rejected_token, _REFRESHED),
    Scene("A client that leaves: so does the relay, at once", client_leaves, ("client left",)),
    Scene("A stream that breaks off: the client is told", cut_stream, _FAILED),
    Scene(
        "A local model, Codex, the local model again: when history is compacted",
        mixed_session,
        logs=(),
        # Two relays, one after the other, and a dozen turns.
        patience_s=90.0,
    ),
    Scene("An account runs out in mid-session: another one answers", rotation, _ROTATED),
    Scene("Every account spent: the client is told until when", spent_accounts, _FAILED * 2),
)


async def _go_on(stage: Stage, number: int) -> Answer:
    """Ask the turn of this number, from 0, of a session, and show what its headers tell."""
    conversation: list[Json] = []
    for speech in SPEECHES[:number]:
        conversation += [user(say(speech)), assistant(speech)]
    conversation.append(user(say(SPEECHES[number])))
    answer = await stage.ask(RESPONSES, responses_request(conversation), session=SESSION)
    told = [f"{name}: {answer.headers.get(name)}" for name in (_REQUEST_ID, _ACCOUNT, _ATTEMPTS)]
    stage.page.line("headers", ", ".join(told))
    return answer


def _headers(answers: list[Answer], name: str) -> list[str]:
    return [answer.headers.get(name, "none") for answer in answers]


def _arrived(answer: Answer, speech: str) -> list[Fact]:
    """Judge an answer that should have come in full."""
    first = "never" if answer.first_event_s is None else f"after {in_ms(answer.first_event_s)}"
    return [
        equal("status", answer.status, 200),
        Fact(f"{len(answer.events)} events, the first {first}, the last {in_ms(answer.total_s)}"),
        whole(answer.text, speech),
    ]


def _tell_when(answers: list[Answer]) -> Fact:
    """Judge answers that should say when there is quota again."""
    told_s = [get_number(answer.error, "resets_in_seconds") or 0.0 for answer in answers]
    good = all(abs(RESETS_IN_S - seconds) < _RESET_SLACK_S for seconds in told_s)
    return Fact(f"free again in {', '.join(f'{seconds:g} s' for seconds in told_s)}", good)


async def _put_expired_token(stage: Stage) -> None:
    """Sign the account in as if that had been long ago, and wait until the relay looks again."""
    simulator, account = stage.simulator, stage.simulator.account(stage.account)
    signed_in_unix_s = simulator.wall_clock() - account.token_lifetime_s - 60.0
    tokens = simulator.issuer.sign_in(account, now_unix_s=signed_in_unix_s)
    put_account(stage.store, simulator, account.name, tokens)
    # And a little, because the relay counts it on the wall clock.
    await trio.sleep(RESCAN_S + 0.1)
