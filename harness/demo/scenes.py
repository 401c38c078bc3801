"""The scenes: what is asked, what goes wrong meanwhile, and what must come of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from codexrelay.accounts.lender import RESCAN_S
from codexrelay.protocol.raw import (
    JsonObject,
    dump,
    get_list,
    get_number,
    get_object,
    get_text,
    is_object,
    parse,
)
from harness.demo.client import CHAT, DONE, RESPONSES, tool_call
from harness.demo.facts import Fact, equal, ms, soon, whole
from harness.demo.stage import Stage, statuses
from harness.simulator.accounts import write_account_file

if TYPE_CHECKING:
    from harness.demo.client import Answer

Play: TypeAlias = Callable[[Stage], Awaitable[list[Fact]]]

MODEL: Final = "gpt-5.5"
SPEECH: Final = (
    "Each word of this answer leaves the simulated backend by itself, "
    "and is in your terminal before the next one is on its way."
)
SHORT_SPEECH: Final = "And you have noticed nothing at all."
COMMAND: Final = "echo hi"
#: From the moment a client closes until the backend is left.
LEAVE_S: Final = 1.0
RESETS_IN_S: Final = 45 * 60

_SHELL: Final[JsonObject] = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a command.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}


@attrs.frozen
class Scene:
    """One thing that the relay does for a client."""

    title: str
    play: Play


async def streamed_responses(stage: Stage) -> list[Fact]:
    """Stream an answer in the backend's own protocol."""
    answer = await stage.ask(RESPONSES, responses_request(SPEECH))
    sent = stage.simulator.bodies[-1]
    return [
        *arrived(answer, SPEECH),
        equal("terminal event", answer.terminal, ["response.completed"]),
        Fact(f"{len(sent)} bytes left the backend, the same arrived", holds=answer.body == sent),
        await stage.logs("turn completed"),
    ]


async def streamed_chat(stage: Stage) -> list[Fact]:
    """Stream an answer in the other protocol, translated."""
    answer = await stage.ask(CHAT, chat_request([user(told_to_say(SPEECH))]))
    return [
        *arrived(answer, SPEECH),
        equal("finish reason", answer.finish_reasons, ["stop"]),
        Fact("[DONE] came last", holds=answer.events[-1:] == answer.done),
        await stage.logs("turn completed"),
    ]


async def tool_loop(stage: Stage) -> list[Fact]:
    """Let the model call a tool, run it, and send back what it printed."""
    messages = [user(f"Run the shell command '{COMMAND}' and tell me what it printed.")]
    call = tool_call(await stage.ask(CHAT, chat_request(messages, _SHELL)))
    function = get_object(call, "function")
    arguments = get_text(function, "arguments") or ""
    called = equal("the model called", f"{get_text(function, 'name')} {arguments}", _WANTED_CALL)
    if not called.holds:  # and nothing else is run
        return [called]
    done = await trio.run_process(COMMAND, shell=True, capture_stdout=True)
    printed = done.stdout.decode().strip()
    stage.page.line("ran", f"{COMMAND}   which printed: {printed}")
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": get_text(call, "id"), "content": printed},
    ]
    answer = await stage.ask(CHAT, chat_request(messages, _SHELL))
    return [
        called,
        equal("the backend got the output", tool_outputs(stage.turns[-1].body), [printed]),
        equal("the final text", answer.text, f"The command printed: {printed}"),
        await stage.logs("turn completed", times=2),
    ]


async def expired_token(stage: Stage) -> list[Fact]:
    """Let the relay find a token that has expired in the account's file."""
    await _age(stage)
    answer = await stage.ask(RESPONSES, responses_request(SHORT_SPEECH))
    return [
        *arrived(answer, SHORT_SPEECH),
        equal("refreshes at the sign-in service", statuses(stage.refreshes), [200]),
        equal("the backend answered", statuses(stage.turns), [200]),
        await stage.logs("account refreshed"),
        await stage.logs("turn completed"),
    ]


async def rejected_token(stage: Stage) -> list[Fact]:
    """Let the backend reject a token that looks good."""
    stage.simulator.expire(stage.account)
    stage.page.line("meanwhile", "the backend stops taking the account's token, hours too early")
    answer = await stage.ask(RESPONSES, responses_request(SHORT_SPEECH))
    return [
        *arrived(answer, SHORT_SPEECH),
        equal("the backend answered", statuses(stage.turns), [401, 200]),
        equal("refreshes at the sign-in service", statuses(stage.refreshes), [200]),
        await stage.logs("turn completed"),
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
        await stage.ask(RESPONSES, responses_request(SPEECH), hear=leave)
    if not leaving.cancelled_caught:
        return [Fact("the answer ended before the client could leave", holds=False)]
    stage.page.line("then", "the backend falls silent, and the client closes its connection")
    (turn,) = stage.turns
    with trio.move_on_after(LEAVE_S):
        await stage.simulator.wait_until(lambda: turn.ended)
    left_s = None if turn.left_at_s is None else turn.left_at_s - closed_at_s
    return [
        soon("the backend was left", left_s, limit_s=LEAVE_S),
        await stage.logs("client left"),
    ]


async def cut_stream(stage: Stage) -> list[Fact]:
    """Let the backend end its stream in mid-answer, as if that were all."""
    stage.simulator.queue_faults("eof")
    stage.page.line("meanwhile", "the backend closes its stream after the first word")
    answer = await stage.ask(RESPONSES, responses_request(SPEECH))
    last = answer.objects[-1] if answer.events else {}
    error = get_object(get_object(last, "response"), "error")
    stage.page.line("error", get_text(error, "message") or "")
    return [
        equal("status", answer.status, 200),
        equal("terminal event", answer.terminal, ["response.failed"]),
        Fact("it came last", holds=answer.terminal[-1:] == [event_name(last)]),
        Fact("it says what happened", holds=bool(get_text(error, "message"))),
        await stage.logs("turn failed"),
    ]


async def limit_reached(stage: Stage) -> list[Fact]:
    """Use up the only account, and ask twice."""
    stage.simulator.limit(stage.account, resets_in_s=RESETS_IN_S)
    stage.page.line("meanwhile", "the only account reaches its usage limit")
    answers = [await stage.ask(CHAT, chat_request([user("Hello?")])) for _ in range(2)]
    for answer in answers:
        stage.page.line("error", f"{answer.status} {get_text(answer.error, 'message')}")
    return [
        equal("statuses", [answer.status for answer in answers], [429, 429]),
        *(resets(answer) for answer in answers),
        equal("the backend was asked once, and answered", statuses(stage.turns), [429]),
        await stage.logs("turn failed", times=2),
    ]


#: In the order of playing. The last one leaves an account that nobody can use.
SCENES: Final = (
    Scene("A streamed answer on /v1/responses", streamed_responses),
    Scene("A streamed answer on /v1/chat/completions", streamed_chat),
    Scene("A tool call, answered by the client", tool_loop),
    Scene("An expired token is refreshed before it is used", expired_token),
    Scene("A 401 is repaired without the client seeing it", rejected_token),
    Scene("A client that leaves takes the backend's work with it", client_leaves),
    Scene("A stream that breaks off still ends with a proper event", cut_stream),
    Scene("A used-up account is reported with the time of its reset", limit_reached),
)
