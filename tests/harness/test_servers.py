"""Real servers: how they are installed, and what is asked of which. Nothing is installed here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from harness.compat.install import NotInstalledError
from harness.relay_process import RelayProcess
from harness.servers.install import ensure, find_all, servers_folder
from harness.servers.kinds import all_kinds
from harness.servers.kinds.kind import PROGRAMS, Kind
from harness.servers.running import RunningServer
from harness.servers.turns import COLUMNS, Row, cells_of

if TYPE_CHECKING:
    from harness.openai_api import Wire

KINDS = {kind.name: kind for kind in all_kinds()}


@attrs.define(eq=False)
class FakePip:
    """Fails so many times; notes what it was asked for."""

    failures: int = 0
    asked: list[Path] = attrs.field(factory=list)

    def __call__(self, python: Path, pins: Path) -> None:
        self.asked.append(pins)
        if len(self.asked) <= self.failures:
            raise NotInstalledError("the index is away")
        assert python.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the interpreter is there already: making one takes seconds."""
    python = tmp_path / "litellm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return python.parents[1]


def test_there_are_two_servers_that_speak_both_wires() -> None:
    assert {name: set(kind.wires) for name, kind in KINDS.items()} == {
        "litellm": {"chat", "responses"},
        "transformers": {"chat", "responses"},
    }


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_package_is_pinned_and_no_index_is_named(kind: Kind) -> None:
    lines = kind.pins.read_text("utf-8").splitlines()
    assert lines
    assert all(line.count("==") == 1 and "/" not in line and "+" not in line for line in lines)


def test_a_server_is_installed_once(folder: Path) -> None:
    pip = FakePip()
    for _ in range(2):
        assert ensure(KINDS["litellm"], folder=folder, pip=pip) == folder / "bin" / "python"
    assert pip.asked == [KINDS["litellm"].pins]


def test_an_index_that_fails_for_a_moment_is_asked_again(folder: Path) -> None:
    pip = FakePip(failures=2)
    ensure(KINDS["litellm"], folder=folder, pip=pip)
    assert len(pip.asked) == 3


def test_a_server_that_cannot_be_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    kind = KINDS["litellm"]
    python = tmp_path / f"litellm-{kind.version}" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    found, missing = find_all([kind], folder=tmp_path, pip=FakePip(failures=3))
    assert found == {}
    assert missing == {
        "litellm": f"litellm {kind.version}, after 3 tries: the index is away",
    }


def test_servers_are_kept_in_the_user_s_cache() -> None:
    kept = servers_folder({"XDG_CACHE_HOME": "/cache"})
    assert kept == Path("/cache/codexrelay/servers")


def columns_of(name: str, wire: Wire) -> set[str]:
    server = RunningServer(kind=KINDS[name], api_base_url="", log=Path("log"))
    row = Row(server=server, wire=wire, relay=RelayProcess("", []), folder=Path())
    return {column for _, column in cells_of([row])}


def test_a_server_without_a_key_is_not_asked_with_a_wrong_one() -> None:
    assert columns_of("litellm", "chat") == set(COLUMNS)
    assert columns_of("transformers", "chat") == set(COLUMNS) - {"wrong-key"}


def test_what_the_bare_server_cannot_do_is_not_asked_of_the_relay() -> None:
    assert columns_of("transformers", "responses") == set(COLUMNS) - {"wrong-key", "responses"}


def test_the_scripts_of_the_servers_say_what_their_kinds_say() -> None:
    for kind, program in (("transformers", "tiny_model"), ("litellm", "scripted_model")):
        said = (PROGRAMS / f"{program}.py").read_text("utf-8")
        assert all(f'"{word}' in said for word in KINDS[kind].answer.split())
