"""`codexrelay explain`, over journals that a relay has written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from codexrelay.cli import main
from codexrelay.protocol.raw import dump
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.relay import ask, relaying, with_accounts

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject


def explain(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["explain", *words, "--state-path", str(folder)])


def two() -> Simulator:
    return Simulator(accounts=[SimulatedAccount("home"), SimulatedAccount("work")])


def journal(folder: Path, **line: object) -> Path:
    (folder / "turns.jsonl").write_bytes(dump({"request": "req_1", **line}) + b"\n")  # type: ignore[dict-item] - JSON
    return folder


async def test_a_rotation_is_told_from_the_first_account_to_the_last(tmp_path: Path) -> None:
    affinity = with_accounts(selection_strategy="session-affinity")
    async with relaying(tmp_path, two(), backend=affinity) as relay:
        await relay.post("/v1/responses", ask(prompt_cache_key="s"))
        relay.simulator.limit("home", resets_in_s=3600)
        answer = await relay.post("/v1/responses", ask(prompt_cache_key="s"))
        request_id = answer.headers["x-codexrelay-request-id"]
        line = await relay.journal(request_id)
    told = explain(relay.state, request_id)
    assert told.exit_code == 0
    first, ended, *way = told.stdout.splitlines()
    assert first.startswith(f"{request_id}  gpt-5.5, responses, from python-httpx")
    assert ended.startswith("turn completed after ")
    assert ended.endswith(", served by work")
    assert way[0].startswith("1. home: 429 usage_limit_reached: The usage limit has been reached")
    assert "(request sent)" in way[0]
    assert way[1] == "    chosen because the session is bound to it, among home, work"
    assert way[2].startswith("2. work: served (")
    assert way[3:] == [
        "    chosen by the strategy",
        "    passed over: account home waits 1 h for its quota",
        "the session is bound to home",
    ]
    assert explain(relay.state, "last").stdout == told.stdout
    assert explain(relay.state, str(line["response"])).stdout == told.stdout
    as_json = json.loads(explain(relay.state, request_id, "--json").stdout)
    assert as_json == line
    assert as_json["attempts"][0]["candidates"] == ["home", "work"]


async def test_a_turn_that_nobody_could_take_says_why(tmp_path: Path) -> None:
    async with relaying(tmp_path, two()) as relay:
        for name in ("home", "work"):
            relay.simulator.limit(name, resets_in_s=3600)
        await relay.post("/v1/responses", ask())
        answer = await relay.post("/v1/responses", ask())
        await relay.journal(request_id := answer.headers["x-codexrelay-request-id"])
    lines = explain(relay.state, request_id).stdout.splitlines()
    assert lines[1].startswith("turn failed after ")
    assert lines[2].startswith(
        "    The usage limit has been reached for every account; home is free"
    )
    assert lines[3:] == [
        "openai-codex had no account",
        "    passed over: account home waits 1 h for its quota",
        "    passed over: account work waits 1 h for its quota",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            {"state": "waiting", "waiting_for": [{"told": "account a serves as many turns"}]},
            ["it waits in line for an account:", "    passed over: account a serves as many turns"],
        ),
        (
            {"attempts": [{"account": "a", "waited_s": 2.5, "refreshed": True}]},
            ["    waited 2.50 s in line for it", "    its token was refreshed first"],
        ),
        (
            {"attempts": [{"account": "a", "reasoning_stripped": 3, "served": True}]},
            ["    3 reasoning items were left out: another account made them"],
        ),
        (
            {"attempts": [{"account": "a", "served": True, "fault": {"status": 502, "code": "x"}}]},
            ["1. a: failed after its first output: 502 x: None"],
        ),
        (
            {"attempts": [{"account": "local", "model": "q"}, {"account": "a", "model": "g"}]},
            ["1. local (q): left by the client", "2. a (g): left by the client"],
        ),
        (
            {"put_off": ["local:q", "openai-codex:g"]},
            ["asked later, as another backend was free: local:q, openai-codex:g"],
        ),
        (
            {"compaction_saved_bytes": 4000, "compaction_saved_tokens": 1000},
            ["    stale tool results were left out: 4000 bytes, some 1000 tokens less"],
        ),
        (
            {"compression_saved_bytes": 400},
            ["    tool outputs were shortened: 400 bytes, some 0 tokens less"],
        ),
        ({"attempts": [{"account": "a"}]}, ["1. a: left by the client"]),
        ({"why": "\x1b[2Jgone"}, ["    \\x1b[2Jgone"]),
    ],
    ids=[
        *("waiting", "waited", "stripped", "failed late", "two models", "put off", "compacted"),
        *("compressed", "left", "no terminal obeys it"),
    ],
)
def test_each_part_of_a_way_is_told(tmp_path: Path, line: JsonObject, told: list[str]) -> None:
    lines = explain(journal(tmp_path, **line), "req_1").stdout.splitlines()
    assert set(told) <= set(lines)


def test_a_turn_that_is_not_in_the_journal_is_an_error_that_says_where_it_was_looked_for(
    tmp_path: Path,
) -> None:
    told = explain(journal(tmp_path), "req_2")
    assert told.exit_code == 1
    assert f"{tmp_path} knows no turn req_2" in told.stderr
    assert "--config" in told.stderr


def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "turns.jsonl").mkdir()
    told = explain(tmp_path, "last")
    assert told.exit_code == 1
    assert "turns.jsonl" in told.stderr


def test_the_folder_is_the_relays_own_of_the_same_configuration(tmp_path: Path) -> None:
    journal(tmp_path, model="gpt-5.5")
    config = tmp_path / "config.yaml"
    config.write_text('sessions: {state_path: "."}', "utf-8")
    told = CliRunner().invoke(main, ["explain", "req_1", "--config", str(config)])
    assert told.exit_code == 0
    assert "gpt-5.5" in told.stdout
    config.write_text('sessions: {state_pth: "."}', "utf-8")
    told = CliRunner().invoke(main, ["explain", "req_1", "--config", str(config)])
    assert told.exit_code == 2
    assert "state_path" in told.stderr
