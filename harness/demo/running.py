"""Starts simulator and relay, plays the scenes, and stops everything again."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import trio

from harness.demo.facts import Fact
from harness.demo.shell import codexrelay
from harness.demo.stage import Stage, put_account
from harness.demo.tap import TappedSimulator
from harness.relay_process import RelayStartError, relay_settings, running_relay, told_by
from harness.simulator import SimulatedAccount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.demo.printing import Page
    from harness.demo.scenes import Scene

ACCOUNT: Final = SimulatedAccount("home")
SECOND: Final = SimulatedAccount("work")


async def run(scenes: Sequence[Scene], page: Page, *, pace_s: float) -> bool:
    """Play `scenes` with a relay process of their own, and return whether all of them worked.

    `pace_s` is the backend's pause between two words, in seconds. When this is cancelled, the relay
    is killed and its folder removed.
    """
    with tempfile.TemporaryDirectory(prefix="codexrelay-demo-", ignore_cleanup_errors=True) as name:
        try:
            return await _run(scenes, page, Path(name), pace_s=pace_s)
        except* RelayStartError as group:
            page.line("FAILED", "the relay did not start:", style="bold red")
            page.log("", told_by(group).splitlines())
    return False


async def _run(scenes: Sequence[Scene], page: Page, folder: Path, *, pace_s: float) -> bool:
    store = folder / "accounts"
    async with trio.open_nursery() as nursery:
        simulator = TappedSimulator(accounts=[ACCOUNT, SECOND], pace_s=pace_s)
        await nursery.start(simulator.serve)
        page.line("backend", f"simulated, at {simulator.base_url}: nothing leaves this machine")
        put_account(store, simulator, ACCOUNT.name)
        settings = _settings(simulator, folder, store=store)
        async with (
            running_relay(folder, settings) as relay,
            # Without time-outs of its own: a scene has a deadline.
            httpx.AsyncClient(base_url=relay.url, trust_env=False, timeout=None) as http,
        ):
            stage = Stage(
                simulator=simulator,
                account=ACCOUNT.name,
                second=SECOND.name,
                store=store,
                http=http,
                shell=functools.partial(codexrelay, folder),
                log=relay.log,
                page=page,
            )
            await stage.logs(["codexrelay accounts"])
            # It also warns that tokens go to another host than OpenAI's, which is the point here.
            page.log("relay", [line for line in relay.log if line.startswith("codexrelay ")])
            worked = await play(scenes, stage)
        nursery.cancel_scope.cancel()
    return worked


def _settings(simulator: TappedSimulator, folder: Path, *, store: Path) -> dict[str, object]:
    settings = relay_settings(
        api_base_url=simulator.api_base_url,
        issuer_url=simulator.issuer_url,
        store=store,
        # The scenes look at everything that the backend was asked and sent.
        asks_for_models=False,
    )
    block = settings["backends"]["openai_codex"]  # type: ignore[index]  # built above
    block["extra"]["codex"]["managed_oauth"]["selection_strategy"] = "session-affinity"
    return settings | {"sessions": {"state_path": str(folder / "state")}}


async def play(scenes: Sequence[Scene], stage: Stage) -> bool:
    """Play scenes in order, show what came of them, and return whether all of them worked."""
    began_at_s = trio.current_time()
    worked = 0
    for number, scene in enumerate(scenes, 1):
        stage.page.title(f"{number}  {scene.title}")
        stage.begin()
        facts = await _outcome(scene, stage)
        _show(facts, stage)
        worked += all(fact.holds for fact in facts)
    seconds = trio.current_time() - began_at_s
    stage.page.title(f"{worked} of {len(scenes)} scenes worked, in {seconds:.1f} s")
    return worked == len(scenes)


async def _outcome(scene: Scene, stage: Stage) -> list[Fact]:
    """Play one scene and return what came of it, whatever that is."""
    try:
        with trio.fail_after(scene.patience_s):
            facts = await scene.play(stage)
            if not await stage.logs(scene.logs):
                facts.append(Fact(f"the relay did not log: {', '.join(scene.logs)}", holds=False))
            return facts
    except trio.TooSlowError:
        return [Fact(f"it was not over within {scene.patience_s:g} s", holds=False)]
    except (httpx.HTTPError, ValueError) as error:  # no answer, or one that cannot be read
        return [Fact(f"{type(error).__name__}: {error}", holds=False)]


def _show(facts: Sequence[Fact], stage: Stage) -> None:
    page, wrong = stage.page, [fact.text for fact in facts if not fact.holds]
    if right := [fact.text for fact in facts if fact.holds]:
        page.line("seen", "; ".join(right))
    page.log("logged", stage.logged)
    for text in wrong:
        page.line("FAILED", text, style="bold red")
    if not wrong:
        page.line("ok", "", style="bold green")
