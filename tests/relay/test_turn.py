"""One turn over a scripted backend, in virtual time."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.errors import NeedsReauthError, NoAccountError, RefreshUnavailableError
from codexrelay.protocol import faults
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.climb import Wish
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.leg import Leg
from codexrelay.relay.mover import TAIL_S, BodyMover
from codexrelay.relay.reply import StreamedReply, WholeReply, retry_after
from codexrelay.relay.turn import Ending, Relay, Turn, run_turn
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.client import FakeClient
from tests.fakes.turn_scripts import (
    BROKEN,
    COMPLETED,
    CREATED,
    GOOD,
    ITEM,
    LIMITED,
    NOW_UNIX_S,
    OVERLOADED,
    REFUSED,
    RESPONSE,
    TEXT,
    UNAUTHORIZED,
    UNREADABLE,
    event,
)
from tests.fakes.upstream import (
    FOREVER,
    FakeLender,
    Script,
    ScriptedBackend,
    Wait,
    head,
    lending,
)
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.errors import AccountError

BUDGETS = Budgets(connect_s=5, headers_s=20, first_event_s=30, silence_s=40, turn_s=1000)


@attrs.define(eq=False)
class Scene:
    backend: ScriptedBackend
    client: FakeClient
    lender: FakeLender
    relay: Relay
    turn: Turn

    def alter(self, **leg: object) -> None:
        """Change fields of the leg."""
        self.turn = attrs.evolve(self.turn, leg=attrs.evolve(self.turn.leg, **leg))  # type: ignore[arg-type]

    async def play(self) -> Ending:
        return await run_turn(self.turn, self.client, self.relay)


def scene(
    *scripts: Script,
    stream: bool = True,
    accounts: tuple[str, ...] = ("a",),
    lender: FakeLender | None = None,
    client: FakeClient | None = None,
    budgets: Budgets = BUDGETS,
    keep_alive_s: float = 15.0,
) -> Scene:
    backend = ScriptedBackend(list(scripts))
    lender = lender or FakeLender(accounts)
    make: Callable[..., ResponsesStream | ResponsesWhole]
    make = ResponsesStream if stream else ResponsesWhole
    answer = make(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=int(NOW_UNIX_S))
    reply = StreamedReply(answer) if isinstance(answer, ResponsesStream) else WholeReply(answer)
    instances = Instances(
        (Instance(lender=lender, backend=backend, budgets=budgets),)  # type: ignore[arg-type] - a fake
    )
    leg = Leg(
        request_for=_request_for,
        wish=Wish(route=instances.members, model="m"),
        reply=reply,
        passed_on=_passed_on,
        served=_served,
    )
    relay = Relay(
        instances=instances,
        mover=BodyMover(),
        active=ActiveTurns(),
        keep_alive_s=keep_alive_s,
        wall_clock=lambda: NOW_UNIX_S,
    )
    turn = Turn(leg=leg, request_id="req_1")
    return Scene(backend, client or FakeClient(), lender, relay, turn)


def _request_for(account_id: str, *, stripped: bool) -> UpstreamRequest:
    return UpstreamRequest(path="/responses", body=b"stripped" if stripped else b"whole")


async def _served(_account_id: str, _turn_state: str | None) -> None:
    await trio.lowlevel.checkpoint()  # as the session's mailbox


def _passed_on(head: Head) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in head.headers.items()]


def at_rest(scene: Scene) -> bool:
    closed = all(attempt.closed for attempt in scene.backend.attempts)
    return closed and scene.lender.lent == 0 and len(scene.relay.active) == 0


def terminal_events(body: bytes) -> list[str]:
    names = [line[7:].decode() for line in body.split(b"\n") if line.startswith(b"event: ")]
    ends = ("response.completed", "response.failed", "response.incomplete", "error")
    return [name for name in names if name in ends]


def failure(body: bytes) -> dict[str, object]:
    """The error of the last event, which is the relay's own."""
    data = body.rstrip(b"\n").rsplit(b"\ndata: ", 1)[1]
    error: dict[str, object] = json.loads(data)["response"]["error"]
    return error


# a turn that works


@in_virtual_time
async def test_a_stream_passes_byte_for_byte() -> None:
    s = scene(GOOD)
    ending = await s.play()
    assert s.client.body == CREATED + TEXT + ITEM + COMPLETED
    assert (s.client.status, s.client.ended) == (200, True)
    assert s.client.headers[b"content-type"].startswith(b"text/event-stream")
    assert ending.fault is None
    assert ending.account_id == "a"
    assert at_rest(s)


@in_virtual_time
async def test_headers_of_upstream_and_of_the_relay_reach_the_client() -> None:
    s = scene([head(x_codex_turn_state="ts-1"), CREATED, TEXT, COMPLETED])
    served: list[tuple[str, str | None]] = []

    async def remember(account_id: str, turn_state: str | None) -> None:
        served.append((account_id, turn_state))

    s.alter(served=remember)
    await s.play()
    assert s.client.headers[b"x-codex-turn-state"] == b"ts-1"
    assert s.client.headers[b"x-codexrelay-request-id"] == b"req_1"
    assert s.client.headers[b"x-codexrelay-account"] == b"a"
    assert s.client.headers[b"x-codexrelay-attempts"] == b"1"
    assert served == [("a", "ts-1")]


@in_virtual_time
async def test_what_follows_the_terminal_event_passes_and_the_turn_ends_with_the_body() -> None:
    ping = event("ping", cost="0")
    s = scene([*GOOD, ping])
    await s.play()
    assert s.client.body.endswith(COMPLETED + ping)


@in_virtual_time
@pytest.mark.parametrize("pieces", [1, 4], ids=["in one piece", "event by event"])
async def test_the_end_of_an_answer_that_has_come_whole_goes_out_in_one_write(pieces: int) -> None:
    events = [CREATED, TEXT, ITEM, COMPLETED]
    script = [head(), b"".join(events)] if pieces == 1 else [head(), *events]
    ping = event("ping", cost="0")
    s = scene([*script, ping])
    s.backend.whole = True
    ending = await s.play()
    written = [data for _, data in s.client.sent]
    assert written[-1].endswith(COMPLETED + ping)
    assert (s.client.body, s.client.ended) == (b"".join(events) + ping, True)
    assert len(written) == (1 if pieces == 1 else 3)
    assert (ending.fault, ending.left) == (None, False)
    assert at_rest(s)


@in_virtual_time
async def test_a_body_that_does_not_end_after_the_terminal_event_holds_nobody_up() -> None:
    s = scene([*GOOD, FOREVER])
    began_at_s = trio.current_time()
    ending = await s.play()
    assert trio.current_time() - began_at_s == pytest.approx(TAIL_S)
    assert ending.fault is None
    assert at_rest(s)


@in_virtual_time
async def test_a_whole_answer_is_one_json_body() -> None:
    s = scene(GOOD, stream=False)
    await s.play()
    assert s.client.status == 200
    assert s.client.headers[b"content-type"] == b"application/json"
    assert s.client.json["status"] == "completed"


# before the first output: the ladder


@pytest.mark.parametrize(
    ("scripts", "accounts", "asked"),
    [
        ([[UNAUTHORIZED], GOOD], ("a", "b"), ["a", "a"]),
        ([[UNAUTHORIZED], [UNAUTHORIZED], GOOD], ("a", "b"), ["a", "a", "b"]),
        ([[LIMITED], GOOD], ("a", "b"), ["a", "b"]),
        ([[OVERLOADED], GOOD], ("a", "b"), ["a", "a"]),
        ([[OVERLOADED], [OVERLOADED], GOOD], ("a", "b"), ["a", "a", "b"]),
        ([[BROKEN], GOOD], ("a",), ["a", "a"]),
        ([[head(), CREATED, BROKEN], GOOD], ("a",), ["a", "a"]),
        ([[head(), CREATED], GOOD], ("a",), ["a", "a"]),
        (
            [[head(), CREATED, event("error", error={"type": "usage_limit_reached"})], GOOD],
            ("a", "b"),
            ["a", "b"],
        ),
    ],
    ids=[
        "a 401 refreshes the account that was used",
        "a second 401 goes to another account",
        "a spent quota goes to another account",
        "overload asks the same account once more",
        "overload twice goes to another account",
        "a broken connection asks the same account once more",
        "a connection that breaks after the handshake counts as broken",
        "an end after the handshake counts as broken",
        "a usage limit inside a 200 goes to another account",
    ],
)
@in_virtual_time
async def test_a_fault_before_the_first_output_is_never_seen(
    scripts: list[Script], accounts: tuple[str, ...], asked: list[str]
) -> None:
    s = scene(*scripts, accounts=accounts)
    ending = await s.play()
    assert s.backend.accounts_asked == asked
    assert s.client.body == CREATED + TEXT + ITEM + COMPLETED
    assert ending.attempts == len(asked)
    assert ending.fault is None
    assert at_rest(s)


@pytest.mark.parametrize(
    ("scripts", "status", "message"),
    [
        ([[REFUSED]], 400, "Bad thing"),
        ([[OVERLOADED], [OVERLOADED]], 503, "busy"),
        ([[BROKEN], [BROKEN]], 502, "reset by peer"),
        ([[LIMITED]], 429, "usage limit"),
        ([[FOREVER]], 504, "headers_s"),
        ([[head(), FOREVER]], 504, "first_event_s"),
        ([[head(), CREATED, FOREVER]], 504, "silence_s"),
    ],
    ids=["refused", "overloaded", "broken", "limited", "headers", "first event", "silence"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@in_virtual_time
async def test_a_turn_that_fails_before_the_first_output_is_an_http_error(
    scripts: list[Script], status: int, message: str, stream: bool
) -> None:
    s = scene(*scripts, stream=stream, keep_alive_s=math.inf)
    ending = await s.play()
    assert s.client.status == status
    error = s.client.json["error"]
    assert isinstance(error, dict)
    assert message in error["message"]
    assert set(error) >= {"message", "type", "code", "param"}
    assert s.client.ended
    assert ending.fault is not None
    assert at_rest(s)


@in_virtual_time
async def test_a_limit_says_when_to_come_back_and_the_header_stays_bearable() -> None:
    s = scene([LIMITED])
    await s.play()
    error = s.client.json["error"]
    assert isinstance(error, dict)
    assert error["type"] == "usage_limit_reached"
    assert error["resets_in_seconds"] == 600
    assert "10 min" in error["message"]
    assert s.client.headers[b"retry-after"] == b"15"
    assert s.client.headers[b"x-should-retry"] == b"false"


@pytest.mark.parametrize(
    ("wait_s", "told"),
    [(0.0, b"1"), (0.4, b"1"), (3.2, b"4"), (60.0, b"60"), (60.1, b"15"), (604_800.0, b"15")],
)
def test_a_wait_is_told_as_it_is_never_too_short_and_not_when_it_is_too_long(
    wait_s: float, told: bytes
) -> None:
    headers = dict(retry_after(attrs.evolve(LIMITED, retry_after_s=wait_s)))
    assert headers[b"retry-after"] == told
    assert (headers.get(b"x-should-retry") == b"false") is (wait_s > 60)


@in_virtual_time
async def test_a_refusal_comes_with_upstreams_headers() -> None:
    headers = {"x-request-id": "req-1"}
    refused = faults.from_response(400, headers, b'{"detail":"no"}', now_unix_s=NOW_UNIX_S)
    s = scene([refused])
    await s.play()
    assert s.client.headers[b"x-request-id"] == b"req-1"
    assert s.client.headers[b"x-codexrelay-request-id"] == b"req_1"
    assert s.client.headers[b"x-codexrelay-account"] == b"a"
    assert s.client.headers[b"x-codexrelay-attempts"] == b"1"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NoAccountError(looked_in="no account file in DIR"), 401, "codex login"),
        (
            NeedsReauthError(reasons=(("work", "refresh_token_reused"),)),
            401,
            "account work must sign in",
        ),
        (
            RefreshUnavailableError(told=("account work cannot be refreshed (timed out)",)),
            503,
            "Nothing is lost",
        ),
    ],
    ids=["no account", "needs reauth", "the sign-in service is away"],
)
@in_virtual_time
async def test_without_a_usable_account_the_client_is_told_what_to_do(
    error: AccountError, status: int, words: str
) -> None:
    s = scene(lender=FakeLender((), raises=error))
    await s.play()
    assert s.client.status == status
    assert words in str(s.client.json["error"])


@in_virtual_time
async def test_reasoning_that_an_account_cannot_read_is_left_out_once() -> None:
    s = scene([UNREADABLE], GOOD, accounts=("a", "b"))
    await s.play()
    assert s.backend.accounts_asked == ["a", "b"], "another account may be able to"
    assert [attempt.request.body for attempt in s.backend.attempts] == [b"whole", b"whole"]
    s = scene([UNREADABLE], [UNREADABLE], GOOD, accounts=("a", "b"))
    await s.play()
    assert s.backend.accounts_asked == ["a", "b", "b"]
    assert s.backend.attempts[-1].request.body == b"stripped"
    s = scene([UNREADABLE], [UNREADABLE])
    await s.play()
    assert s.client.status == 400


# after the first output: one terminal


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ([BROKEN], "reset by peer"),
        ([], "before its terminal event"),
        ([FOREVER], "silence_s"),
        ([b"<html>gateway</html>"], "before its terminal event"),
        ([TEXT[:20]], "before its terminal event"),
    ],
    ids=["broken", "end", "silence", "garbage", "cut inside an event"],
)
@in_virtual_time
async def test_a_stream_that_fails_after_the_first_output_ends_with_one_terminal_event(
    rest: Script, words: str
) -> None:
    s = scene([head(), CREATED, TEXT, *rest], keep_alive_s=math.inf)
    ending = await s.play()
    assert s.client.status == 200
    assert s.client.body.startswith(CREATED + TEXT)
    assert terminal_events(s.client.body) == ["response.failed"]
    assert words in str(failure(s.client.body)["message"])
    assert s.client.ended
    assert ending.fault is not None
    assert len(s.backend.attempts) == 1
    assert at_rest(s)


@in_virtual_time
async def test_upstreams_own_failure_passes_as_it_came_and_is_charged_to_the_account() -> None:
    failed = event(
        "response.failed",
        response={**RESPONSE, "error": {"code": "insufficient_quota", "message": "spent"}},
    )
    s = scene([head(), CREATED, TEXT, failed])
    ending = await s.play()
    assert s.client.body == CREATED + TEXT + failed
    assert ending.fault is not None
    assert ending.fault.code == "insufficient_quota"
    *_, reported = s.lender.reports["a"]
    assert reported is ending.fault


@in_virtual_time
async def test_a_whole_answer_whose_stream_fails_is_an_http_error() -> None:
    s = scene([head(), CREATED, TEXT, BROKEN], stream=False)
    await s.play()
    assert s.client.status == 502


@in_virtual_time
async def test_the_whole_turn_has_a_budget() -> None:
    steps: list[Wait | bytes] = [Wait(30), TEXT] * 40
    s = scene([head(), CREATED, TEXT, *steps], keep_alive_s=math.inf)
    began_at_s = trio.current_time()
    await s.play()
    assert trio.current_time() - began_at_s == pytest.approx(1000)
    assert terminal_events(s.client.body) == ["response.failed"]
    assert "turn_s" in str(failure(s.client.body)["message"])
    assert at_rest(s)


@pytest.mark.parametrize("script", [[FOREVER], [head(), FOREVER]], ids=["headers", "first event"])
@in_virtual_time
async def test_a_stop_before_the_first_output_is_a_503(script: Script) -> None:
    s = scene(script)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(s.play)
        await trio.sleep(1)
        s.relay.active.stop()
    assert s.client.status == 503
    assert at_rest(s)


@in_virtual_time
async def test_a_stop_in_a_stream_ends_it_with_a_terminal_event() -> None:
    s = scene([head(), CREATED, TEXT, FOREVER])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(s.play)
        await trio.sleep(1)
        s.relay.active.stop()
    assert terminal_events(s.client.body) == ["response.failed"]
    assert s.client.ended
    assert at_rest(s)


# showing life


@in_virtual_time
async def test_a_silent_stream_shows_life_between_events_only() -> None:
    s = scene([head(), CREATED, TEXT + ITEM[:10], Wait(35), ITEM[10:], COMPLETED])
    await s.play()
    alive = s.turn.leg.reply.keep_alive
    assert alive is not None
    assert s.client.body == CREATED + TEXT + alive * 2 + ITEM + COMPLETED


@in_virtual_time
async def test_a_turn_that_waits_for_its_first_output_opens_the_stream_and_still_climbs() -> None:
    s = scene([Wait(18), OVERLOADED], GOOD)
    await s.play()
    alive = s.turn.leg.reply.keep_alive
    assert alive is not None
    assert s.client.started_at_s is not None
    assert s.client.body == alive + CREATED + TEXT + ITEM + COMPLETED
    assert s.backend.accounts_asked == ["a", "a"]


@in_virtual_time
async def test_once_opened_a_failure_is_a_terminal_event() -> None:
    s = scene([Wait(18), REFUSED])
    await s.play()
    assert s.client.status == 200
    assert terminal_events(s.client.body) == ["response.failed"]
    assert "Bad thing" in str(failure(s.client.body)["message"])
    assert s.client.ended


@in_virtual_time
async def test_a_whole_answer_is_never_preceded_by_anything() -> None:
    s = scene([head(), Wait(29), *GOOD[1:]], stream=False)
    await s.play()
    assert s.client.json["status"] == "completed"


@in_virtual_time
async def test_a_slow_client_is_neither_interrupted_nor_mistaken_for_a_silent_backend() -> None:
    s = scene(GOOD, client=FakeClient(slow_s=100))
    ending = await s.play()
    assert s.client.body == CREATED + TEXT + ITEM + COMPLETED
    assert ending.fault is None


# the client leaves


@pytest.mark.parametrize(
    ("scripts", "lender_wait_s"),
    [
        ([GOOD], math.inf),
        ([[FOREVER]], 0.0),
        ([[head(), FOREVER]], 0.0),
        ([[head(), CREATED, FOREVER]], 0.0),
        ([[head(), CREATED, TEXT, FOREVER]], 0.0),
        ([[head(), CREATED, TEXT[:10], FOREVER]], 0.0),
        ([[OVERLOADED], [FOREVER]], 0.0),
    ],
    ids=[
        "waiting for an account",
        "before the headers",
        "before the first event",
        "after the handshake",
        "mid-stream",
        "inside an event",
        "on the second rung",
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@in_virtual_time
async def test_a_client_that_leaves_frees_everything_at_once(
    scripts: list[Script], lender_wait_s: float, stream: bool
) -> None:
    s = scene(*scripts, stream=stream, lender=FakeLender(("a", "b"), wait_s=lender_wait_s))
    with trio.move_on_after(0.4) as left:
        await s.play()
    assert left.cancelled_caught
    assert trio.current_time() == pytest.approx(0.4)
    assert not s.client.ended
    assert at_rest(s)


@in_virtual_time
async def test_a_client_that_leaves_behind_the_terminal_event_frees_everything_at_once() -> None:
    s = scene([*GOOD, FOREVER])
    with trio.move_on_after(TAIL_S / 2) as left:
        await s.play()
    assert left.cancelled_caught
    assert s.client.body.endswith(COMPLETED)
    assert at_rest(s)


@in_virtual_time
async def test_comments_are_no_first_event() -> None:
    comments: list[Wait | bytes] = [Wait(4), b": ping\n\n"] * 20
    s = scene([head(), *comments], keep_alive_s=math.inf)
    began_at_s = trio.current_time()
    await s.play()
    assert trio.current_time() - began_at_s == pytest.approx(BUDGETS.first_event_s)
    assert "first_event_s" in str(s.client.json["error"])


# in line for an account


def two_turns_of_one_account(
    *, stream: bool = True, keep_alive_s: float = 15.0
) -> tuple[Scene, Scene]:
    """A turn of 40 s, and one that has to wait for it."""
    lender = lending("a", max_concurrent_turns=1)
    long: Script = [head(), CREATED, TEXT, Wait(40), ITEM, COMPLETED]
    made = [
        scene(script, stream=stream, lender=lender, keep_alive_s=keep_alive_s)  # type: ignore[arg-type] - the real one
        for script in (long, GOOD)
    ]
    return made[0], made[1]


@in_virtual_time
async def test_a_turn_in_line_shows_life_and_is_then_served() -> None:
    first, second = two_turns_of_one_account()
    told: list[list[str]] = []
    second.turn = attrs.evolve(
        second.turn, waits=lambda record: told.append([name for name, _ in record.waiting_for])
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.play)
        await trio.testing.wait_all_tasks_blocked()
        ending = await second.play()
    alive = second.turn.leg.reply.keep_alive
    assert alive is not None
    assert second.client.body == alive * 2 + CREATED + TEXT + ITEM + COMPLETED
    assert told == [["a"]]
    assert ending.record.tried[0].waited_s == pytest.approx(40.0 + TAIL_S, abs=0.2)
    assert ending.first_output_s == pytest.approx(40.0 + TAIL_S, abs=0.2)


@in_virtual_time
async def test_a_whole_answer_waits_in_line_in_silence() -> None:
    first, second = two_turns_of_one_account(stream=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.play)
        await trio.testing.wait_all_tasks_blocked()
        await second.play()
    assert second.client.json["status"] == "completed"
    assert second.client.headers[b"x-codexrelay-account"] == b"a"


@in_virtual_time
async def test_a_stop_reaches_a_turn_in_line() -> None:
    first, second = two_turns_of_one_account()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.play)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(second.play)
        await trio.testing.wait_all_tasks_blocked()
        second.relay.active.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert second.client.status == 503
        nursery.cancel_scope.cancel()
    assert len(second.relay.active) == 0


@in_virtual_time
async def test_the_turns_budget_counts_the_time_in_line() -> None:
    first, second = two_turns_of_one_account()
    short = attrs.evolve(BUDGETS, turn_s=20)
    [instance] = second.relay.instances.members
    route = (attrs.evolve(instance, budgets=short),)
    second.alter(wish=attrs.evolve(second.turn.leg.wish, route=route))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.play)
        await trio.testing.wait_all_tasks_blocked()
        ending = await second.play()
        assert trio.current_time() == pytest.approx(20.0)
        nursery.cancel_scope.cancel()
    assert terminal_events(second.client.body) == ["response.failed"]
    assert "turn_s" in str(failure(second.client.body)["message"])
    assert ending.attempts == 0


def _play_cancelled_at(make: Callable[[], Scene], step: int) -> tuple[Scene, bool]:
    """Play a turn, cancelled before its `step`-th task step; tell whether it finished."""
    finished = False
    s: Scene | None = None

    async def main() -> None:
        nonlocal finished, s
        s = make()
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                await s.play()
                finished = True
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert not trio.lowlevel.current_task().child_nurseries

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert s is not None
    return s, finished


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_turn_cancelled_at_any_step_leaves_nothing_behind(stream: bool) -> None:
    def make() -> Scene:
        return scene(
            [OVERLOADED],
            [head(), CREATED, Wait(16), TEXT, ITEM, COMPLETED],
            stream=stream,
            accounts=("a", "b"),
        )

    for step in range(1, 1000):
        s, finished = _play_cancelled_at(make, step)
        assert at_rest(s), f"cancelled before step {step}"
        assert len(terminal_events(s.client.body)) <= 1
        if finished:
            assert step > 10
            return
    pytest.fail("the turn never finished")


def _play_ended_at(make: Callable[[], Scene], step: int, *, stop: bool) -> tuple[Scene, bool]:
    """Play a turn that is stopped, or whose budget ends, before its `step`-th task step."""
    reached = False
    s: Scene | None = None

    class EndAtStep(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal reached
            self.steps += 1
            if self.steps == step and s is not None:
                reached = True
                if stop:
                    s.relay.active.stop()
                else:
                    for scope in s.relay.active._scopes:
                        scope.deadline = -math.inf

    async def main() -> None:
        nonlocal s
        s = make()
        instrument = EndAtStep()
        trio.lowlevel.add_instrument(instrument)
        try:
            await s.play()
        finally:
            trio.lowlevel.remove_instrument(instrument)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert s is not None
    return s, reached


@pytest.mark.parametrize("stop", [True, False], ids=["a stop", "the turn's budget"])
@pytest.mark.parametrize("slow_s", [0.0, 20.0], ids=["quick client", "slow client"])
def test_whenever_a_turn_is_ended_the_client_gets_one_terminal_event(
    stop: bool, slow_s: float
) -> None:
    def make() -> Scene:
        steps: Script = [head(), CREATED, TEXT, Wait(16), ITEM, Wait(16), COMPLETED, Wait(0.1)]
        return scene([OVERLOADED], steps, client=FakeClient(slow_s=slow_s))

    for step in range(1, 1000):
        s, reached = _play_ended_at(make, step, stop=stop)
        assert at_rest(s), f"ended before step {step}"
        assert s.client.ended, f"ended before step {step}"
        if s.client.status == 200:
            assert len(terminal_events(s.client.body)) == 1, f"ended before step {step}"
        if not reached:
            assert step > 10
            return
    pytest.fail("the turn never finished")


@in_virtual_time
async def test_an_unforeseen_error_still_gives_the_client_a_terminal_event() -> None:
    class Broken:
        async def move(self, held: bytes, *_: object) -> None:
            raise RuntimeError("a bug")

    s = scene(GOOD)
    relay = attrs.evolve(s.relay, mover=Broken())  # type: ignore[arg-type] - never gets that far
    ending = await run_turn(s.turn, s.client, relay)
    assert s.client.status == 500
    assert "nobody foresaw" in str(s.client.json["error"])
    assert ending.fault is not None
    assert at_rest(s)
