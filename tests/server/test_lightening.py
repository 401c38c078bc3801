"""What makes requests lighter never costs a turn, and never holds up the other ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from codexrelay.compaction.compress import Compressed
from codexrelay.compaction.settings import CompactionSettings, CompressionSettings
from codexrelay.config.settings import Settings
from codexrelay.protocol.raw import JsonObject
from codexrelay.server.lightening import lighten
from codexrelay.server.notices import Notices
from codexrelay.server.services import Current
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.state import Savings, TurnPlan
from harness.demo.mixed.history import THRESHOLD_TOKENS, chat_messages, told_results

if TYPE_CHECKING:
    from codexrelay.server.services import Services

COMPACTION: Final = CompactionSettings(enabled=True, token_threshold=THRESHOLD_TOKENS)
COMPRESSION: Final = CompressionSettings(enabled=True)
KEY: Final = SessionKey(text="s")
OPEN: Final = TurnPlan(compacts=True)


@attrs.define(eq=False)
class Steps:
    """A compressor that does what it is told, step by step."""

    steps_of: Callable[[JsonObject], Generator[None, None, Compressed]]
    closed: int = 0

    def steps(
        self, body: JsonObject, _settings: object, _clock: object
    ) -> Generator[None, None, Compressed]:
        try:
            return (yield from self.steps_of(body))
        finally:
            self.closed += 1


@attrs.define(eq=False)
class FewServices:
    """The services that lightening uses."""

    current: Current
    compressor: Steps
    notices: Notices = attrs.field(factory=Notices)
    compacting: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))


def nothing(body: JsonObject) -> Generator[None, None, Compressed]:
    yield
    return Compressed(body=body, outputs=0, saved_bytes=0)


def failing(_body: JsonObject) -> Generator[None, None, Compressed]:
    yield
    raise ValueError("what a client said")


def services(
    *,
    compaction: CompactionSettings = COMPACTION,
    compression: CompressionSettings = COMPRESSION,
    steps: Callable[[JsonObject], Generator[None, None, Compressed]] = nothing,
) -> Services:
    settings = Settings(compaction=compaction, dynamic_compression=compression)
    return FewServices(Current(settings), Steps(steps))  # type: ignore[return-value] - all it uses


def history(reads: int = 2) -> JsonObject:
    return {"model": "m", "messages": chat_messages(reads, "go on")}


@pytest.mark.parametrize(
    ("plan", "family", "enabled", "told"),
    [
        (OPEN, False, True, ["stub", "whole"]),
        (OPEN, True, True, ["whole", "whole"]),
        (TurnPlan(compacts=False), False, True, ["whole", "whole"]),
        (OPEN, False, False, ["whole", "whole"]),
    ],
    ids=["it may", "the family", "the session's plan", "it is off"],
)
async def test_history_is_compacted_only_where_all_allow_it(
    plan: TurnPlan, family: bool, enabled: bool, told: list[str]
) -> None:
    some = services(compaction=attrs.evolve(COMPACTION, enabled=enabled))
    light = await lighten(history(), plan, KEY, some, family=family)
    assert told_results(light.body) == told
    assert light.compacted is (told[0] == "stub")
    assert bool(light.compaction) is light.compacted


async def test_a_session_that_was_above_the_threshold_is_compacted_below_it_too() -> None:
    some = services(compaction=attrs.evolve(COMPACTION, token_threshold=10**9))
    light = await lighten(history(), OPEN, KEY, some, family=False)
    assert not light.compacted
    latched = attrs.evolve(OPEN, compacting=True)
    light = await lighten(history(), latched, KEY, some, family=False)
    assert light.compacted


class Ratio(float):
    """Remembers in which thread it was divided by."""

    threads: set[int]

    def __rtruediv__(self, other: float) -> float:
        self.threads.add(threading.get_ident())
        return other / float(self)


@pytest.mark.parametrize(("reads", "apart"), [(2, False), (60, True)], ids=["short", "long"])
async def test_a_long_history_is_compacted_beside_the_turns_that_run(
    reads: int, apart: bool
) -> None:
    ratio = Ratio(4.0)
    ratio.threads = set()
    plan = attrs.evolve(OPEN, characters_per_token=ratio)
    some = services(compression=CompressionSettings())
    light = await lighten(history(reads), plan, KEY, some, family=False)
    assert told_results(light.body) == ["stub"] * (reads - 1) + ["whole"]
    assert ratio.threads
    assert (threading.get_ident() in ratio.threads) is not apart


async def test_a_message_with_many_calls_is_a_long_history() -> None:
    ratio = Ratio(4.0)
    ratio.threads = set()
    plan = attrs.evolve(OPEN, characters_per_token=ratio)
    call = {"id": "1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    body: JsonObject = {"messages": [{"role": "assistant", "tool_calls": [call] * 300}]}
    await lighten(body, plan, KEY, services(compression=CompressionSettings()), family=False)
    assert threading.get_ident() not in ratio.threads


async def test_the_clients_body_is_not_changed() -> None:
    body, same = history(), history()
    await lighten(body, OPEN, KEY, services(), family=False)
    assert body == same


async def test_where_both_are_off_the_body_is_the_very_same() -> None:
    some = services(compaction=CompactionSettings(), compression=CompressionSettings())
    body = history()
    light = await lighten(body, OPEN, KEY, some, family=False)
    assert light.body is body
    assert light.characters is None, "nothing is measured for nobody"


async def test_what_fails_is_left_out_and_told_once_without_a_clients_words() -> None:
    impossible = attrs.evolve(OPEN, characters_per_token=0.0)
    some = services(steps=failing)
    body = history()
    with capture_logs() as logged:
        for _ in range(2):
            light = await lighten(body, impossible, KEY, some, family=False)
            assert light.body is body
        await lighten(body, impossible, SessionKey(text="another"), some, family=False)
    assert [line["log_level"] for line in logged] == ["warning"] * 4
    assert len({line["event"] for line in logged}) == 2
    assert "what a client said" not in str(logged)
    assert {line["where"].split(",")[0] for line in logged} == {
        "ZeroDivisionError in estimate.py",
        "ValueError in test_lightening.py",
    }


async def test_between_two_steps_of_a_compressor_others_run() -> None:
    ran: list[str] = []

    def steps(body: JsonObject) -> Generator[None, None, Compressed]:
        for _ in range(5):
            ran.append("step")
            yield
        return Compressed(body={"model": "smaller"}, outputs=1, saved_bytes=400)

    async def other() -> None:
        while True:
            ran.append("other")
            await trio.lowlevel.checkpoint()

    some = services(compaction=CompactionSettings(), steps=steps)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        light = await lighten(history(), OPEN, KEY, some, family=True)
        nursery.cancel_scope.cancel()
    assert light.body == {"model": "smaller"}
    assert light.compression == Savings(saved_bytes=400, saved_tokens=100)
    # In each round of the scheduler both have their turn, in any order.
    assert "step step step" not in " ".join(ran)


async def test_a_client_that_leaves_ends_the_compressor() -> None:
    def endless(body: JsonObject) -> Generator[None, None, Compressed]:
        while True:
            yield

    some = services(steps=endless)
    with trio.move_on_after(0.01):
        await lighten(history(), OPEN, KEY, some, family=True)
    assert some.compressor.closed == 1  # type: ignore[attr-defined]


async def test_compressors_that_failed_are_named_once() -> None:
    def steps(body: JsonObject) -> Generator[None, None, Compressed]:
        yield
        return Compressed(body=body, outputs=0, saved_bytes=0, failed=("ansi",))

    some = services(steps=steps)
    with capture_logs() as logged:
        for _ in range(2):
            await lighten(history(), OPEN, KEY, some, family=True)
    [told] = logged
    assert told["event"].startswith("the compressor ansi failed")
