"""Other relays: what is installed, how they are started, and what happens when one is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from harness.compat.install import NotInstalledError
from harness.peers.command import PEERS, _measure
from harness.peers.peer import Peer, Upstream, redirected, upstream_of
from harness.peers.stage import Contender
from harness.servers.install import ensure, find_all, peers_folder
from harness.servers.running import ServerStartError
from harness.simulator import Simulator
from tests.fakes.simulated import simulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness.compat.target import Target

NAMES = [peer.name for peer in PEERS]
UPSTREAM = Upstream(
    api_base_url="http://127.0.0.1:1/backend-api/codex",
    issuer_url="http://127.0.0.1:1",
    login={"id_token": "i", "access_token": "a", "refresh_token": "r", "account_id": "x"},
    now_unix_s=1_795_000_000.0,
)
#: A package whose address is a constant that one module has from another.
PACKAGE = {
    "config.py": 'URL = "https://far.example"\n',
    "__init__.py": "from pack.config import URL\n",
    "run.py": (
        "import sys\nfrom pack.config import URL\n\n\n"
        "def main():\n    import pack\n\n    print(URL, pack.URL, *sys.argv)\n"
    ),
}


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


def with_interpreter(folder: Path) -> Path:
    """Make an interpreter that is there already: making a real one takes seconds."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return python


@pytest.mark.parametrize("peer", PEERS, ids=NAMES)
def test_every_package_of_a_peer_is_pinned_and_no_index_is_named(peer: Peer) -> None:
    lines = peer.pins.read_text("utf-8").splitlines()
    assert f"{peer.name}=={peer.version}" in lines
    assert all(line.count("==") == 1 and "/" not in line and "+" not in line for line in lines)


def test_peers_are_kept_in_the_user_s_cache() -> None:
    assert peers_folder({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/codexrelay/peers")


@pytest.mark.parametrize("peer", PEERS, ids=NAMES)
def test_a_peer_is_installed_once_and_tried_three_times(peer: Peer, tmp_path: Path) -> None:
    python, pip = with_interpreter(tmp_path), FakePip(failures=2)
    for _ in range(2):
        assert ensure(peer, folder=tmp_path, pip=pip) == python
    assert pip.asked == [peer.pins] * 3


def test_a_peer_that_cannot_be_installed_is_named_and_the_other_is_there(tmp_path: Path) -> None:
    pythons = [with_interpreter(tmp_path / f"{peer.name}-{peer.version}") for peer in PEERS]

    def pip(_python: Path, pins: Path) -> None:
        if pins == PEERS[0].pins:
            raise NotInstalledError("the index is away")

    found, missing = find_all(PEERS, folder=tmp_path, pip=pip)
    assert found == {PEERS[1].name: pythons[1]}
    told = f"{PEERS[0].name} {PEERS[0].version}, after 3 tries: the index is away"
    assert missing == {PEERS[0].name: told}


@pytest.mark.parametrize("peer", PEERS, ids=NAMES)
def test_a_peer_is_told_of_nothing_but_loopback(peer: Peer) -> None:
    program = peer.program_before(UPSTREAM)
    told = [*program.files().values(), *program.command(Path("python"), 1)]
    told += program.environment().values()
    urls = [text for text in " ".join(told).replace('"', " ").split() if "://" in text]
    assert urls
    assert all(url.startswith("http://127.0.0.1:1") for url in urls)
    assert UPSTREAM.api_base_url in " ".join(told)
    assert json.loads(program.files()["auth.json"])


async def test_the_login_of_a_peer_is_good_at_the_backend() -> None:
    async with simulated(Simulator()) as client:
        upstream = upstream_of(client.simulator)
        headers = {
            "authorization": f"Bearer {upstream.login['access_token']}",
            "chatgpt-account-id": upstream.login["account_id"],
        }
        answer = await client.http.get(f"{upstream.api_base_url}/models", headers=headers)
        assert answer.status_code == 200


def run_redirected(folder: Path, constants: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "pack").mkdir()
    for name, text in PACKAGE.items():
        (folder / "pack" / name).write_text(text, "utf-8")
    command = redirected(
        Path(sys.executable),
        modules=("pack.config",),
        constants=constants,
        entry="pack.run:main",
        arguments=("serve", "now"),
    )
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder)}
    )


def test_a_constant_is_changed_wherever_it_was_taken_along(tmp_path: Path) -> None:
    done = run_redirected(tmp_path, {"URL": "http://127.0.0.1:1"})
    near = "http://127.0.0.1:1"
    assert (done.stdout, done.stderr) == (f"{near} {near} pack serve now\n", "")


def test_a_program_whose_address_cannot_be_changed_is_not_started(tmp_path: Path) -> None:
    done = run_redirected(tmp_path, {"ADDRESS": "http://127.0.0.1:1"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no module has a constant ADDRESS\n"


async def test_a_peer_that_does_not_start_is_named_with_its_last_words() -> None:
    @asynccontextmanager
    async def start(_simulator: Simulator, _folder: Path) -> AsyncIterator[Target]:
        raise ServerStartError("no such option")
        yield

    one = Contender(name="theirs", version="1", given="", accounts=1, start=start)
    assert await _measure([one], [], retry_once=False) == ((), {"theirs": "no such option"})
