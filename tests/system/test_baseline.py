"""After a thousand clients that left at random, the process is what it was before the first."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from codexrelay.backends.http_attempt import HttpBackend
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.config.settings import ModelsSettings
from harness.openai_api import OpenAISimulator
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.level import Level
from tests.fakes.relay import OpenTurn, ask, ask_chat, eventually, relaying

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.seen import Seen
    from tests.fakes.relay import LiveRelay

_ABORTS: Final = 1000
_AT_ONCE: Final = 50
#: How far a turn gets before its client leaves: so many rounds of the scheduler, or so long.
_MOST_CHECKPOINTS: Final = 100
_LONGEST_STAY_S: Final = 0.4
_TEXTS: Final = (
    *("hello", "[sim deltas=20]", "[sim deltas=2000]", "[sim refusal]"),
    *(f"[sim fault={name}]" for name in ("hang_early", "hang_first", "hang", "500", "drop")),
    *(f"[sim fault={name}]" for name in ("drop_early", "eof", "cut", "garbage", "400")),
)
#: Every other turn is for Codex; one goes from backend to backend.
_NAMES: Final = (*["gpt-5.5"] * 3, "chat:local-model", "plain:local-model", "any")
_MODELS: Final = ModelsSettings(
    routes={"any": ("chat:local-model", "plain:local-model", "openai-codex:gpt-5.5")}
)


async def test_a_thousand_random_aborts_leave_nothing_behind(tmp_path: Path) -> None:
    rng = random.Random(8787)
    left = iter(range(_ABORTS))
    others = {"chat": OpenAISimulator(), "plain": OpenAISimulator(wire="responses")}
    async with relaying(
        tmp_path, Simulator(accounts=some_accounts(2)), others=others, models=_MODELS
    ) as relay:
        before = Level.of(relay)

        async def abort_some() -> None:
            for _ in left:
                await _abort_one(relay, rng)

        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(abort_some)
        for model in ("gpt-5.5", "chat:local-model", "plain:local-model"):
            await _abort_in_the_middle(relay, model)
        for asked in (relay.asked, *(other.turns for other in others.values())):
            await eventually(partial(_somebody_left, asked))
        assert (await relay.post("/v1/responses", ask())).status_code == 200
        await relay.until_at_rest()
        await _close_idle_connections(relay)
        await eventually(
            lambda: Level.of(relay).is_within(before), lambda: (before, Level.of(relay))
        )


async def _abort_one(relay: LiveRelay, rng: random.Random) -> None:
    path, body = _any_request(rng)
    async with relay.open_turn(body, path=path) as turn:
        match rng.randrange(10):
            case 0 | 1 | 2:
                for _ in range(rng.randrange(_MOST_CHECKPOINTS)):
                    await trio.lowlevel.checkpoint()
            case 3:
                await turn.stream.send_eof()
            case _:
                await _read_some(turn, rng)
        if rng.random() < 0.5:
            turn.reset()


async def _abort_in_the_middle(relay: LiveRelay, model: str) -> None:
    """Leave an answer that has begun and does not go on, whatever luck has given the others."""
    body = ask("[sim fault=hang]", model=model, stream=True)
    async with relay.open_turn(body, path="/v1/responses") as turn:
        seen = b""
        while b"output_text.delta" not in seen:
            block = await turn.stream.receive_some(4096)
            assert block, seen
            seen += block
        turn.reset()


def _somebody_left(asked: Sequence[Seen]) -> bool:
    return any(seen.left_at_s for seen in asked)


async def _read_some(turn: OpenTurn, rng: random.Random) -> None:
    """Take a few blocks, for a little while: some turns give none."""
    with trio.move_on_after(rng.uniform(0.0, _LONGEST_STAY_S)):
        for _ in range(rng.randrange(1, 6)):
            if not await turn.stream.receive_some(rng.randrange(1, 4096)):
                return


def _any_request(rng: random.Random) -> tuple[str, JsonObject]:
    text, model, stream = rng.choice(_TEXTS), rng.choice(_NAMES), rng.random() < 0.7
    if rng.random() < 0.5:
        return "/v1/responses", ask(text, model=model, stream=stream)
    return "/v1/chat/completions", ask_chat(text, model=model, stream=stream)


async def _close_idle_connections(relay: LiveRelay) -> None:
    """Close what is kept for the next request: it is nobody's."""
    targets = (*relay.services.relay.instances.members, *relay.services.relay.others.values())
    for target in targets:
        assert isinstance(target.backend, HttpBackend)
        assert isinstance(target.backend.transport, DirectTransport)
        await target.backend.transport.aclose()
