"""`python -m harness replay`: what it refuses, and the relay that it makes."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from click.testing import CliRunner

from harness.cassettes import file
from harness.replay import library
from harness.replay.command import replay
from harness.replay.inside import accounts_for, flags_for
from tests.fakes.harness_process import serving_relay
from tests.fakes.no_tls import NO_TLS
from tests.fakes.recorded import recording
from tests.fakes.relay import ask
from tests.fakes.replayed import BACKEND, cassette, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    path = tmp_path / "tape.yaml"
    file.write(path, cassette(recorded(1)))
    return path


def ran(*arguments: object) -> Result:
    return CliRunner().invoke(replay, [str(argument) for argument in arguments])


def test_a_cassette_that_cannot_be_read_is_told_with_its_problems(tmp_path: Path) -> None:
    path = tmp_path / "tape.yaml"
    path.write_text("version: 1\nmetadata: {codexrelay: {format: 1, origin: heaven}}\n", "utf-8")

    result = ran(path)

    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert "origin" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--speed", "fast"), "a number above 0, instant or causal"),
        (("--port", "99999"), "65535"),
        (("--fault", "explode@3"), "explode"),
        (("--config", "config.yaml"), "config.yaml"),
        (("--relay", "--track", "client"), "--relay"),
        (("--track", "client"), "nothing was recorded on the track client"),
    ],
)
def test_what_makes_no_sense_is_refused(tape: Path, arguments: tuple[str, ...], said: str) -> None:
    result = ran(tape, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_folder_without_cassettes_is_refused(tmp_path: Path) -> None:
    result = ran(tmp_path)

    assert result.exit_code == 2
    assert "no cassette is in this folder" in result.stderr


def test_cassettes_are_named_by_their_place(tmp_path: Path) -> None:
    for name in ("a/text.yaml", "b/text.yaml", "one.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        file.write(tmp_path / name, cassette(recorded(1)))

    found = library.read_all([tmp_path / "a", tmp_path / "b", tmp_path / "one.yaml"])

    assert list(found) == ["text.yaml", str(tmp_path / "b/text.yaml"), "one.yaml"]
    assert list(library.read_all([tmp_path])) == ["a/text.yaml", "b/text.yaml", "one.yaml"]


def test_what_is_not_whole_is_said() -> None:
    tapes = {"tape.yaml": cassette(recorded(1), recorded(2, end="reset"))}

    assert library.incomplete(tapes) == ("tape.yaml: answers that are not whole: 2",)


def test_the_relay_asks_where_was_asked_and_for_models_only_if_they_were(tmp_path: Path) -> None:
    turn = recorded(1, uri="http://openai-codex/elsewhere/codex/responses")
    models = recorded(2, uri=f"{BACKEND}/models", method="GET")
    discovery = "backends.openai_codex.extra.codex.model_catalog.discovery_enabled"

    flags = flags_for([turn], folder=tmp_path, store=tmp_path / "accounts", port=0)
    with_models = flags_for([turn, models], folder=tmp_path, store=tmp_path / "accounts", port=0)

    assert str(flags["backends.openai_codex.api_base_url"]).endswith("/elsewhere/codex")
    assert flags[discovery] == "false"
    assert discovery not in with_models


def test_the_relay_has_as_many_accounts_as_were_used() -> None:
    def on(number: int, account: str) -> object:
        return recorded(number, asked_headers=(("chatgpt-account-id", account),))

    refresh = recorded(1, uri="https://auth.openai.com/oauth/token", asked={"grant_type": "x"})

    assert len(accounts_for([on(1, "a"), on(2, "b"), on(3, "a")])) == 2
    assert [one.expired for one in accounts_for([refresh, on(2, "a")])] == [True]
    assert [one.expired for one in accounts_for([])] == [False]


@pytest.mark.skipif(sys.platform == "win32", reason="needs Unix's signals")
async def test_a_relay_on_a_cassette_answers_as_the_recorded_one_and_says_how_it_went(
    tmp_path: Path,
) -> None:
    hello = ask("hello", stream=True)
    async with recording(tmp_path) as taped:
        recorded_answer = await taped.relay.http.post(
            "/v1/responses", json=ask("hello", stream=True)
        )

    command = ("replay", taped.path, "--relay", "--port", 0, "--speed", "instant")
    with trio.fail_after(120):
        async with (
            serving_relay(*command, home=tmp_path) as running,
            httpx.AsyncClient(
                base_url=running.url, trust_env=False, verify=NO_TLS, timeout=60
            ) as http,
        ):
            answer = await http.post("/v1/responses", json=hello)
            running.process.send_signal(signal.SIGINT)
            status = await running.until_ended()

    assert texts_of(answer) == texts_of(recorded_answer) != []
    assert status == 0, running.told
    assert b"no problem" in running.told.splitlines()[-1]


def texts_of(answer: httpx.Response) -> list[str]:
    """Return what the model said, which no stand-in is part of."""
    return re.findall(r'"delta":"([^"]*)"', answer.text)
