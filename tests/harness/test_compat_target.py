"""Other relays: what is asked of them, how they are judged, and how they are shown side by side."""

from __future__ import annotations

import ast
import json
import tomllib
from typing import TYPE_CHECKING

import attrs
import click
import httpx
import pytest
import trio
from click.testing import CliRunner

from codexrelay.protocol.capabilities import HEADER
from harness.compat.against import all_good, targets_of
from harness.compat.cell import Cell, Result
from harness.compat.command import DRIVERS, compat
from harness.compat.drivers.driver import Order
from harness.compat.drivers.openai_sdk import DRIVER
from harness.compat.install import find, run_npm
from harness.compat.remote import BackendError, RemoteBackend, remote_backend
from harness.compat.scenarios import SCENARIOS
from harness.compat.scorecard import reasons, results_of, side_by_side
from harness.compat.target import (
    FOR_ANY_RELAY,
    Bench,
    Score,
    Scorecard,
    Target,
    TargetError,
    bench,
    measure_all,
    without_wishes,
)
from harness.openai_api import OpenAISimulator
from harness.simulator import Simulator
from tests.fakes.relay import relaying

if TYPE_CHECKING:
    from pathlib import Path

    from harness.compat.drivers.driver import Driver, Variant

GENEROUS_S = 60.0
EVERY_VARIANT = [(driver, variant) for driver in DRIVERS for variant in driver.variants]


def cell_of(scenario: str, folder: Path, *, variant: str = "sdk-chat") -> Cell:
    return Cell(
        driver=DRIVER,
        command=find(DRIVER, folder=folder, npm=run_npm),
        variant=next(row for row in DRIVER.variants if row.name == variant),
        scenario=next(column for column in SCENARIOS if column.name == scenario),
    )


async def test_a_relay_is_steered_and_judged_through_its_backend_alone(tmp_path: Path) -> None:
    told: list[tuple[str, Score]] = []
    cells = [
        cell_of("refreshed", tmp_path, variant="sdk-responses"),
        cell_of("overrides", tmp_path),
    ]
    with trio.fail_after(GENEROUS_S):
        async with relaying(tmp_path / "relay") as relay:
            target = Target(name="ours", url=relay.url, backend_url=relay.simulator.api_base_url)
            async with bench(target) as ready:
                card = await measure_all(
                    ready, cells, on_score=lambda name, score: told.append((name, score))
                )
            assert [seen.path for seen in relay.simulator.seen] == []
    measured, left_out = card.scores
    assert measured.result is not None
    assert measured.result.problems == ()
    assert (left_out.result, left_out.why_not) == (None, "not a matter of every relay")
    assert told == [("ours", score) for score in card.scores]


async def test_an_answer_that_ends_as_it_should_not_is_a_failure_with_its_reason(
    tmp_path: Path,
) -> None:
    # The SDK tells its user; here somebody expects that it does not.
    drop = cell_of("drop", tmp_path)
    cell = attrs.evolve(drop, scenario=attrs.evolve(drop.scenario, but={}))
    with trio.fail_after(GENEROUS_S):
        async with relaying(tmp_path / "relay") as relay:
            target = Target(name="ours", url=relay.url, backend_url=relay.simulator.base_url)
            async with bench(target) as ready:
                result = await ready.measure(cell)
    assert result.problems[0] == "exit status 1"
    assert any("fault drop" in line for line in result.traces)


async def test_what_a_relay_does_not_speak_is_no_cell(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        simulator = OpenAISimulator(wire="chat")
        url = await nursery.start(simulator.serve)
        async with bench(Target(name="chat alone", url=url, key=simulator.key)) as ready:
            assert ready.wires == {"chat"}
            responses = cell_of("tool", tmp_path, variant="sdk-responses")
            assert ready.why_not(responses) == "no endpoint /v1/responses"
            assert ready.why_not(cell_of("tool", tmp_path)) == ""
        nursery.cancel_scope.cancel()


async def test_a_relay_that_is_not_there_is_named() -> None:
    with pytest.raises(TargetError, match=r"^nobody at http://127\.0\.0\.1:1: ConnectError"):
        async with bench(Target(name="nobody", url="http://127.0.0.1:1/v1")):
            pass


async def test_a_backend_that_is_no_simulator_is_named() -> None:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(OpenAISimulator(wire="chat").serve)
        async with remote_backend(url) as backend:
            with pytest.raises(BackendError, match="404"):
                await backend.reset()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("scenario", "accounts", "why_not"),
    [
        ("tool", None, ""),
        ("long", None, ""),
        ("text", None, "no simulated backend to steer"),
        ("drop", None, "no simulated backend to steer"),
        ("keep-alive", None, "no simulated backend to steer"),
        ("drop", 1, ""),
        ("spent", 1, ""),
        ("exhausted", 1, "one account only"),
        ("exhausted", 2, ""),
        ("revoked", 2, "not a matter of every relay"),
    ],
)
async def test_a_cell_needs_a_backend_that_can_do_what_it_is_about(
    tmp_path: Path, scenario: str, accounts: int | None, why_not: str
) -> None:
    async with httpx.AsyncClient() as http:
        backend = None
        if accounts is not None:
            names = ("one", "two")[:accounts]
            backend = RemoteBackend("http://127.0.0.1:1", http, accounts=names)
        ready = Bench(
            target=Target(name="any", url="http://127.0.0.1:1"),
            backend=backend,
            wires=frozenset({"chat"}),
        )
        assert ready.why_not(cell_of(scenario, tmp_path)) == why_not


def test_every_column_for_any_relay_exists() -> None:
    assert set(FOR_ANY_RELAY) <= {scenario.name for scenario in SCENARIOS}


@pytest.mark.parametrize(
    ("driver", "variant"), EVERY_VARIANT, ids=[variant.name for _, variant in EVERY_VARIANT]
)
def test_other_relays_are_told_nothing_that_is_for_codexrelay(
    tmp_path: Path, driver: Driver, variant: Variant
) -> None:
    order = Order(
        variant=variant,
        relay_url="http://127.0.0.1:1",
        home=tmp_path,
        client_key="key",
        prompt="Hello",
        capabilities={},
    )
    for name, text in driver.files(order).items():
        plain = without_wishes(text)
        assert "codex_capabilities" not in plain
        assert HEADER not in plain
        match name.rpartition(".")[2]:
            case "json":
                json.loads(plain)
            case "toml":
                tomllib.loads(plain)
            case "py":
                ast.parse(plain)
            case other:
                raise AssertionError(other)


def score(scenario: str, *problems: str, tries: int = 1) -> Score:
    result = Result(
        variant="pi-chat", scenario=scenario, seconds=1.25, problems=problems, tries=tries
    )
    return Score(variant="pi-chat", scenario=scenario, result=result)


CARDS = (
    Scorecard(target="ours", scores=(score("tool"), score("drop"), score("exhausted", tries=2))),
    Scorecard(
        target="theirs",
        scores=(
            score("tool"),
            score("drop", "exit status\n0", "something else"),
            Score(variant="pi-chat", scenario="exhausted", why_not="one account only"),
        ),
    ),
)


def test_relays_stand_side_by_side_with_their_totals() -> None:
    assert side_by_side(CARDS) == (
        "row      column     ours     theirs\n"
        "pi-chat  tool       ok 1.2   ok 1.2\n"
        "pi-chat  drop       ok 1.2   FAIL\n"
        "pi-chat  exhausted  ok 1.2*  -\n"
        "all                 3 of 3   1 of 2\n"
        "* the second try\n"
    )


def test_each_failure_and_each_dash_has_its_reason_in_a_line() -> None:
    assert reasons(CARDS) == (
        "theirs: pi-chat drop: exit status 0 (and 1 more)\ntheirs: - one account only: exhausted\n"
    )


def test_in_a_report_each_relay_has_rows_of_its_own() -> None:
    results = results_of(CARDS)
    assert [(one.variant, one.scenario, one.ok) for one in results] == [
        ("ours/pi-chat", "tool", True),
        ("ours/pi-chat", "drop", True),
        ("ours/pi-chat", "exhausted", True),
        ("theirs/pi-chat", "tool", True),
        ("theirs/pi-chat", "drop", False),
    ]


def test_one_failure_of_one_relay_is_no_success() -> None:
    assert all_good(CARDS[:1])
    assert not all_good(CARDS)
    assert not all_good(())


def test_a_backend_without_a_name_is_everybody_s() -> None:
    targets = targets_of(
        [("a", "http://127.0.0.1:1/v1"), ("b", "http://127.0.0.1:2")],
        [("", "http://127.0.0.1:3"), ("b", "http://127.0.0.1:4")],
        key=None,
        model=None,
    )
    assert [(target.url, target.backend_url) for target in targets] == [
        ("http://127.0.0.1:1", "http://127.0.0.1:3"),
        ("http://127.0.0.1:2", "http://127.0.0.1:4"),
    ]


@pytest.mark.parametrize(
    ("targets", "backends", "told"),
    [
        ([("", "http://a"), ("", "http://b")], [], "a name of its own"),
        ([("a", "http://a")], [("b", "http://b")], "no target is called b"),
    ],
)
def test_names_that_do_not_fit_are_told(
    targets: list[tuple[str, str]], backends: list[tuple[str, str]], told: str
) -> None:
    with pytest.raises(click.UsageError, match=told):
        targets_of(targets, backends, key=None, model=None)


def test_what_is_no_address_is_told() -> None:
    told = CliRunner().invoke(compat, ["--target", "ours=localhost:1"])
    assert told.exit_code == 2
    assert "'ours=localhost:1' is no URL, nor NAME=URL" in told.output


async def test_times_of_another_process_are_told_on_our_clock() -> None:
    async with trio.open_nursery() as nursery:
        simulator = Simulator()
        url = await nursery.start(simulator.serve)
        async with remote_backend(f"{url}/backend-api/codex") as backend:
            await backend.reset()
            asked_at_s = trio.current_time()
            async with httpx.AsyncClient(trust_env=False) as http:
                await http.get(f"{url}/backend-api/codex/models")
            [seen] = await backend.seen()
            assert asked_at_s - 0.5 < seen.arrived_at_s < trio.current_time() + 0.5
            assert (seen.method, seen.status) == ("GET", 401)
        nursery.cancel_scope.cancel()
