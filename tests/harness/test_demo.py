"""The demo: it works from end to end, and it says so when something does not."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio
from rich.console import Console

from codexrelay.protocol.raw import dump
from harness.demo import command, running
from harness.demo.client import RESPONSES
from harness.demo.facts import Fact, equal, same, says, soon, whole
from harness.demo.printing import Page
from harness.demo.scenes import SCENES, SPEECHES, Scene, mixed_session, rotation
from harness.demo.shell import Ran, codexrelay
from harness.demo.stage import Stage, holds_in_order
from harness.demo.tap import TappedSimulator
from harness.simulator import Seen
from tests.fakes.no_tls import NO_TLS
from tests.fakes.simulated import request, signed_in_headers, user

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio.testing import MockClock

#: To fail, never to synchronise.
PATIENCE_S = 60.0
DEMO = (sys.executable, "-m", "harness", "demo")
OWN, OTHER = running.SECOND.name, running.ACCOUNT.name
#: What the relay's journal tells of a turn that has changed accounts.
EXPLAINED = (
    f"turn completed after 0.30 s, served by {OTHER}\n"
    f"1. {OWN}: 429 usage_limit_reached: the limit (request sent)\n"
    f"the session is bound to {OWN}\n"
)


async def test_every_scene_of_the_demo_works() -> None:
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(
            [*DEMO, "--pace-ms", "0"], capture_stdout=True, capture_stderr=True, check=False
        )
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    titles = [line for line in shown.splitlines() if line[:1].isdigit()]
    assert titles[:-1] == [f"{number}  {scene.title}" for number, scene in enumerate(SCENES, 1)]
    assert titles[-1].startswith(f"{len(SCENES)} of {len(SCENES)} scenes worked")
    assert command.BASE_URL in shown.partition(titles[-1])[2]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
async def test_ctrl_c_leaves_no_relay_and_no_file_behind(tmp_path: Path) -> None:
    shown = b""
    with trio.fail_after(PATIENCE_S):
        demo = await trio.lowlevel.open_process(
            [*DEMO, "--pace-ms", "10000"],
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        try:
            assert demo.stdout is not None
            async with demo.stdout:
                while b"answer" not in shown:
                    shown += (more := await demo.stdout.receive_some())
                    assert more, shown
                demo.send_signal(signal.SIGINT)  # not to the relay, which is the demo's to end
                await demo.wait()
        finally:
            demo.kill()
    assert demo.returncode == command.INTERRUPTED
    port = int(shown.partition(b"listening on http://127.0.0.1:")[2].split()[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    assert not os.listdir(tmp_path)


async def test_a_scene_that_fails_makes_the_exit_status_1() -> None:
    async def fail(stage: Stage) -> list[Fact]:
        return [Fact("it went wrong", holds=False)]

    shown = io.StringIO()
    with trio.fail_after(PATIENCE_S):
        status = await command.play([Scene("A scene", fail, logs=())], page(shown), 0.0)
    assert status == 1
    assert "FAILED   it went wrong" in shown.getvalue()
    assert "0 of 1 scenes worked" in shown.getvalue()
    assert command.BASE_URL not in shown.getvalue()


#: What is played with the relay of the stage.
ON_STAGE = [scene for scene in SCENES if scene.play is not mixed_session]


@pytest.mark.parametrize("scene", ON_STAGE, ids=lambda scene: scene.play.__name__)
async def test_no_scene_works_without_a_relay(scene: Scene, tmp_path: Path) -> None:
    # Straight to the backend, which knows neither the client nor its protocol.
    shown = io.StringIO()
    simulator = TappedSimulator(accounts=[running.ACCOUNT, running.SECOND])
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(simulator.serve)
            async with httpx.AsyncClient(base_url=base_url, trust_env=False, verify=NO_TLS) as http:
                stage = make_stage(simulator, http, shown=shown, store=tmp_path)
                assert not await running.play([attrs.evolve(scene, logs=())], stage)
            nursery.cancel_scope.cancel()
    assert "FAILED" in shown.getvalue()


@pytest.mark.parametrize(
    ("ways", "explained", "wrong"),
    [
        ([[OWN], [OWN, OTHER], [OWN]], EXPLAINED, None),
        ([[OWN], [OWN, OTHER], [OTHER]], EXPLAINED, f"accounts {OWN}, {OTHER}, {OTHER}, not "),
        ([[OWN], [OTHER], [OWN]], EXPLAINED, "attempts 1, 1, 1, not 1, 2, 1"),
        ([[OWN], [OWN], [OWN]], EXPLAINED, f"accounts {OWN}, {OWN}, {OWN}, not "),
        ([[OWN], [OWN, OTHER], [OWN, OTHER]], EXPLAINED, "attempts 1, 2, 2, not 1, 2, 1"),
        ([[OWN], [OWN, OTHER], [OWN]], "no such turn", "explain does not say "),
    ],
    ids=[
        "as it should be",
        "the session stays where it went",
        "it goes before there is a reason",
        "it never goes",
        "it is turned away when it returns",
        "nothing says why",
    ],
)
async def test_the_rotation_must_go_there_and_back_and_be_explained(
    ways: list[list[str]],
    explained: str,
    wrong: str | None,
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    shown = io.StringIO()
    simulator = TappedSimulator(accounts=[running.ACCOUNT, running.SECOND])
    relay = ScriptedRelay(simulator, ways)
    owner = Owner(explained)
    async with httpx.AsyncClient(base_url="http://relay", transport=relay) as http:
        stage = make_stage(simulator, http, shown=shown, store=tmp_path)
        stage = attrs.evolve(stage, shell=owner.types)
        worked = await running.play([Scene("A rotation", rotation, logs=())], stage)
    failed = [line for line in shown.getvalue().splitlines() if "FAILED" in line]
    assert worked is (wrong is None)
    assert worked is (not failed)
    assert wrong is None or any(wrong in line for line in failed), shown.getvalue()
    assert owner.typed[-1] == ("accounts", "clear", OWN)


async def test_a_command_is_run_again_until_the_relay_has_written_what_it_tells(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    shown, owner = io.StringIO(), Owner("told", failures=2)
    simulator = TappedSimulator(accounts=[running.ACCOUNT])
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        stage = make_stage(simulator, http, shown=shown, store=tmp_path)
        assert await attrs.evolve(stage, shell=owner.types).run("explain", "req_1") == "told"
    assert owner.typed == [("explain", "req_1")] * 3
    assert shown.getvalue().splitlines() == [
        "   shell    $ codexrelay explain req_1",
        "            told",
    ]


async def test_a_command_that_goes_on_failing_is_shown_with_its_complaint(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    shown, owner = io.StringIO(), Owner("told", failures=100)
    simulator = TappedSimulator(accounts=[running.ACCOUNT])
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        stage = make_stage(simulator, http, shown=shown, store=tmp_path)
        assert await attrs.evolve(stage, shell=owner.types).run("explain", "req_1") == "not yet"
    assert "not yet" in shown.getvalue()


async def test_the_owners_commands_use_the_relays_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sessions: {state_path: here}", "utf-8")
    with trio.fail_after(PATIENCE_S):
        ran = await codexrelay(tmp_path, ["explain", "req_1"])
    assert ran.status == 1
    assert f"{tmp_path / 'here'} knows no turn req_1" in ran.printed


@pytest.mark.parametrize(
    ("log", "good"),
    [
        (["12:00:00 info    turn completed"], True),
        (["12:00:00 warning turn failed"], False),
        ([], False),
    ],
    ids=["its line", "another line", "no line"],
)
async def test_a_scene_needs_its_log_lines(
    log: list[str], good: bool, autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> list[Fact]:
        stage.log += log
        return []

    assert await played(Scene("A scene", play, logs=("turn completed",)), tmp_path) is good


async def test_a_scene_that_never_ends_fails(autojump_clock: MockClock, tmp_path: Path) -> None:
    async def play(stage: Stage) -> list[Fact]:
        await trio.sleep_forever()

    assert not await played(Scene("A scene", play, logs=()), tmp_path)


@pytest.mark.parametrize("error", [httpx.ReadError("cut"), ValueError("no JSON")], ids=str)
async def test_a_scene_that_gets_no_readable_answer_fails(error: Exception, tmp_path: Path) -> None:
    async def play(stage: Stage) -> list[Fact]:
        raise error

    assert not await played(Scene("A scene", play, logs=()), tmp_path)


async def test_what_earlier_scenes_left_is_not_counted(tmp_path: Path) -> None:
    simulator = TappedSimulator(accounts=[running.ACCOUNT])
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        stage = make_stage(simulator, http, shown=io.StringIO(), store=tmp_path)
        stage.log += ["turn completed"]
        stage.begin()
        stage.log += ["turn failed"]
        assert stage.logged == ["turn failed"]


async def test_the_tap_keeps_the_bodies_of_answers_whatever_their_framing() -> None:
    simulator = TappedSimulator(accounts=[running.ACCOUNT])
    headers = signed_in_headers(simulator, running.ACCOUNT.name)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(simulator.serve)
            async with httpx.AsyncClient(base_url=base_url, trust_env=False, verify=NO_TLS) as http:
                chunked = await http.post(RESPONSES, json=request(user("Hello")), headers=headers)
                counted = await http.post(RESPONSES)
            nursery.cancel_scope.cancel()
    assert (chunked.status_code, counted.status_code) == (200, 401)
    assert simulator.bodies == [chunked.content, counted.content]


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        (["a", "b"], True),
        (["x", "a", "y", "b", "z"], True),
        (["b", "a"], False),
        (["a b"], False),
        (["a"], False),
    ],
)
def test_log_lines_are_wanted_in_order(lines: list[str], good: bool) -> None:
    assert holds_in_order(lines, ["a", "b"]) is good


@pytest.mark.parametrize(
    ("fact", "text", "holds"),
    [
        (equal("status", 200, 200), "status 200", True),
        (equal("status", 500, 200), "status 500, not 200", False),
        (equal("answers", [401, 200], [401, 200]), "answers 401, 200", True),
        (equal("answers", [], [200]), "answers nothing, not 200", False),
        (says("explain", "a b c", ["a", "c"]), "explain says 'a' and 'c'", True),
        (says("explain", "a b", ["a", "c", "d"]), "explain does not say 'c' or 'd'", False),
        (whole("a b", "a b"), "every word arrived", True),
        (whole("a", "a b"), "what arrived was 'a', not 'a b'", False),
        (
            same(bytearray(b"a"), bytearray(b"a")),
            "byte for byte what the backend sent (1 bytes)",
            True,
        ),
        (
            same(bytearray(b"a"), bytearray(b"bc")),
            "1 bytes, not the 2 that the backend sent",
            False,
        ),
        (soon("left", 0.0021, limit_s=1.0), "left after 2.1 ms (at most 1 s)", True),
        (soon("left", 1.5, limit_s=1.0), "left after 1500.0 ms (at most 1 s)", False),
        (soon("left", None, limit_s=1.0), "left: not within 1 s", False),
    ],
)
def test_facts_say_what_was_found_and_what_was_wanted(fact: Fact, text: str, holds: bool) -> None:
    assert fact == Fact(text, holds)


def test_words_are_shown_as_they_come_and_broken_at_the_edge() -> None:
    shown = io.StringIO()
    written = page(shown, width=60)
    written.hear("Words ")
    assert shown.getvalue() == "   answer   Words"
    for _ in range(8):
        written.hear("to come ")
    written.line("seen", "all")
    assert shown.getvalue().splitlines() == [
        "   answer   Words to come to come to come to come to come",
        "            to come to come to come",
        "   seen     all",
    ]


def test_a_long_text_is_wrapped_or_cut() -> None:
    shown = io.StringIO()
    written = page(shown, width=60)
    written.line("whole", "word " * 20)
    written.line("cut", "word " * 20, most_rows=1)
    assert shown.getvalue().splitlines() == [
        "   whole    word word word word word word word word word",
        "            word word word word word word word word word",
        "            word word",
        "   cut      word word word word word word word word word ...",
    ]


def test_a_terminal_gets_styles_and_a_pipe_none() -> None:
    terminal, pipe = io.StringIO(), io.StringIO()
    Page(Console(file=terminal, force_terminal=True, color_system="standard")).title("Title")
    Page(Console(file=pipe, force_terminal=False)).title("Title")
    assert terminal.getvalue() == "\n\x1b[1mTitle\x1b[0m\n"
    assert pipe.getvalue() == "\nTitle\n"


@attrs.define(eq=False)
class Owner:
    """A shell whose every command prints the same, after some that have failed."""

    prints: str
    failures: int = 0
    typed: list[tuple[str, ...]] = attrs.field(factory=list)

    async def types(self, words: Sequence[str]) -> Ran:
        self.typed.append(tuple(words))
        return Ran(1, "not yet") if len(self.typed) <= self.failures else Ran(0, self.prints)


@attrs.define(eq=False)
class ScriptedRelay(httpx.AsyncBaseTransport):
    """Answers each turn of the demo's session by way of accounts, the last of which serves."""

    simulator: TappedSimulator
    ways: list[list[str]]
    turns: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        way, speech = self.ways[self.turns], SPEECHES[self.turns]
        self.turns += 1
        for account in way:
            seen = Seen(method="POST", path="/responses", headers=[], body=None, arrived_at_s=0.0)
            seen.status = 200 if account == way[-1] else 429
            self.simulator.seen.append(seen)
        delta = dump({"type": "response.output_text.delta", "delta": speech})
        return httpx.Response(
            200,
            content=b"event: response.output_text.delta\ndata: " + delta + b"\n\n",
            headers={
                "x-codexrelay-request-id": f"req_{self.turns}",
                "x-codexrelay-account": way[-1],
                "x-codexrelay-attempts": str(len(way)),
            },
        )


def page(shown: io.StringIO, *, width: int = 80) -> Page:
    return Page(Console(file=shown, width=width))


def make_stage(
    simulator: TappedSimulator, http: httpx.AsyncClient, *, shown: io.StringIO, store: Path
) -> Stage:
    return Stage(
        simulator=simulator,
        account=running.ACCOUNT.name,
        second=running.SECOND.name,
        store=store,
        http=http,
        shell=Owner("").types,
        log=[],
        page=page(shown),
    )


async def played(scene: Scene, store: Path) -> bool:
    """Play a scene that needs neither backend nor relay; tell whether it is said to have worked."""
    shown = io.StringIO()
    simulator = TappedSimulator(accounts=[running.ACCOUNT])
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        worked = await running.play([scene], make_stage(simulator, http, shown=shown, store=store))
    assert ("FAILED" in shown.getvalue()) is not worked
    return worked
