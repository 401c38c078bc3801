"""`python -m harness simulate`, as a person or a script runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest
import trio
from click.testing import CliRunner

from codexrelay.protocol.raw import get_text, parse_object
from harness.__main__ import COMMANDS, main
from tests.fakes.no_tls import NO_TLS
from tests.fakes.simulated import events_of, request, user

_ROOT: Final = Path(__file__).parents[2]
_LISTENING: Final = re.compile(rb"harness listening on (http://127\.0\.0\.1:\d+)\n")


def test_help_lists_the_commands_without_importing_any() -> None:
    told = CliRunner().invoke(main, ["--help"])
    assert told.exit_code == 0
    assert all(command in told.output for command in COMMANDS)
    code = "import sys, harness.__main__; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=False).returncode == 0


def test_an_unknown_command_is_named() -> None:
    told = CliRunner().invoke(main, ["rewind"])
    assert told.exit_code == 2
    assert "No such command 'rewind'" in told.output


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    told = CliRunner().invoke(main, ["simulate", "--fault", "flood"])
    assert told.exit_code == 2
    assert "limit_event" in told.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--plan", "sim-2=free"), "no account is called 'sim-2'"),
        (("--plan", "free"), "'free' is not NAME=VALUE"),
        (("--condition", "sim-1=ill"), "no condition is called 'ill'; known: deactivated, "),
        (("--limit", "sim-1=few"), "'few' is no number of turns"),
        (("--limit", "sim-9=1"), "no account is called 'sim-9'"),
    ],
)
def test_a_wrong_word_about_an_account_is_refused(options: tuple[str, str], told: str) -> None:
    refused = CliRunner().invoke(main, ["simulate", *options])
    assert refused.exit_code == 2
    assert told in refused.output


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
async def test_it_serves_its_accounts_until_interrupted_and_records_what_it_saw(
    tmp_path: Path,
) -> None:
    store, record = tmp_path / "store", tmp_path / "seen.jsonl"
    options = ["--accounts", "5", "--store", store, "--pace-ms", "0", "--record", record]
    states = ["--plan", "sim-3=unheard-of", "--condition", "sim-4=no_codex", "--limit", "sim-5=0"]
    command = [sys.executable, "-m", "harness", "simulate", *map(str, options), *states]
    command += ["--fault", "503"]
    with trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            command, stderr=subprocess.PIPE, cwd=_ROOT, stdout=subprocess.DEVNULL
        )
        try:
            base_url = await url_told_by(process)
            statuses = [await ask(base_url, store / f"sim-{number}.json") for number in range(1, 6)]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()
            assert process.stderr is not None
            await process.stderr.aclose()
    assert statuses == [503, 200, 400, 429, 429]
    lines = [parse_object(line) for line in record.read_bytes().splitlines()]
    assert [line["account"] for line in lines] == [f"sim-{number}" for number in range(1, 6)]
    assert [line["fault"] for line in lines] == ["503", None, None, None, None]
    assert [line["condition"] for line in lines] == [None, None, None, "no_codex", None]


async def url_told_by(process: trio.Process) -> str:
    """Return the URL from the line that says that it listens."""
    assert process.stderr is not None
    told = b""
    while (line := _LISTENING.search(told)) is None:
        block = await process.stderr.receive_some()
        assert block, told
        told += block
    return line[1].decode()


async def ask(base_url: str, account_file: Path) -> int:
    """Send a model request with the tokens of an account file, and return the answer's status."""
    account = parse_object(await trio.Path(account_file).read_bytes())
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        answer = await http.post(
            f"{base_url}/backend-api/codex/responses",
            json=request(user("hello")),
            headers={
                "authorization": f"Bearer {get_text(account, 'access_token')}",
                "chatgpt-account-id": get_text(account, "chatgpt_account_id") or "",
            },
        )
    if answer.status_code == 200:
        assert events_of(answer.content)[-1]["type"] == "response.completed"
    return answer.status_code
