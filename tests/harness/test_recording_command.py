"""`python -m harness record`, as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio
from click.testing import CliRunner

from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.config.settings import BackendsSettings, Settings
from harness.__main__ import main
from harness.cassettes import file
from harness.recording.command import OriginError, origin_of
from harness.relay_process import relay_settings
from harness.simulator import Simulator
from tests.fakes.harness_process import HarnessProcess, serving_relay
from tests.fakes.no_tls import NO_TLS
from tests.fakes.relay import OpenTurn, ask, eventually, post_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cassettes.model import Origin

_UNIX: Final = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix's signals and modes")
NEAR, FAR = "http://127.0.0.1:1/backend-api/codex", "https://chatgpt.com/backend-api/codex"


def backends(codex: str, *others: str) -> Settings:
    plain = BackendsSettings()
    blocks = [(f"b{n}", OpenAIBackendSettings(api_base_url=url)) for n, url in enumerate(others)]
    return Settings(
        backends=attrs.evolve(
            plain,
            openai_codex=attrs.evolve(plain.openai_codex, api_base_url=codex),
            others=tuple(blocks),
        )
    )


@pytest.mark.parametrize(
    ("settings", "said", "origin"),
    [
        (backends(NEAR), None, "simulator"),
        (backends(FAR), None, "live"),
        (backends(NEAR, "https://api.openai.com/v1"), None, "live"),
        (backends(NEAR), "authored", "authored"),
        (backends(NEAR, "http://localhost:11434/v1"), "live", "live"),
    ],
)
def test_the_origin_is_found_out(settings: Settings, said: Origin | None, origin: Origin) -> None:
    assert origin_of(settings, said) == origin


@pytest.mark.parametrize(
    ("settings", "said", "told"),
    [
        (backends(NEAR), "live", "on this machine"),
        (backends(FAR), "simulator", "chatgpt.com"),
        (backends(FAR), "authored", "chatgpt.com"),
    ],
)
def test_an_origin_that_cannot_be_is_refused(settings: Settings, said: Origin, told: str) -> None:
    with pytest.raises(OriginError, match=told):
        origin_of(settings, said)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--out", "a-file"), "is a file"),
        (("--out", "a-file/below"), "cannot be written into: Not a directory"),
        (("--out", ".", "--name", "../up"), "is no name"),
        (("--out", ".", "--name", "taken"), "is there already"),
        (("--out", ".", "--port", "many"), "--port: must be a whole number"),
        (("--out", ".", "--port", "0", "--origin", "simulator"), "the recording is live"),
        ((), "Missing option '--out'"),
    ],
)
def test_what_cannot_be_begun_is_told_before_anything_is_served(
    tmp_path: Path, options: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    (tmp_path / "taken.yaml").touch()
    refused = CliRunner().invoke(main, ["record", *options])
    assert refused.exit_code == 2
    assert told in " ".join(refused.output.split())
    assert "listening" not in refused.output


@_UNIX
async def test_it_serves_and_records_and_a_killed_one_leaves_a_readable_cassette(
    tmp_path: Path,
) -> None:
    simulator = Simulator()
    simulator.write_store(tmp_path / "accounts")
    out = tmp_path / "out"
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(simulator.serve)
            settings = relay_settings(
                api_base_url=simulator.api_base_url,
                issuer_url=simulator.issuer_url,
                store=tmp_path / "accounts",
            )
            config = tmp_path / "config.yaml"
            await trio.Path(config).write_text(json.dumps(settings))
            options = ["--config", config, "--out", out, "--name", "first", "--port", "0"]
            async with (
                serving_relay("record", *options, home=tmp_path) as running,
                httpx.AsyncClient(
                    base_url=running.url, trust_env=False, verify=NO_TLS, timeout=60
                ) as http,
            ):
                answer = await http.post("/v1/responses", json=ask("hello"))
                assert answer.status_code == 200
                await _kill_in_the_middle(running, out / "first.yaml")
            nursery.cancel_scope.cancel()
    cassette = file.read(out / "first.yaml")
    assert (cassette.about.complete, cassette.about.origin) == (False, "simulator")
    whole, hanging_one = [
        one for one in cassette.track("client") if one.request.uri.endswith("/responses")
    ]
    assert whole.response.stream.complete
    assert not hanging_one.response.stream.complete
    assert [name for name in os.listdir(out) if not name.startswith(".")] == ["first.yaml"]


async def _kill_in_the_middle(running: HarnessProcess, path: Path) -> None:
    """Begin a turn that hangs, wait until it is on the disk, and kill the recorder."""
    host, port = running.url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(post_bytes("/v1/responses", ask("[sim fault=hang]")))
        await OpenTurn(stream).until(b"Hello")
        await eventually(lambda: path.exists() and b"sim fault=hang" in path.read_bytes())
        running.process.send_signal(signal.SIGKILL)
        # At its end there is nobody left who could say anything: neither does the writing process.
        await running.until_ended()
