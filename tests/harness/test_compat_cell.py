"""One cell from end to end, with the one program that needs no npm: the SDK in this environment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from codexrelay.config import load
from harness.compat.cell import Cell, run_cell
from harness.compat.drivers.openai_sdk import DRIVER, OpenAISdk
from harness.compat.install import find, run_npm
from harness.compat.scenarios import SCENARIOS, Ending
from harness.relay_process import STATE_FOLDER, RelayStartError, relay_settings, running_relay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.compat.drivers.driver import Order

GENEROUS_S = 60.0


def cell_of(scenario: str, folder: Path, *, variant: str = "sdk-chat") -> Cell:
    return Cell(
        driver=DRIVER,
        command=find(DRIVER, folder=folder, npm=run_npm),
        variant=next(row for row in DRIVER.variants if row.name == variant),
        scenario=next(column for column in SCENARIOS if column.name == scenario),
    )


async def test_a_conversation_whose_account_expires_goes_on_with_a_new_token(
    tmp_path: Path,
) -> None:
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(cell_of("refreshed", tmp_path))
    assert result.problems == ()
    assert (result.variant, result.scenario) == ("sdk-chat", "refreshed")


async def test_a_conversation_whose_account_is_revoked_goes_on_with_the_other(
    tmp_path: Path,
) -> None:
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(cell_of("revoked", tmp_path, variant="sdk-responses"))
    assert result.problems == ()


async def test_what_a_block_asks_for_shows_at_the_backend(tmp_path: Path) -> None:
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(cell_of("overrides", tmp_path, variant="sdk-responses-whole"))
    assert result.problems == ()


class LikeOpenCode(OpenAISdk):
    """The SDK with a header that the relay knows OpenCode by."""

    def files(self, order: Order) -> Mapping[str, str]:
        return {
            name: text.replace(
                "client = OpenAI(",
                'client = OpenAI(default_headers={"x-session-affinity": "ses_1"}, ',
            )
            for name, text in super().files(order).items()
        }


async def test_a_program_with_an_adaptation_gets_a_call_that_it_can_run(tmp_path: Path) -> None:
    cell = attrs.evolve(cell_of("adapted", tmp_path), driver=LikeOpenCode())
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(cell)
    assert result.problems == ()


async def test_without_the_adaptation_the_column_fails(tmp_path: Path) -> None:
    cell = attrs.evolve(cell_of("adapted", tmp_path), driver=LikeOpenCode())
    off = attrs.evolve(cell, scenario=attrs.evolve(cell.scenario, adaptations=()))
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(off)
    assert result.problems == (
        "it did not print 'The command printed: relay-compat-4711'",
        "the backend never got the tool's output",
    )
    assert "stdout: The command printed: there is no tool shell" in result.traces


async def test_a_cell_that_ends_otherwise_than_expected_fails_and_leaves_traces(
    tmp_path: Path,
) -> None:
    cell = cell_of("eof", tmp_path)
    hopeful = attrs.evolve(cell, scenario=attrs.evolve(cell.scenario, but={}))
    assert (cell.ending, hopeful.ending) == (Ending.REPORTED, Ending.ANSWERED)
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(hopeful)
    assert "exit status 1" in result.problems
    assert any(line.startswith("backend: ") and "fault eof" in line for line in result.traces)
    assert any(line.startswith("stderr: ") for line in result.traces)
    assert any(line.startswith("relay: ") for line in result.traces)


async def test_a_relay_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        trio.fail_after(GENEROUS_S),
        pytest.RaisesGroup(pytest.RaisesExc(RelayStartError, match=r"server\.prot")),
    ):
        async with running_relay(tmp_path, {"server": {"prot": 1}}):
            pytest.fail("it has no such key")


async def test_a_relay_stops_well_when_it_is_asked_to(tmp_path: Path) -> None:
    with trio.fail_after(GENEROUS_S):
        async with running_relay(tmp_path, {}) as relay:
            assert relay.url.startswith("http://127.0.0.1:")
            assert relay.status is None
    assert relay.status == 0


def test_further_keys_join_those_of_the_harness(tmp_path: Path) -> None:
    settings = relay_settings(
        api_base_url="http://127.0.0.1:1/backend-api/codex",
        issuer_url="http://127.0.0.1:1",
        store=tmp_path / "accounts",
        managed_oauth={"selection_strategy": "random"},
        aliases={"mine": "gpt-5.5?reasoning_effort=low"},
        adaptations=["pi.shell_as_bash"],
    )
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings), "utf-8")
    loaded = load(config_path=config, environ={}, flags={}).settings
    store = loaded.backends.openai_codex.extra.codex.managed_oauth
    assert (store.selection_strategy, store.allow_legacy_fallback) == ("random", False)
    assert store.storage_path == str(tmp_path / "accounts")
    assert loaded.models.aliases == {"mine": "gpt-5.5?reasoning_effort=low"}
    assert loaded.profiles.adaptations == ("pi.shell_as_bash",)
    capabilities = loaded.backends.openai_codex.extra.codex.default_capabilities
    assert capabilities.bypass_tool_call_reactor is False
    assert loaded.sessions.state_path == str(tmp_path / STATE_FOLDER)
