"""One cell of the matrix: one program, once, through a relay and a simulator of its own.

Nothing is shared between cells: an account that cools down in one is fresh in the next.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.protocol.raw import JsonObject, is_object, parse
from harness.children import bare_environment
from harness.compat.agent_process import Exit, Launch, make_home, run
from harness.compat.drivers.driver import Driver, Order, Upstream, Variant, with_parameters
from harness.compat.install import Command
from harness.compat.mishaps import let_happen
from harness.compat.scenarios import Ending, Scenario
from harness.compat.traces import last_words, text_of, traces_of
from harness.compat.transcript import Transcript, transcript_of
from harness.compat.verdict import (
    CLIENT_KEY,
    CLIENT_SECRETS,
    LEAVE_S,
    Account,
    Evidence,
    problems_of,
)
from harness.openai_api import OpenAISimulator
from harness.openai_api.api import KEY, MODEL
from harness.relay_process import (
    ALIASES,
    SERVE,
    Program,
    RelayStartError,
    other_backend,
    relay_settings,
    running_relay,
    told_by,
)
from harness.simulator import SimulatedAccount, Simulator

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A program that has not ended by then never will. The slowest cell took 25 s on a busy machine.
PATIENCE_S: Final = 90.0
#: On from the first token on: programs' own instructions and tools are longer than any threshold
#: that would say anything about a history.
COMPACTION: Final[Mapping[str, object]] = {"enabled": True, "token_threshold": 0}
#: Two, so that a turn can be moved from one to the other.
ACCOUNTS: Final = (SimulatedAccount("one"), SimulatedAccount("two"))


@attrs.frozen(kw_only=True)
class _Driven:
    """What came of running a program, as often as its scenario says."""

    exit: Exit
    #: What it has printed in all its runs.
    stdout: str
    stderr: str
    #: See `let_happen`.
    quota_back_at_s: float | None


@attrs.frozen(kw_only=True)
class Cell:
    """What is to be run."""

    driver: Driver
    command: Command
    variant: Variant
    scenario: Scenario

    @property
    def ending(self) -> Ending:
        """Return how it should end."""
        return self.scenario.ending_of(self.variant.name)


@attrs.frozen(kw_only=True)
class Result:
    """What came of it."""

    variant: str
    scenario: str
    seconds: float
    #: What is wrong; nothing if all went well.
    problems: tuple[str, ...]
    #: The last lines of program and relay, and what the backend saw: for a cell that failed.
    traces: tuple[str, ...] = ()
    #: What happened, also in a cell that went well; None if it never began, or nobody looked.
    transcript: Transcript | None = attrs.field(default=None, repr=False)
    tries: int = 1

    @property
    def ok(self) -> bool:
        """Tell whether all went well."""
        return not self.problems


async def run_cell(cell: Cell, *, relay: Program = SERVE) -> Result:
    """Run one cell, judge it, and leave nothing behind; `relay` is what serves as the relay."""
    began_at_s = trio.current_time()
    problems: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    transcript: Transcript | None = None
    with tempfile.TemporaryDirectory(
        prefix="codexrelay-compat-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        try:
            evidence, traces, transcript = await _observe(cell, folder, relay)
            problems = problems_of(evidence)
        except* RelayStartError as group:
            problems = ("the relay did not start",)
            traces = tuple(last_words("relay", told_by(group)))
    return Result(
        variant=cell.variant.name,
        scenario=cell.scenario.name,
        seconds=trio.current_time() - began_at_s,
        problems=problems,
        traces=traces if problems else (),
        transcript=transcript,
    )


async def _observe(
    cell: Cell, folder: Path, program: Program
) -> tuple[Evidence, tuple[str, ...], Transcript]:
    """Run the program between simulators and relay; return what each of them left behind."""
    home, relay_home = folder / "home", folder / "relay"
    relay_home.mkdir()
    store = folder / "accounts"
    accounts = [attrs.evolve(account, expired=cell.scenario.expired) for account in ACCOUNTS]
    async with trio.open_nursery() as nursery:
        simulator = Simulator(accounts=accounts, pace_s=cell.scenario.pace_s)
        await nursery.start(simulator.serve)
        local = OpenAISimulator(wire=cell.scenario.local or "chat")
        await nursery.start(local.serve)
        simulator.write_store(store)
        files = {account.name: _file(store, account) for account in accounts}
        simulator.queue_faults(*cell.scenario.faults)
        settings = settings_for(
            cell.scenario,
            api_base_url=simulator.api_base_url,
            issuer_url=simulator.issuer_url,
            store=store,
            others=other_backends(cell.scenario, local.api_base_url, relay_home),
            upstream=cell.variant.upstream,
        )
        async with running_relay(relay_home, settings, program=program) as relay:
            launch = prepare(cell, home, relay_url=relay.url)
            driven = await _drive(cell, launch, simulator)
            for number in range(1, cell.scenario.runs):
                if driven.exit.status != 0:
                    break
                launch = prepare(cell, home, relay_url=relay.url, run=number)
                following = await _drive(cell, launch, simulator)
                driven = attrs.evolve(
                    following,
                    stdout=driven.stdout + following.stdout,
                    stderr=driven.stderr + following.stderr,
                )
        nursery.cancel_scope.cancel()
    evidence = Evidence(
        scenario=cell.scenario,
        ending=cell.ending,
        interrupted_status=cell.driver.interrupted_status,
        tools_in_input=cell.variant.tools_in_input,
        status=driven.exit.status,
        stdout=driven.stdout,
        stderr=driven.stderr,
        seen=tuple(simulator.seen),
        local_seen=tuple(local.seen),
        accounts={
            account.name: Account(
                workspace_id=account.account_id,
                file_before=files[account.name],
                file_after=_file(store, account),
            )
            for account in accounts
        },
        quota_back_at_s=driven.quota_back_at_s,
        interrupted_at_s=driven.exit.interrupted_at_s,
        relay_status=relay.status,
        relay_log=tuple(relay.log),
        files={name: text_of(home / "project" / name) for name in cell.scenario.changed},
        shows_thoughts=cell.variant.shows_thoughts,
        client_websocket=cell.variant.websocket,
        backend_websocket=cell.variant.speaks_to_codex,
        echoes_reasoning=cell.variant.protocol == "responses",
    )
    seen = sorted((*simulator.seen, *local.seen), key=lambda one: one.arrived_at_s)
    transcript = transcript_of(
        prompt=cell.scenario.prompt,
        arguments=launch.command[len(cell.command) :],
        seen=seen,
        printed=(driven.stdout, driven.stderr),
        relay_log=relay.log,
        folder=str(folder),
        secrets=CLIENT_SECRETS,
    )
    traces = traces_of(launch, logs=cell.driver.logs, seen=seen, relay=relay)
    return evidence, traces, transcript


def settings_for(
    scenario: Scenario,
    *,
    api_base_url: str,
    issuer_url: str,
    store: Path,
    others: Mapping[str, Mapping[str, object]],
    upstream: Upstream = "auto",
) -> dict[str, object]:
    """Return the configuration of the relay in a scenario; for `others` see `other_backends`.

    `upstream` says which turns go to Codex over a WebSocket.
    """
    return relay_settings(
        api_base_url=api_base_url,
        issuer_url=issuer_url,
        store=store,
        server=server_settings(scenario),
        managed_oauth={"selection_strategy": scenario.strategy},
        aliases=aliases_for(scenario),
        adaptations=scenario.adaptations,
        # A turn is to meet the mishap, and not the relay's own question for the models.
        asks_for_models=scenario.mishap is None,
        others=others,
        compaction=COMPACTION if scenario.compacts else None,
        websocket=None if upstream == "auto" else upstream,
    )


def server_settings(scenario: Scenario) -> dict[str, object]:
    """Return what the scenario wants of the relay's block `server`."""
    return {} if scenario.keep_alive_s is None else {"keep_alive_s": scenario.keep_alive_s}


def other_backends(
    scenario: Scenario, api_base_url: str, folder: Path
) -> Mapping[str, Mapping[str, object]]:
    """Return what the scenario wants beside Codex, by name; the key goes into `folder`."""
    if scenario.local is None:
        return {}
    block = other_backend(api_base_url, models=[MODEL], wire=scenario.local, key=KEY, folder=folder)
    return {"local": block}


def aliases_for(scenario: Scenario) -> dict[str, str]:
    """Return the relay's own names of models, with the effort that the scenario wants of them."""
    return {alias: with_effort(model, scenario) for alias, model in ALIASES.items()}


def with_effort(model: str, scenario: Scenario) -> str:
    """Return the name of a model with the effort that the scenario wants of it."""
    wanted = {} if scenario.effort is None else {"reasoning_effort": scenario.effort}
    return with_parameters(model, wanted)


def prepare(
    cell: Cell, home: Path, *, relay_url: str, client_key: str = CLIENT_KEY, run: int = 0
) -> Launch:
    """Make the program's home and say how it is started, for its n-th run, from 0."""
    variant, models = cell.variant, cell.scenario.models
    if models:
        variant = attrs.evolve(variant, model=models[run])
    elif variant.model not in ALIASES:
        variant = attrs.evolve(variant, model=with_effort(variant.model, cell.scenario))
    order = Order(
        variant=variant,
        relay_url=relay_url,
        home=home,
        client_key=client_key,
        prompt=cell.scenario.prompt,
        capabilities=cell.scenario.capabilities,
        further_models=tuple(model for model in dict.fromkeys(models) if model != models[run]),
        goes_on=run > 0,
        wishes=cell.scenario.wishes,
    )
    project = {f"project/{name}": text for name, text in cell.scenario.files.items()}
    # Not again for a later run: the program may have changed them.
    make_home(home, {**cell.driver.files(order), **(project if run == 0 else {})})
    return Launch(
        command=(*cell.command, *cell.driver.arguments(order)),
        environment={**bare_environment(home), **cell.driver.environment(order)},
        home=home,
        stdin=cell.scenario.wishes.attached,
    )


async def _drive(cell: Cell, launch: Launch, simulator: Simulator) -> _Driven:
    """Run the program to its end; let happen meanwhile what the scenario says."""
    quota_back_at_s: float | None = None

    async def silence() -> None:
        await simulator.wait_until(
            lambda: any(seen.fault == "hang" and seen.status for seen in simulator.seen)
        )

    async def mishap() -> None:
        nonlocal quota_back_at_s
        quota_back_at_s = await let_happen(cell.scenario, simulator)

    interrupted = cell.ending is Ending.INTERRUPTED
    ended = Exit()
    with trio.move_on_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mishap)
            ended = await run(launch, interrupt_when=silence if interrupted else None)
            nursery.cancel_scope.cancel()
    if ended.interrupted_at_s is not None:
        # Before the relay is stopped, which would abandon the request in the program's stead.
        with trio.move_on_after(2 * LEAVE_S):
            await simulator.wait_until(lambda: all(seen.ended for seen in simulator.seen))
    return _Driven(
        exit=ended,
        stdout=text_of(launch.stdout_path),
        stderr=text_of(launch.stderr_path),
        quota_back_at_s=quota_back_at_s,
    )


def _file(store: Path, account: SimulatedAccount) -> JsonObject:
    """Return what the file with the account's tokens says."""
    content = parse((store / f"{account.name}.json").read_bytes())
    return content if is_object(content) else {}
