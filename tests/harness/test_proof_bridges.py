"""A sample of the proof over WebSockets: of a client, to the backend, and both.

All of it: `python -m harness prove --full --bridge ws-ws`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio
from click.testing import CliRunner

from harness.proof import loss, mishaps, stories, streams, sweep, virtual, wires
from harness.proof.bridges import BRIDGES, PLAIN, Bridge, Client, judge_bodies
from harness.proof.client import SocketHeard
from harness.proof.command import prove
from harness.proof.loss import Cut
from harness.proof.plays import performance_of_events, play_of
from harness.proof.running import Batch
from harness.proof.stage import SETTLE_S, Stage, staged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from harness.proof.virtual import Clocks

pytestmark = pytest.mark.skipif(wires.UNSUPPORTED is not None, reason=str(wires.UNSUPPORTED))

_SEED: Final = 8787
_SOCKETS: Final = tuple(bridge for bridge in BRIDGES if bridge != PLAIN)
_WHOLE: Final = play_of(performance_of_events(streams.tool_call(), every_s=1.0))

over_sockets = pytest.mark.parametrize("bridge", _SOCKETS)


def failures_of(batch: Batch) -> list[object]:
    return [(failure.case, failure.problems) for failure in batch.run().failures]


@over_sockets
def test_a_cut_answer_is_a_true_beginning_with_one_end(bridge: Bridge) -> None:
    cases = [str(case) for case in loss.cuts("parallel-calls", every_way=False, bridge=bridge)]
    some = virtual.rng_of(_SEED, bridge).sample(cases, 20)
    assert failures_of(Batch(part="loss", bridge=bridge, cases=tuple(some))) == []


@over_sockets
def test_several_mishaps_in_one_turn_leave_one_end_and_charge_the_right_account(
    bridge: Bridge,
) -> None:
    cases = tuple(str(mishaps.drawn(_SEED, number, bridge)) for number in range(6))
    assert failures_of(Batch(part="mishaps", bridge=bridge, cases=cases)) == []


@over_sockets
def test_many_turns_of_one_conversation_do_not_mix(bridge: Bridge) -> None:
    cases = tuple(str(stories.drawn(_SEED, number, bridge)) for number in range(4))
    assert failures_of(Batch(part="stories", bridge=bridge, cases=cases)) == []


@pytest.mark.parametrize(
    ("turn", "every"),
    [
        ("sse-ws paced chat streamed leave", 61),
        ("sse-ws handshake responses whole leave", 61),
        ("ws-http paced responses streamed close", 61),
        ("ws-http queued responses streamed leave", 211),
        ("ws-http refresh responses streamed reset", 83),
        ("ws-ws warm responses streamed leave", 47),
        ("ws-ws mute responses streamed close", 47),
        ("ws-ws limit responses streamed reset", 61),
        ("ws-ws closed responses streamed stop", 61),
        ("ws-ws paced responses streamed kill", 83),
    ],
)
def test_a_turn_that_is_hit_at_any_step_leaves_nothing_behind(turn: str, every: int) -> None:
    it, _ = sweep.parse(f"{turn}@1")
    first = 1 + _SEED % every
    batch = Batch(part="cancel", bridge=it.bridge, cases=(turn,), first=first, every=every)
    assert failures_of(batch) == []


@pytest.mark.parametrize(
    "case",
    [
        # The handshake's answer stops; the request does, on a new WebSocket and on a warm one.
        "ws-ws text responses streamed wire@60+rst",
        "ws-ws text responses streamed wire@129+fin",
        "ws-ws text responses streamed warm@0+close1009",
        "sse-ws text chat whole warm@300+half",
        "ws-http mishaps text responses streamed 429 / cut@40+rst / 401",
        "ws-ws story turn text responses streamed whole ; hang up ; "
        "turn text responses streamed limit ; come back ; turn text responses streamed not-found",
        "ws-ws story turn text responses streamed shake426 ; wait 400s ; wait 4000s",
    ],
)
def test_the_command_runs_one_case_again(case: str) -> None:
    ran = CliRunner().invoke(prove, ["--case", case])
    assert (ran.exit_code, ran.output) == (0, "ok\n")


@pytest.mark.parametrize(
    "case", ["ws-ws text responses streamed wire@60+eof", "sse-tcp text chat whole wire@60+fin"]
)
def test_the_command_knows_what_is_on_no_bridge(case: str) -> None:
    assert CliRunner().invoke(prove, ["--case", case]).exit_code == 2


def test_the_texts_of_cases_are_read_as_they_are_written() -> None:
    for bridge in BRIDGES:
        cuts = [*loss.cuts("text", every_way=True, bridge=bridge)][::97]
        assert [Cut.parse(str(case)) for case in cuts] == cuts
        assert stories.parse(str(stories.drawn(1, 2, bridge))) == stories.drawn(1, 2, bridge)
        assert mishaps.parse(str(mishaps.drawn(1, 2, bridge))) == mishaps.drawn(1, 2, bridge)


def on_a_relay(
    folder: Path, act: Callable[[Stage, Client], Awaitable[None]], *, bridge: Bridge = "ws-ws"
) -> None:
    async def run(clocks: Clocks) -> None:
        async with staged(folder / "relay", clocks, bridge=bridge, accounts=1) as stage:
            await trio.sleep(SETTLE_S)
            stage.upstream.otherwise = _WHOLE
            await act(stage, Client(bridge, stage.connect()))

    virtual.run(run)


def test_what_follows_goes_on_from_the_answer_on_the_warm_connection(tmp_path: Path) -> None:
    async def two_turns(stage: Stage, client: Client) -> None:
        assert (await client.ask("responses", streamed=True)).message.whole
        assert (await client.ask("responses", streamed=True, goes_on=True)).message.whole
        first, second = stage.upstream.turns
        assert first.connection == second.connection
        assert b'"previous_response_id"' in second.body
        assert judge_bodies([second], [first], goes_on=True) == []
        await client.leave()

    on_a_relay(tmp_path, two_turns)


def test_a_drain_lets_the_turn_end_and_closes_the_client_with_1001(tmp_path: Path) -> None:
    async def drained(stage: Stage, client: Client) -> None:
        stage.drain.grace_s = 60.0
        idle = Client("ws-ws", stage.connect())
        waits, heard = SocketHeard(), SocketHeard()
        assert idle.socket is not None
        assert client.socket is not None
        await idle.socket.open(waits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(client.ask, "responses", streamed=True, heard=heard, lingers_s=5.0)
            )
            await trio.sleep(2.5)
            stage.drain.begin()
            began_at_s = trio.current_time()
            await idle.socket.listen(waits)
            assert (waits.close_code, trio.current_time()) == (1001, began_at_s)
        assert heard.message.whole
        assert heard.close_code == 1001
        await stage.stopped.wait()
        assert stage.upstream.sockets == set()
        await idle.leave()
        await client.leave()

    on_a_relay(tmp_path, drained)
