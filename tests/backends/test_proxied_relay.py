"""A whole relay whose backend and sign-in service are reached under TLS and through a proxy."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from codexrelay.backends.codex.settings import (
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
)
from harness.simulator import Simulator
from tests.fakes.connect_proxy import ConnectProxy, leading_to
from tests.fakes.relay import LiveRelay, ask, relaying
from tests.fakes.scripted_server import ScriptedServer, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from tests.fakes.certificates import Certificate

Kind = Literal["direct", "httpx"]
KEY: Final = "backends.openai_codex.proxy"


@pytest.fixture(params=["direct", "httpx"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@attrs.frozen
class Surroundings:
    """A relay, what carries the TLS of its backend, and the proxy before that."""

    relay: LiveRelay
    front: ScriptedServer
    proxy: ScriptedServer
    maker: ConnectProxy


@asynccontextmanager
async def proxied(
    folder: Path,
    certificate: Certificate,
    kind: Kind,
    *,
    wants: str | None = None,
    shown: str = "",
    ca: bool = True,
    proxy_under_tls: bool = False,
) -> AsyncIterator[Surroundings]:
    """Run a relay; `shown` is the user and password in its proxy's URL."""
    simulator, maker = Simulator(), ConnectProxy(wants=wants)

    def port() -> int:
        return urlsplit(simulator.issuer_url).port or 0

    async with (
        serving(leading_to(port), tls=certificate.server) as front,
        serving(maker, tls=certificate.server if proxy_under_tls else None) as proxy,
    ):
        codex = CodexSettings(oauth_issuer=front.url)
        backend = CodexBackendSettings(
            transport=kind,
            api_base_url=f"{front.url}/backend-api/codex",
            proxy=proxy.url.replace("://", f"://{shown}"),
            ca_file=str(certificate.file) if ca else None,
            extra=ExtraSettings(codex=codex),
        )
        async with relaying(folder, simulator, backend=backend) as relay:
            yield Surroundings(relay, front, proxy, maker)


def complete(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and "response.completed" in answer.text


@pytest.mark.parametrize("proxy_under_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_turns_and_refreshes_go_through_the_proxy_under_the_private_authority(
    tmp_path: Path, certificate: Certificate, kind: Kind, proxy_under_tls: bool
) -> None:
    async with proxied(
        tmp_path,
        certificate,
        kind,
        wants="me:p@ss",
        shown="me:p%40ss@",
        proxy_under_tls=proxy_under_tls,
    ) as there:
        relay = there.relay
        relay.simulator.expire("sim-1")
        for _ in range(3):
            assert complete(await relay.post("/v1/responses", ask()))
        assert len(relay.refreshes) == 1
        where = there.front.url.removeprefix("https://").encode()
        assert all(head.startswith(b"CONNECT %s " % where) for head in there.maker.asked)
        # All that reached the backend came through the proxy.
        assert there.proxy.accepted == there.front.accepted
        # The refresh has a connection of its own; turns one after the other share theirs.
        assert there.front.accepted < len(relay.simulator.seen)


async def test_a_client_is_told_which_key_has_the_password_that_the_proxy_refuses(
    tmp_path: Path, certificate: Certificate, kind: Kind
) -> None:
    async with proxied(tmp_path, certificate, kind, wants="me:right", shown="me:s3cret@") as there:
        answer = await there.relay.post("/v1/responses", ask())
        where = there.proxy.url.removeprefix("http://")
    assert answer.status_code == 502
    told = answer.json()["error"]["message"]
    assert f"the proxy {where} ({KEY}) makes no tunnel" in told
    assert "407 Proxy Authentication Required; it does not take the user and password" in told
    assert "s3cret" not in answer.text
    assert there.relay.asked == []


async def test_a_client_is_told_that_nobody_vouches_for_the_backend(
    tmp_path: Path, certificate: Certificate, kind: Kind
) -> None:
    async with proxied(tmp_path, certificate, kind, ca=False) as there:
        answer = await there.relay.post("/v1/responses", ask())
    assert answer.status_code == 502
    assert "the key `ca_file` adds certificates" in answer.json()["error"]["message"]


async def test_a_client_that_leaves_while_a_tunnel_is_made_leaves_no_socket(
    tmp_path: Path, certificate: Certificate, kind: Kind
) -> None:
    held = trio.Event()

    class Holding(ConnectProxy):
        async def __call__(self, caller) -> None:  # noqa: ANN001 - as its parent's
            await caller.head()
            held.set()
            await caller.left()

    async with serving(Holding()) as proxy:
        backend = CodexBackendSettings(
            transport=kind, api_base_url="https://backend.invalid", proxy=proxy.url
        )
        async with relaying(tmp_path, backend=backend) as relay:
            async with relay.open_turn(ask()):
                await held.wait()
            await relay.until_at_rest()
            await proxy.until_open(0)
