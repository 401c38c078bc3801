"""Starts both simulated backends and one relay after the other, and plays."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import trio

from harness.demo.facts import Fact
from harness.demo.mixed.history import THRESHOLD_TOKENS
from harness.demo.mixed.session import (
    CODEX,
    LOCAL,
    ROUTED,
    Mixed,
    after_restart,
    before_restart,
    compaction_warnings,
    failover,
    verdict,
)
from harness.openai_api import OpenAISimulator
from harness.openai_api.api import KEY, MODEL
from harness.relay_process import (
    RelayProcess,
    RelayStartError,
    other_backend,
    relay_settings,
    running_relay,
    told_by,
)
from harness.simulator import SimulatedAccount, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from harness.demo.printing import Page

#: For one turn, on a machine that has other things to do.
TURN_S: Final = 30.0


async def run(page: Page) -> list[Fact]:
    """Play the conversation and return all that was observed.

    When this is cancelled, the relay is killed and its folder removed.
    """
    with tempfile.TemporaryDirectory(
        prefix="codexrelay-mixed-", ignore_cleanup_errors=True
    ) as name:
        try:
            return await _run(page, Path(name))
        except* RelayStartError as group:
            page.log("relay", told_by(group).splitlines())
        except* httpx.HTTPError as group:
            page.log("relay", told_by(group).splitlines())
    return [Fact("it was not played to its end", holds=False)]


async def _run(page: Page, folder: Path) -> list[Fact]:
    facts: list[Fact] = []
    log: list[str] = []
    async with trio.open_nursery() as nursery:
        local, codex = OpenAISimulator(), Simulator(accounts=[SimulatedAccount("home")])
        await nursery.start(local.serve)
        await nursery.start(codex.serve)
        codex.write_store(folder / "accounts")
        settings = settings_for(local, codex, folder)
        for acts in ((before_restart,), (after_restart, failover)):
            async with running_relay(folder, settings) as relay, _client(relay) as http:
                mixed = Mixed(local=local, codex=codex, http=http, page=page)
                facts += await _play(acts, mixed)
            # The whole log: it ends with the process.
            log += relay.log
        facts += verdict(log)
        page.log("warned", compaction_warnings(log))
        nursery.cancel_scope.cancel()
    return facts


async def _play(
    acts: Sequence[Callable[[Mixed], Awaitable[list[Fact]]]], mixed: Mixed
) -> list[Fact]:
    return [fact for act in acts for fact in await act(mixed)]


@contextlib.asynccontextmanager
async def _client(relay: RelayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=relay.url, trust_env=False, timeout=TURN_S) as http:
        yield http


def settings_for(local: OpenAISimulator, codex: Simulator, folder: Path) -> Mapping[str, object]:
    """Return the configuration of a relay before both backends, with compaction on."""
    return relay_settings(
        api_base_url=codex.api_base_url,
        issuer_url=codex.issuer_url,
        store=folder / "accounts",
        asks_for_models=False,
        aliases={},
        routes={ROUTED: [LOCAL, f"openai-codex:{CODEX}"]},
        others={"local": other_backend(local.api_base_url, models=[MODEL], key=KEY, folder=folder)},
        compaction={
            "enabled": True,
            "token_threshold": THRESHOLD_TOKENS,
            "min_tool_output_tokens": 50,
        },
    )
