"""Measures any relay that runs: one cell after the other, judged from what is seen on its outside.

The program's side is always seen. The backend's side is seen, and can be spoiled, when the relay
has a simulated backend behind it whose control endpoints can be reached. What only the relay itself
could tell (its log, its files) is not asked for, and what it is configured with is its owner's.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.protocol.capabilities import HEADER
from codexrelay.protocol.raw import dump
from harness.compat.agent_process import Exit, Launch, run
from harness.compat.cell import PATIENCE_S, Cell, Result, prepare
from harness.compat.conversation import first_served, is_turn
from harness.compat.drivers.driver import Driver, WireProtocol
from harness.compat.remote import BackendError, RemoteBackend, remote_backend
from harness.compat.scenarios import MARK, Ending, Mishap
from harness.compat.traces import text_of, traces_of
from harness.compat.verdict import CLIENT_KEY, LEAVE_S, Evidence, problems_seen_from_outside
from harness.relay_process import ALIASES, RelayProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from harness.compat.drivers.driver import NpmProgram, Order, PythonProgram, Variant
    from harness.compat.scenarios import Scenario
    from harness.simulator import Seen

#: The columns that say something of any relay. The others are about what codexrelay can be told
#: (capabilities, adaptations, compaction), about its other backends, or end with an account that
#: is lost for every cell that follows.
FOR_ANY_RELAY: Final = (
    *("text", "tool", "parallel", "image", "long", "500", "overload", "failed", "drop", "eof"),
    *("keep-alive", "interrupt", "exhausted", "refreshed", "spent"),
)
#: How long spent quota stays spent. A relay remembers that for as long as it was told, so the next
#: cell waits for it.
SPENT_S: Final = 12.0
#: Turns of a window that is used up, and of the one after it.
_TURNS: Final = 100
#: Between two deltas while a mishap has to come before the end of the answer. It comes by way of
#: another process.
_UNHURRIED_S: Final = 0.1
#: After a cell that failed: some relays leave a backend alone for five seconds when it has.
_RECOVER_S: Final = 6.0
#: For the turns that a program has left behind, until the next one starts.
_SETTLE_S: Final = 2.0
_PROBE_S: Final = 20.0
_PATHS: Final[Mapping[WireProtocol, str]] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
}
_NO_SUCH_ENDPOINT: Final = (404, 405)
#: The one line of a block for Python that speaks to codexrelay alone.
_WISHES_OF_PYTHON: Final = re.compile(r'"codex_capabilities": \{\}')
_WISHES_OF_TOML: Final = re.compile(rf'"{re.escape(HEADER)}" = ""')


class TargetError(Exception):
    """The relay, or its backend, is not there; the text says which."""


def _without_version(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1")


@attrs.frozen(kw_only=True)
class Target:
    """A relay that runs."""

    name: str
    #: Its address, without `/v1`.
    url: str = attrs.field(converter=_without_version)
    #: What the programs present as their key.
    key: str = attrs.field(default=CLIENT_KEY, repr=False)
    #: The model that the programs ask for; None: what each row asks for.
    model: str | None = None
    #: The address of the simulated backend behind it; None: nobody knows what is there.
    backend_url: str | None = None


@attrs.frozen(kw_only=True)
class Score:
    """What one relay made of one cell."""

    variant: str
    scenario: str
    #: None: the cell is not for this relay.
    result: Result | None = None
    #: Why it is not.
    why_not: str = ""


@attrs.frozen(kw_only=True)
class Scorecard:
    """What one relay made of all cells, in their order."""

    target: str
    scores: tuple[Score, ...]


@attrs.frozen(kw_only=True)
class Bench:
    """A relay that has been looked at and is ready to be measured."""

    target: Target
    backend: RemoteBackend | None
    #: What it speaks.
    wires: frozenset[WireProtocol]

    def why_not(self, cell: Cell) -> str:
        """Return why a cell is not for this relay; "" if it is."""
        scenario, variant = cell.scenario, cell.variant
        if scenario.name not in FOR_ANY_RELAY:
            return "not a matter of every relay"
        if variant.protocol not in self.wires:
            return f"no endpoint {_PATHS[variant.protocol]}"
        if variant.upstream != "auto":
            return "what it does behind itself is its own matter"
        if variant.model in ALIASES and self.target.model is None:
            return f"no model is called {variant.model}"
        if self.backend is None:
            return "no simulated backend to steer" if _needs_backend(scenario) else ""
        if scenario.mishap is Mishap.SPENT and len(self.backend.accounts) < len(("one", "two")):
            return "one account only"
        return ""

    async def measure(self, cell: Cell) -> Result:
        """Run one cell, judge it, and leave the backend as it was.

        Raises:
            TargetError: the backend is gone.
        """
        began_at_s = trio.current_time()
        with tempfile.TemporaryDirectory(
            prefix="codexrelay-target-", ignore_cleanup_errors=True
        ) as name:
            try:
                outcome = await _measure(_as_for_any_relay(cell, self.target), self, Path(name))
            except BackendError as error:
                raise TargetError(str(error)) from None
        return Result(
            variant=cell.variant.name,
            scenario=cell.scenario.name,
            seconds=outcome.ended_at_s - began_at_s,
            problems=outcome.problems,
            traces=outcome.traces if outcome.problems else (),
        )


def _needs_backend(scenario: Scenario) -> bool:
    """Tell whether something has to happen, or to be said, that a real backend would not do."""
    spoiled = scenario.faults or scenario.mishap or scenario.pace_s
    return bool(spoiled or scenario.directive) or MARK not in scenario.marks


@contextlib.asynccontextmanager
async def bench(target: Target) -> AsyncIterator[Bench]:
    """Look at a relay: whether it answers, what it speaks, whether its backend can be reached.

    Raises:
        TargetError: it does not answer, or its backend does not.
    """
    async with contextlib.AsyncExitStack() as stack:
        backend: RemoteBackend | None = None
        if target.backend_url is not None:
            backend = await stack.enter_async_context(remote_backend(target.backend_url))
            try:
                await backend.reset()
            except BackendError as error:
                raise TargetError(f"the backend of {target.name}: {error}") from None
        yield Bench(target=target, backend=backend, wires=await _wires(target))


async def measure_all(
    bench: Bench,
    cells: Sequence[Cell],
    *,
    retry_once: bool = False,
    on_score: Callable[[str, Score], None] = lambda _name, _score: None,
) -> Scorecard:
    """Measure one relay, one cell after the other; `on_score` is told of each as it ends.

    Raises:
        TargetError: its backend is gone.
    """
    scores: list[Score] = []
    for cell in cells:
        named = Score(variant=cell.variant.name, scenario=cell.scenario.name)
        if why_not := bench.why_not(cell):
            score = attrs.evolve(named, why_not=why_not)
        else:
            result = await bench.measure(cell)
            if retry_once and not result.ok:
                result = attrs.evolve(await bench.measure(cell), tries=2)
            score = attrs.evolve(named, result=result)
        scores.append(score)
        on_score(bench.target.name, score)
    return Scorecard(target=bench.target.name, scores=tuple(scores))


async def _wires(target: Target) -> frozenset[WireProtocol]:
    """Ask each endpoint for nothing at all, which none can answer and each one refuses."""
    spoken: set[WireProtocol] = set()
    headers = {"authorization": f"Bearer {target.key}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=_PROBE_S) as http:
        for wire, path in _PATHS.items():
            try:
                answer = await http.post(f"{target.url}{path}", json={})
            except httpx.HTTPError as error:
                told = f"{target.name} at {target.url}: {type(error).__name__}: {error}"
                raise TargetError(told) from None
            if answer.status_code not in _NO_SUCH_ENDPOINT:
                spoken.add(wire)
    return frozenset(spoken)


def _as_for_any_relay(cell: Cell, target: Target) -> Cell:
    """Return the cell with nothing in it that codexrelay alone understands."""
    spent_s = min(cell.scenario.spent_s, SPENT_S)
    return attrs.evolve(
        cell,
        driver=_WithoutWishes(cell.driver),
        variant=attrs.evolve(cell.variant, model=target.model or cell.variant.model),
        scenario=attrs.evolve(cell.scenario, capabilities={}, spent_s=spent_s),
    )


@attrs.frozen
class _WithoutWishes:
    """A program whose configuration says nothing that is for codexrelay alone.

    With no capabilities its block still shows their place, and other relays pass on to the backend
    what they do not know.
    """

    _driver: Driver

    @property
    def name(self) -> str:
        return self._driver.name

    @property
    def program(self) -> NpmProgram | PythonProgram:
        return self._driver.program

    @property
    def variants(self) -> tuple[Variant, ...]:
        return self._driver.variants

    @property
    def interrupted_status(self) -> int:
        return self._driver.interrupted_status

    @property
    def logs(self) -> tuple[str, ...]:
        return self._driver.logs

    def files(self, order: Order) -> Mapping[str, str]:
        return {name: without_wishes(text) for name, text in self._driver.files(order).items()}

    def arguments(self, order: Order) -> tuple[str, ...]:
        return self._driver.arguments(order)

    def environment(self, order: Order) -> Mapping[str, str]:
        return self._driver.environment(order)


def without_wishes(text: str) -> str:
    """Return a file of a program without the empty places of what codexrelay can be asked."""
    try:
        return json.dumps(_without_empty(json.loads(text)), indent=2) + "\n"
    except ValueError:
        return _WISHES_OF_TOML.sub("", _WISHES_OF_PYTHON.sub("", text))


def _without_empty(value: object) -> object:
    match value:
        case dict():
            places = ("codex_capabilities", HEADER)
            return {
                key: _without_empty(inner)
                for key, inner in value.items()
                if not (key in places and not inner)
            }
        case list():
            return [_without_empty(inner) for inner in value]
        case _:
            return value


@attrs.frozen(kw_only=True)
class _Outcome:
    """What came of a cell."""

    problems: tuple[str, ...]
    traces: tuple[str, ...]
    #: When the program had ended, on trio's clock: what is waited for after that is not its time.
    ended_at_s: float


async def _measure(cell: Cell, bench: Bench, folder: Path) -> _Outcome:
    """Run the program, and judge what was seen of it."""
    target, backend, home = bench.target, bench.backend, folder / "home"
    mishap = cell.scenario.mishap
    if backend is not None:
        pace_s = cell.scenario.pace_s if mishap is None else _UNHURRIED_S
        await backend.reset(pace_s=pace_s)
        await backend.queue_faults(*cell.scenario.faults)
    launch = prepare(cell, home, relay_url=target.url, client_key=target.key)
    driven = await _drive(cell, launch, backend)
    ended_at_s = trio.current_time()
    seen: Sequence[Seen] = ()
    if backend is not None:
        seen = await _settled(backend, long_s=2 * LEAVE_S if driven.exit.interrupted_at_s else 0.0)
        await backend.reset()
    evidence = Evidence(
        scenario=cell.scenario,
        ending=cell.ending,
        interrupted_status=cell.driver.interrupted_status,
        tools_in_input=cell.variant.tools_in_input,
        status=driven.exit.status,
        stdout=text_of(launch.stdout_path),
        stderr=text_of(launch.stderr_path),
        seen=tuple(seen),
        accounts={},
        quota_back_at_s=driven.quota_back_at_s,
        interrupted_at_s=driven.exit.interrupted_at_s,
        relay_status=0,
        relay_log=(),
    )
    problems = _problems(evidence, target) if backend is not None else problems_alone(evidence)
    if mishap is not None and not driven.mishap_happened:
        problems = (*problems, "it ended before its account met the mishap")
    if (back_at_s := driven.quota_back_at_s) is not None:
        # The relay may know of the spent account, and the next cell is to find all of them.
        await trio.sleep_until(back_at_s + LEAVE_S)
    if problems and backend is not None:
        await trio.sleep(_RECOVER_S)
    nobody = RelayProcess(target.url, [])
    traces = traces_of(launch, logs=cell.driver.logs, seen=seen, relay=nobody)
    return _Outcome(problems=problems, traces=traces, ended_at_s=ended_at_s)


def _problems(evidence: Evidence, target: Target) -> tuple[str, ...]:
    problems = list(problems_seen_from_outside(evidence))
    back_at_s = evidence.quota_back_at_s
    last = evidence.turns[-1] if evidence.turns else None
    if (
        evidence.scenario.mishap is Mishap.SPENT
        and back_at_s is not None
        and last is not None
        and last.arrived_at_s > back_at_s
    ):
        problems.append("it did not go on with another account, but waited for the quota")
    for seen in evidence.seen:
        told = [*(value for _, value in seen.headers), dump(seen.body).decode()]
        if any(target.key in text for text in told):
            problems.append(f"{seen.method} {seen.path}: it carries the client's key")
    return tuple(dict.fromkeys(problems))


def problems_alone(evidence: Evidence) -> tuple[str, ...]:
    """Judge the program alone: what a model of any backend has to say of a command it had run."""
    if evidence.status is None:
        return ("it was still running when its time was up",)
    if evidence.status != 0:
        return (f"exit status {evidence.status}",)
    return () if MARK in evidence.stdout else (f"it did not print {MARK!r}",)


@attrs.frozen(kw_only=True)
class _Driven:
    """What came of running a program."""

    exit: Exit
    mishap_happened: bool
    #: On trio's clock; None if no quota was spent.
    quota_back_at_s: float | None


async def _drive(cell: Cell, launch: Launch, backend: RemoteBackend | None) -> _Driven:
    """Run the program to its end; let happen meanwhile what the scenario says."""
    quota_back_at_s: float | None = None
    happened = False

    async def silence() -> None:
        assert backend is not None
        await backend.wait_until(
            lambda seen: any(one.fault == "hang" and one.status for one in seen)
        )

    async def mishap(steered: RemoteBackend) -> None:
        nonlocal quota_back_at_s, happened
        quota_back_at_s = await _let_happen(cell.scenario, steered)
        happened = True

    interrupted = cell.ending is Ending.INTERRUPTED
    ended = Exit()
    with trio.move_on_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            if backend is not None and cell.scenario.mishap is not None:
                nursery.start_soon(mishap, backend)
            ended = await run(launch, interrupt_when=silence if interrupted else None)
            nursery.cancel_scope.cancel()
    return _Driven(exit=ended, mishap_happened=happened, quota_back_at_s=quota_back_at_s)


async def _let_happen(scenario: Scenario, backend: RemoteBackend) -> float | None:
    """Wait for the first answer to a request that carries tools, and let the mishap happen.

    Returns when spent quota is there again, on trio's clock; None if none was spent.
    """
    first = first_served(await backend.wait_until(lambda seen: first_served(seen) is not None))
    assert first is not None
    name = first.account or ""
    match scenario.mishap:
        case Mishap.SPENT:
            return await _spend(backend, [name], spent_s=scenario.spent_s)
        case Mishap.ALL_SPENT:
            return await _spend(backend, backend.accounts, spent_s=scenario.spent_s)
        case Mishap.EXPIRED:
            await backend.expire(name)
        case _:
            pass
    return None


async def _spend(backend: RemoteBackend, names: Sequence[str], *, spent_s: float) -> float:
    """Spend the quota of accounts. It comes back by itself, and there is enough of it then."""
    now_s, now_unix_s = trio.current_time(), time.time()
    # The backend tells whole seconds. Were it sooner than told, nobody would have to wait for it.
    back_in_s = math.floor(now_unix_s + spent_s) - now_unix_s
    for name in names:
        await backend.spend(name, back_in_s=back_in_s, turns=_TURNS)
    return now_s + back_in_s


async def _settled(backend: RemoteBackend, *, long_s: float) -> Sequence[Seen]:
    """Return what was seen once no turn is under way, or `_SETTLE_S` (or `long_s`) have passed."""
    with trio.move_on_after(max(_SETTLE_S, long_s)):
        return await backend.wait_until(
            lambda seen: all(one.ended for one in filter(is_turn, seen))
        )
    return await backend.seen()
