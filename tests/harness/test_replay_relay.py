"""A whole relay on a cassette, in virtual time: every patience ends when it should."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import structlog.testing
import trio

from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.backends.codex.settings import (
    BudgetSettings,
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
    ModelCatalogSettings,
)
from codexrelay.cli import process
from codexrelay.cli.process import World
from codexrelay.config.settings import BackendsSettings, ServerSettings, Settings
from codexrelay.server.drain import Drain
from codexrelay.server.listen import Bound
from codexrelay.sessions.settings import SessionsSettings
from harness.proof import virtual
from harness.proof.client import Heard, ask, request_bytes
from harness.proof.wires import UNSUPPORTED, Door
from harness.replay.transport import ReplayTransport
from harness.simulator.accounts import some_accounts
from harness.simulator.backend import SimulatedBackend
from tests.fakes import responses_events as events
from tests.fakes.replayed import BACKEND, ledger_of, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cassettes.model import End, Interaction
    from harness.proof.virtual import Clocks

pytestmark = pytest.mark.skipif(UNSUPPORTED is not None, reason=UNSUPPORTED or "")

Chunks = tuple[tuple[float, bytes], ...]

SILENCE_S = 30.0
DELTAS = 40
#: Never at the same moment as anything recorded.
KEEP_ALIVE_S = 13.0
STILL_THERE = "still there"


class Echoing(httpx.AsyncBaseTransport):
    """Takes whatever is asked for as what was recorded."""

    def __init__(self, tape: Interaction) -> None:
        self._tape = tape

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = attrs.evolve(self._tape.request, uri=str(request.url), body=request.content)
        tape = attrs.evolve(self._tape, request=asked)
        return await ReplayTransport(ledger_of(tape)).handle_async_request(request)


async def turn(
    folder: Path, tape: Interaction, clocks: Clocks, *, budgets: BudgetSettings
) -> tuple[float, Heard]:
    """Return when a client asked, and what it heard of the relay whose upstream is the tape."""
    store = folder / "accounts"
    SimulatedBackend(accounts=some_accounts(1), wall_clock=clocks.wall).write_store(store)
    door = Door()

    async def bind(_host: str, _port: int) -> Bound:
        return Bound(url="http://127.0.0.1:1", listeners=[door])

    world = World(
        legacy_folders=lambda _: (),
        wall_clock=clocks.wall,
        new_id=functools.partial(format, 1, "032x"),
        proxy_for=lambda _: None,
        bind=bind,
        around_transport=lambda *_: Echoing(tape),
    )
    codex = CodexSettings(
        managed_oauth=ManagedOAuthSettings(storage_path=str(store)),
        model_catalog=ModelCatalogSettings(discovery_enabled=False),
    )
    settings = Settings(
        server=ServerSettings(port=0, keep_alive_s=KEEP_ALIVE_S),
        sessions=SessionsSettings(state_path=str(folder / "state")),
        backends=BackendsSettings(
            openai_codex=CodexBackendSettings(
                api_base_url=BACKEND, budgets=budgets, extra=ExtraSettings(codex=codex)
            )
        ),
    )
    drain, heard = Drain(grace_s=0.0), Heard()
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(process.run, settings, world, drain))
        asked_at_s = trio.current_time()
        body = {"model": "gpt-5.5", "input": "hello", "stream": True}
        await ask(door.connect(), request_bytes("/v1/responses", body), heard)
        drain.begin()
    return asked_at_s, heard


def told(
    folder: Path,
    chunks: Chunks,
    *,
    end: End = "eof",
    status: int | None = 200,
    **budgets: float,
) -> list[tuple[float, str]]:
    """Return what a client hears in order, in words, and how many seconds after it has asked."""
    tape = recorded(chunks=chunks, end=end, status=status)
    with structlog.testing.capture_logs():
        asked_at_s, heard = virtual.run(
            functools.partial(turn, folder, tape, budgets=BudgetSettings(**budgets))
        )
    said: list[tuple[float, str]] = []
    begin = 0
    for at_s, size in heard.at_s:
        said += [(round(at_s - asked_at_s, 3), word) for word in words(heard.data[begin:size])]
        begin = size
    return said


def words(wire: bytes) -> list[str]:
    """Name what is in some bytes of an answer: a status, events, signs of life."""
    found = []
    for line in bytes(wire).split(b"\n"):
        if line.startswith(b"HTTP/1.1 "):
            found.append(line[9:12].decode())
        elif line.startswith(b"event: "):
            found.append(line[7:].strip().decode().removeprefix("response."))
        elif line.startswith(b":"):
            found.append("still there")
        elif b'"code"' in line:
            found.append(line[line.index(b'"message"') :].decode())
    return found


def signs_of_life(begin_s: float, end_s: float) -> list[tuple[float, str]]:
    """Return what a client hears while nothing comes for it between two moments."""
    times = int((end_s - begin_s) / KEEP_ALIVE_S)
    return [(begin_s + n * KEEP_ALIVE_S, STILL_THERE) for n in range(1, times + 1)]


def test_twenty_minutes_of_silences_are_replayed_in_a_moment(tmp_path: Path) -> None:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    end_s = DELTAS * SILENCE_S + 1.0

    said = told(
        tmp_path,
        (
            (0.5, events.created() + events.added(0, **message)),
            *((n * SILENCE_S, events.text(f"{n} ")) for n in range(1, DELTAS + 1)),
            (end_s, events.done(0, **message) + events.completed()),
        ),
    )

    expected = [(0.5, "200"), (0.5, "created"), (0.5, "output_item.added")]
    heard_s = 0.5
    for n in range(1, DELTAS + 1):
        expected += signs_of_life(heard_s, heard_s := n * SILENCE_S)
        expected.append((heard_s, "output_text.delta"))
    assert said == [*expected, (end_s, "output_item.done"), (end_s, "completed")]


@pytest.mark.parametrize(
    ("tape", "budgets", "ends_at_s", "said"),
    [
        (
            {"chunks": (), "end": "idle", "status": None},
            {"headers_s": 60.0},
            60.0,
            "(budget headers_s;",
        ),
        (
            {"chunks": ((1.5, b": hello\n\n"),), "end": "idle"},
            {"first_event_s": 60.0},
            61.5,
            "(budget first_event_s;",
        ),
        (
            {
                "chunks": ((1.5, events.created()), (21.5, events.text("a"))),
                "end": "closed-by-relay",
            },
            {"silence_s": 60.0},
            81.5,
            "(budget silence_s;",
        ),
        (
            {
                "chunks": (
                    (1.5, events.created()),
                    *((n * SILENCE_S, events.text("a")) for n in range(1, 99)),
                ),
            },
            {"turn_s": 600.5},
            600.5,
            "(budget turn_s;",
        ),
        (
            {"chunks": ((1.5, events.created()), (21.5, events.text("a"))), "end": "reset"},
            {},
            21.5,
            "the connection to the backend broke",
        ),
    ],
    ids=["headers", "first event", "silence", "turn", "reset"],
)
def test_each_patience_ends_at_its_moment_and_says_so_once(
    tmp_path: Path,
    tape: dict[str, object],
    budgets: dict[str, float],
    ends_at_s: float,
    said: str,
) -> None:
    heard = told(tmp_path, **tape, **budgets)  # type: ignore[arg-type]

    *before, (at_s, ending), (_, message) = heard
    assert (at_s, ending) == (ends_at_s, "failed")
    assert said in message
    last_s = 0.0
    for moment_s, word in before:
        assert moment_s - last_s <= KEEP_ALIVE_S, f"nothing between {last_s} and {moment_s}"
        assert word in ("200", STILL_THERE, "created", "output_text.delta")
        last_s = moment_s
    assert ends_at_s - last_s <= KEEP_ALIVE_S
