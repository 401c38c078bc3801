"""The scenes: what is asked, what goes wrong meanwhile, and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from codexrelay.accounts.lender import RESCAN_S
from codexrelay.errors import in_words
from codexrelay.protocol.raw import get_number, get_object, get_text
from harness.demo.client import CHAT, DONE, RESPONSES, tool_call
from harness.demo.facts import Fact, equal, ms, soon, whole
from harness.demo.requests import (
    SHELL,
    chat_request,
    responses_request,
    say,
    tool_exchange,
    tool_outputs,
    user,
)
from harness.demo.stage import Stage, statuses
from harness.simulator.accounts import write_account_file

if TYPE_CHECKING:
    from harness.demo.client import Answer

Play: TypeAlias = Callable[[Stage], Awaitable[list[Fact]]]

SPEECH: Final = (
    "Each word of this answer leaves the simulated backend by itself, "
    "and is on your screen before the next one has left."
)
SHORT_SPEECH: Final = "The client has noticed nothing at all."
COMMAND: Final = "echo hi"
#: From the moment a client closes until the backend is left.
LEAVE_S: Final = 1.0
RESETS_IN_S: Final = 45 * 60.0
#: How far a reset time may have moved between backend and client: both count whole seconds.
_RESET_SLACK_S: Final = 10.0


@attrs.frozen
class Scene:
    """One thing that the relay does for a client."""

    title: str
    #: Plays it and returns what came of it.
    play: Play


async def streamed_responses(stage: Stage) -> list[Fact]:
    """Stream an answer in the backend's own protocol."""
    answer = await stage.ask(RESPONSES, responses_request(say(SPEECH)))
    sent = stage.simulator.bodies[-1]
    return [
        *_arrived(answer, SPEECH),
        equal("terminal event", answer.terminal, ["response.completed"]),
        equal("bytes that left the backend", len(sent), len(answer.body)),
        Fact("the client got the very same bytes", holds=answer.body == sent),
        await stage.logs("turn completed"),
    ]


async def streamed_chat(stage: Stage) -> list[Fact]:
    """Stream an answer in the other protocol, translated."""
    answer = await stage.ask(CHAT, chat_request([user(say(SPEECH))]))
    return [
        *_arrived(answer, SPEECH),
        equal("finish reason", answer.finish_reasons, ["stop"]),
        Fact("[DONE] came last", holds=[e.data for e in answer.events[-1:]] == [DONE]),
        await stage.logs("turn completed"),
    ]


async def tool_loop(stage: Stage) -> list[Fact]:
    """Let the model call a tool, run it, and send back what it printed."""
    prompt = user(f"Run the shell command '{COMMAND}' and tell me what it printed.")
    call = tool_call(await stage.ask(CHAT, chat_request([prompt], SHELL)))
    function = get_object(call, "function")
    called = equal(
        "the model called", get_text(function, "arguments"), f'{{"command":"{COMMAND}"}}'
    )
    if not called.holds:  # and nothing else is run
        return [called]
    done = await trio.run_process(COMMAND, shell=True, capture_stdout=True)
    printed = done.stdout.decode().strip()
    stage.page.line("tool", f"{COMMAND}  ->  {printed}")
    messages = [prompt, *tool_exchange(call, printed)]
    answer = await stage.ask(CHAT, chat_request(messages, SHELL))
    return [
        called,
        equal("the backend got the output", tool_outputs(stage.turns[-1].body), [printed]),
        equal("final text", answer.text, f"The command printed: {printed}"),
        await stage.logs("turn completed", times=2),
    ]


async def expired_token(stage: Stage) -> list[Fact]:
    """Give the relay an account whose token has expired."""
    stage.page.line("before", "the account file is replaced by one whose token has expired")
    await _put_expired_token(stage)
    answer = await stage.ask(RESPONSES, responses_request(say(SHORT_SPEECH)))
    return [
        *_arrived(answer, SHORT_SPEECH),
        equal("the sign-in service was asked once, and answered", statuses(stage.refreshes), [200]),
        equal("the backend answered", statuses(stage.turns), [200]),
        await stage.logs("account refreshed"),
        await stage.logs("turn completed"),
    ]


async def rejected_token(stage: Stage) -> list[Fact]:
    """Let the backend reject a token that looks good."""
    stage.page.line("before", "the backend ceases to take the token, which had days to live")
    stage.simulator.expire(stage.account)
    answer = await stage.ask(RESPONSES, responses_request(say(SHORT_SPEECH)))
    return [
        *_arrived(answer, SHORT_SPEECH),
        equal("the backend answered", statuses(stage.turns), [401, 200]),
        equal("the sign-in service was asked once, and answered", statuses(stage.refreshes), [200]),
        await stage.logs("account refreshed"),
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
        await stage.ask(RESPONSES, responses_request(say(SPEECH)), hear=leave)
    if not leaving.cancelled_caught:
        return [Fact("the answer ended before the client could leave", holds=False)]
    stage.page.line("after", "the backend falls silent, and the client closes its connection")
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
    answer = await stage.ask(RESPONSES, responses_request(say(SPEECH)))
    stage.page.line("after", "the backend ends its stream, as if that were all")
    last = answer.objects[-1] if answer.events else {}
    message = get_text(get_object(get_object(last, "response"), "error"), "message")
    return [
        equal("status", answer.status, 200),
        equal("terminal event", answer.terminal, ["response.failed"]),
        Fact("it is the last event", holds=get_text(last, "type") in answer.terminal),
        Fact(f"it says: {message}", holds=message is not None),
        await stage.logs("turn failed"),
    ]


async def spent_account(stage: Stage) -> list[Fact]:
    """Use up the only account, and ask twice."""
    stage.page.line("before", f"the account's limit is reached for {in_words(RESETS_IN_S)}")
    stage.simulator.limit(stage.account, resets_in_s=RESETS_IN_S)
    first, second = [await stage.ask(CHAT, chat_request([user("Hello?")])) for _ in range(2)]
    return [
        *_limited(first),
        *_limited(second),
        equal("the backend was asked once, and answered", statuses(stage.turns), [429]),
        await stage.logs("turn failed", times=2),
    ]


#: In the order of playing. The last one leaves an account that nobody can use.
SCENES: Final = (
    Scene("A streamed answer on /v1/responses", streamed_responses),
    Scene("A streamed answer on /v1/chat/completions", streamed_chat),
    Scene("A tool call, answered by the client", tool_loop),
    Scene("An expired token, refreshed before it is used", expired_token),
    Scene("A 401, repaired without the client seeing it", rejected_token),
    Scene("A client that leaves: the backend is left at once", client_leaves),
    Scene("A stream that breaks off: the client is told so", cut_stream),
    Scene("A spent account: the client is told when it is free again", spent_account),
)


def _arrived(answer: Answer, speech: str) -> list[Fact]:
    """Judge an answer that should have come in full."""
    first = "never" if answer.first_event_s is None else f"after {ms(answer.first_event_s)}"
    return [
        equal("status", answer.status, 200),
        Fact(f"{len(answer.events)} events in {ms(answer.total_s)}, the first {first}"),
        whole(answer.text, speech),
    ]


def _limited(answer: Answer) -> list[Fact]:
    """Judge an answer that should tell when there is quota again."""
    resets_in_s = get_number(answer.error, "resets_in_seconds")
    close = resets_in_s is not None and abs(resets_in_s - RESETS_IN_S) < _RESET_SLACK_S
    return [
        equal("status", answer.status, 429),
        Fact(f"it says: {get_text(answer.error, 'message')}"),
        Fact(f"it resets in {resets_in_s} s", holds=close),
    ]


async def _put_expired_token(stage: Stage) -> None:
    """Sign the account in as if that had been long ago, and wait until the relay looks again."""
    simulator, account = stage.simulator, stage.simulator.account(stage.account)
    now_unix_s = simulator.wall_clock()
    tokens = simulator.issuer.sign_in(
        account, now_unix_s=now_unix_s - account.token_lifetime_s - 60.0
    )
    write_account_file(
        stage.store,
        account,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_unix_s=tokens.expires_unix_s,
        now_unix_s=now_unix_s,
    )
    # With a little more, as the relay counts by another clock.
    await trio.sleep(RESCAN_S + 0.1)
