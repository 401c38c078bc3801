"""The README shows what `codexrelay client-config` prints and the real programs are run with."""

from __future__ import annotations

import email.utils
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import orjson
import pytest
from click.testing import CliRunner

from codexrelay.accounts.account import Credentials
from codexrelay.backends.codex.catalogue import packaged
from codexrelay.backends.codex.listing import Listing
from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.world import World
from codexrelay.cli.client_config import PROGRAMS, client_config
from codexrelay.cli.doctor import doctor, network, port
from codexrelay.cli.doctor.site import Site
from codexrelay.config.loading import load
from codexrelay.protocol.raw import dump
from codexrelay.server.models import shelf_of
from tests.fakes.tokens import jwt, write_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

README: Final = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
#: A bold name, a sentence, and the block.
SHOWN: Final = re.compile(r"^\*\*(.+?)\*\*(.*?):\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What differs from machine to machine in a line of `doctor`, and what stands for it in its form.
DIFFERS: Final = (
    (re.compile(r"account \S+?(?: \([^)]*\))?:"), "account A:"),
    (re.compile(r"accounts update \S+"), "accounts update A"),
    (re.compile(r"https://[\w.]+"), "URL"),
    (re.compile(r"(?<= )/\S+"), "PATH"),
    (re.compile(r"\d+ (?:d|h|min|s)\b(?: \d+ (?:h|min))?"), "TIME"),
    (re.compile(r"\d+"), "N"),
)


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


def form_of(line: str) -> str:
    """Return a line of `doctor` without what differs."""
    for differs, form in DIFFERS:
        line = differs.sub(form, line)
    return line


def write_home(folder: Path, world: World) -> None:
    """Write accounts, a state folder and a list of models such as the sample is of."""
    access = jwt({"exp": NOW + 90_000, "iat": NOW - 60})
    store = folder / "var" / "openai_codex_oauth_accounts"
    for name in ("home", "new"):
        write_account(store, name, Credentials(access_token=access, refresh_token=f"rt_{name}"))
    path = store / "new.json"
    dead = {"needs_reauth": True, "needs_reauth_reason": "refresh_token_reused"}
    path.write_bytes(dump(orjson.loads(path.read_bytes()) | {"email": "new@example.com"} | dead))
    settings = load(config_path=None, environ=world.environ, flags={}).settings
    Path(settings.sessions.state_path).mkdir(mode=0o700, parents=True)
    listing = Listing(
        plan=None,
        models=tuple(packaged()),
        etag=None,
        fetched_unix_s=1.0,
        client_version="1.0.0",
    )
    shelf_of(settings).save([listing])


def forms(folder: Path) -> set[str]:
    """Return the form of every line that `doctor` prints, with a relay and servers that answer."""
    world = World(
        environ={"HOME": str(folder)},
        wall_clock=WallClock(),
        proxy_for=lambda _: None,
        configure_logs=lambda: None,
    )
    write_home(folder, world)
    result = CliRunner().invoke(doctor, ["--offline"], obj=Call(world=world))
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    health = {"status": "ok", "usable": 1, "accounts": [{}, {}]}
    answer = httpx.Response(200, content=dump(health))  # type: ignore[arg-type]
    lines += map(str, port.who_answers(answer, place="8787 on 127.0.0.1"))
    settings = load(config_path=None, environ=world.environ, flags={}).settings
    date = email.utils.formatdate(NOW, usegmt=True)
    for target in network.targets_of(Site.at(Call(world=world), settings)):
        lines += map(str, network.answered(target, 200, date, now_unix_s=NOW))
    return set(map(form_of, lines))


def test_the_sample_of_doctor_has_lines_that_it_can_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = README.partition("    $ codexrelay doctor\n")[2].partition("\n\n")[0]
    known = forms(tmp_path)
    lines = [line.removeprefix("    ") for line in shown.splitlines()]
    assert [line for line in lines if form_of(line) not in known] == []
    told = [line.split()[0] for line in lines[:-1]]
    counts = (told.count("broken"), told.count("warn"), told.count("ok"))
    assert lines[-1] == "{} broken, {} to look at, {} good".format(*counts)
