"""The README shows what `codexrelay client-config` prints and the real programs are run with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from click.testing import CliRunner

from codexrelay.cli.accounts.world import World
from codexrelay.cli.client_config import PROGRAMS, client_config

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

README: Final = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
#: A bold name, a sentence, and the block.
SHOWN: Final = re.compile(r"^\*\*(.+?)\*\*(.*?):\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, JsonObject]:
    """Return what is printed with the default configuration, for each program."""
    monkeypatch.chdir(tmp_path)  # where no relay has left a list of models
    told: dict[str, JsonObject] = {}
    for name in PROGRAMS:
        result = CliRunner().invoke(client_config, [name, "--json"], obj=World(environ={}))
        assert result.exit_code == 0, result.output
        told[PROGRAMS[name].title] = json.loads(result.stdout)
    return told


def test_the_readme_shows_the_block_of_every_program(printed: dict[str, JsonObject]) -> None:
    shown = {name: (language, block) for name, _, language, block in SHOWN.findall(README)}
    assert shown == {name: (told["language"], told["content"]) for name, told in printed.items()}


def test_the_readme_says_where_a_block_belongs(printed: dict[str, JsonObject]) -> None:
    for name, sentence, _, _ in SHOWN.findall(README):
        notes = printed[name]["notes"]
        assert isinstance(notes, dict)
        path = str(notes["file"])
        # The SDK is a part of somebody's program, which has no name here.
        assert f"in `{path}`" in sentence or path == "hello.py", name


def test_the_readme_names_the_command_with_every_program() -> None:
    (line,) = [line for line in README.splitlines() if "client-config opencode  " in line]
    assert all(name in line for name in PROGRAMS)
