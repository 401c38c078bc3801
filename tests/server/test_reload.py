"""A configuration that changes while clients are there: what their next requests meet."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import attrs
import httpx
import pytest
import trio
from structlog.testing import capture_logs
from structlog.typing import EventDict

from codexrelay.cli import process
from codexrelay.cli.process import World
from codexrelay.config.live import Live, Sources
from codexrelay.protocol.raw import Json, JsonObject, dump
from codexrelay.server.drain import Drain
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.no_tls import NO_TLS
from tests.fakes.relay import LiveRelay, ask, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


#: Between two looks at the file, so that nobody waits for it.
_LOOK_S: Final = 0.005
_OLD_KEY, _NEW_KEY = "the-old-key-of-a-client", "the-new-key-of-a-client"


@attrs.define(eq=False)
class Reloading:
    """A relay whose configuration is a file."""

    relay: LiveRelay
    live: Live
    file: Path
    #: What stands in the file now.
    config: JsonObject
    told: list[EventDict]

    def write(self, *, server: JsonObject | None = None, **more: Json) -> None:
        """Write the file anew: `server` as it is given here, other keys of the first block too."""
        self.config = written(self.config, server=server, **more)
        self.file.write_bytes(dump(self.config))

    async def change(self, *, server: JsonObject | None = None, **more: Json) -> str:
        """Write the file anew and wait until it acts; return what was told."""
        self.told.clear()
        self.write(server=server, **more)
        return await self.line("configuration reloaded")

    async def line(self, beginning: str) -> str:
        """Wait for a line of the log that begins so, and return it."""
        found: list[str] = []
        names = ("changed", "waiting")

        def is_there() -> bool:
            found[:] = [
                " ".join((str(line["event"]), *(str(line[name]) for name in names if name in line)))
                for line in self.told
                if str(line["event"]).startswith(beginning)
            ]
            return bool(found)

        await eventually(is_there, lambda: self.told)
        return found[0]

    async def account(self, **headers: str) -> str | None:
        """Return the account that a turn is served by."""
        answer = await self.relay.post("/v1/responses", ask("[sim text=Hi]"), headers=headers)
        assert answer.status_code == 200, answer.text
        return self.relay.accounts_asked[-1]


def written(
    config: JsonObject,
    *,
    server: JsonObject | None = None,
    models: JsonObject | None = None,
    managed: JsonObject | None = None,
    **block: Json,
) -> JsonObject:
    """Return a configuration with other keys; those of `managed` are added to what is there."""
    backends: dict[str, JsonObject] = config["backends"]  # type: ignore[assignment]
    first = backends["openai_codex"]
    extra: dict[str, dict[str, JsonObject]] = first["extra"]  # type: ignore[assignment]
    codex = extra["codex"]
    oauth = {**codex["managed_oauth"], **(managed or {})}
    first = {**first, **block, "extra": {"codex": {**codex, "managed_oauth": oauth}}}
    return {
        **config,
        "server": {"port": 0, **(server or {})},
        "models": {"aliases": {}, **(models or {})},
        "backends": {**backends, "openai_codex": first},
    }


@asynccontextmanager
async def reloading(
    folder: Path,
    accounts: int = 1,
    *,
    second: int = 0,
    pace_s: float = 0.0,
    server: JsonObject | None = None,
    **more: Json,
) -> AsyncIterator[Reloading]:
    """Run a relay in front of a simulator; see `written`, and `relaying` for what must hold after.

    `second` is how many of the accounts a second instance has instead of the first one.
    """
    simulator = Simulator(accounts=some_accounts(accounts), pace_s=pace_s)
    stores = [folder / "accounts", folder / "accounts.2"]
    for store in stores:
        simulator.write_store(store)
    for number, file in enumerate(sorted(stores[0].glob("sim-*.json"))):
        (file if number >= accounts - second else stores[1] / file.name).unlink()
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        first: JsonObject = {
            "api_base_url": simulator.api_base_url,
            "extra": {
                "codex": {
                    "oauth_issuer": simulator.issuer_url,
                    "managed_oauth": {"storage_path": str(stores[0])},
                }
            },
        }
        beside: JsonObject = {"openai_codex.2": {}} if second else {}
        config: JsonObject = {
            "sessions": {"state_path": str(folder / "state")},
            "backends": {"openai_codex": first, **beside},
        }
        config, file = written(config, server=server, **more), folder / "config.yaml"
        await trio.Path(file).write_bytes(dump(config))
        live = Live.load(Sources(config_path=file, environ={}, flags={}))
        drain = Drain(grace_s=live.settings.server.drain_grace_s)
        running = await nursery.start(process.run, live.settings, world(simulator), drain)
        with capture_logs() as told:
            nursery.start_soon(
                partial(live.keep, partial(process.adopt, running.services), look_s=_LOOK_S)
            )
            limits = httpx.Limits(max_keepalive_connections=0)
            async with httpx.AsyncClient(
                base_url=running.url,
                trust_env=False,
                verify=NO_TLS,
                timeout=PATIENCE_S,
                limits=limits,
            ) as http:
                relay = LiveRelay(
                    url=running.url,
                    http=http,
                    simulator=simulator,
                    services=running.services,
                    drain=drain,
                    store=stores[0],
                    state=folder / "state",
                    stopped=trio.Event(),
                )
                yield Reloading(relay, live, file, config, told)
            await relay.until_at_rest()
            assert relay.mismatched == []
        nursery.cancel_scope.cancel()


def world(simulator: Simulator) -> World:
    return World(
        legacy_folders=lambda _: (),
        wall_clock=simulator.wall_clock,
        new_id=lambda: uuid4().hex,
        proxy_for=lambda _: None,
    )


async def test_an_alias_that_is_added_works_on_the_next_request(tmp_path: Path) -> None:
    async with reloading(tmp_path) as scene:
        told = await scene.change(models={"aliases": {"quick": "gpt-5.5"}})
        answer = await scene.relay.post("/v1/responses", ask(model="quick"))
        assert answer.status_code == 200
        assert scene.relay.asked[-1].body["model"] == "gpt-5.5"  # type: ignore[index]
    assert told == "configuration reloaded models.aliases"


async def test_a_file_that_cannot_be_used_keeps_the_old_one_and_says_where(tmp_path: Path) -> None:
    async with reloading(tmp_path, server={"client_keys": [_OLD_KEY]}) as scene:
        scene.file.write_text(
            "server:\n  client_keys: [one-that-nobody-knows]\n  keep_alive_s: 0\n"
        )
        line = await scene.line("configuration not reloaded")
        assert await scene.account(**{"x-api-key": _OLD_KEY}) == "sim-1"
    assert line.startswith(
        "configuration not reloaded, the old one stays: "
        f"server.keep_alive_s ({scene.file}:3): must be > 0"
    )


async def test_a_key_that_needs_a_restart_is_named_and_keeps_its_value(tmp_path: Path) -> None:
    async with reloading(tmp_path) as scene:
        scene.write(server={"port": 1, "keep_alive_s": 7})
        assert await scene.line("changes that") == "changes that need a restart server.port"
        assert await scene.account() == "sim-1"
        assert scene.relay.services.settings.port == 0
        assert scene.relay.services.settings.keep_alive_s == 7.0


async def test_a_client_key_that_is_replaced_opens_no_more(tmp_path: Path) -> None:
    async def statuses(relay: LiveRelay) -> list[int]:
        keys = [{"authorization": f"Bearer {key}"} for key in (_OLD_KEY, _NEW_KEY)]
        answers = [await relay.post("/v1/responses", ask(), headers=key) for key in keys]
        return [answer.status_code for answer in answers]

    async with reloading(tmp_path, server={"client_keys": [_OLD_KEY]}) as scene:
        before = await statuses(scene.relay)
        told = await scene.change(server={"client_keys": [_NEW_KEY]})
        after = await statuses(scene.relay)
    assert (before, after) == ([200, 401], [401, 200])
    assert told == "configuration reloaded server.client_keys"
    assert [line for line in scene.told if "key-of-a-client" in str(line)] == []


@pytest.mark.parametrize(
    ("server", "headers", "status"),
    [
        ({"max_body_bytes": 20}, {}, 413),
        ({"allowed_hosts": ["relay.lan"]}, {"host": "relay.lan"}, 200),
    ],
    ids=["body limit", "hosts"],
)
async def test_what_the_server_checks_is_checked_by_the_new_limits(
    tmp_path: Path, server: JsonObject, headers: Mapping[str, str], status: int
) -> None:
    async with reloading(tmp_path) as scene:
        before = await scene.relay.post("/v1/responses", ask(), headers=dict(headers))
        await scene.change(server=server)
        after = await scene.relay.post("/v1/responses", ask(), headers=dict(headers))
    assert before.status_code == (403 if headers else 200)
    assert after.status_code == status


async def test_a_running_turn_keeps_its_keep_alive_and_its_budgets(tmp_path: Path) -> None:
    async with reloading(tmp_path) as scene, scene.relay.open_turn(ask("[sim fault=hang]")) as old:
        await old.until(b"Hello")
        await scene.change(server={"keep_alive_s": 0.01}, budgets={"silence_s": 0.2})
        async with scene.relay.open_turn(ask("[sim fault=hang]")) as new:
            assert b"silence_s" in await new.to_the_end()
        assert new.body.count(b"\n: ") > 1
        assert old.body.count(b"\n: ") == 0
        assert not old.complete
        assert len(scene.relay.services.relay.active) == 1
        old.reset()


async def test_the_budgets_of_what_comes_next_are_the_new_ones(tmp_path: Path) -> None:
    async with reloading(tmp_path) as scene:
        await scene.change(budgets={"headers_s": 0.05}, timeout=33)
        answer = await scene.relay.post("/v1/responses", ask("[sim fault=hang_early]"))
        [instance] = scene.relay.services.relay.instances.members
        assert instance.budgets.silence_s == 33.0
    assert answer.status_code == 504
    assert "headers_s" in answer.text


async def test_turns_in_line_are_served_when_more_may_run(tmp_path: Path) -> None:
    async with reloading(tmp_path, managed={"max_concurrent_turns": 1}) as scene:
        relay = scene.relay
        async with relay.open_turn(ask("[sim fault=hang]")) as held, trio.open_nursery() as nursery:
            await held.until(b"Hello")
            for number in (1, 2):
                nursery.start_soon(relay.post, "/v1/responses", ask("[sim fault=hang]"))
                await eventually(lambda number=number: relay.in_line() == number)
            # At once, and not when they look again by themselves.
            await scene.change(managed={"max_concurrent_turns": 2})
            assert relay.in_line() == 1
            await relay.until_asked(2)
            await scene.change(managed={"max_concurrent_turns": None})
            assert relay.in_line() == 0
            await relay.until_asked(3)
            nursery.cancel_scope.cancel()


async def test_fewer_turns_at_a_time_end_none_that_runs(tmp_path: Path) -> None:
    async with reloading(tmp_path, pace_s=0.01) as scene, trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def client() -> None:
            answers.append(await scene.relay.post("/v1/responses", ask("[sim deltas=40]")))

        for _ in range(3):
            nursery.start_soon(client)
        await scene.relay.until_asked(3)
        await scene.change(managed={"max_concurrent_turns": 1})
        nursery.start_soon(client)
        await eventually(lambda: scene.relay.in_line() == 1)
        assert answers == []
        while len(answers) < 4:
            await trio.sleep(0.01)
            running = sum(not seen.ended for seen in scene.relay.asked)
            assert running <= 1 or len(scene.relay.asked) == 3
    assert all(b'"type":"response.completed"' in answer.content for answer in answers)


async def test_another_strategy_chooses_from_the_next_turn_on(tmp_path: Path) -> None:
    async with reloading(tmp_path, 2, managed={"selection_strategy": "first-available"}) as scene:
        before = [await scene.account() for _ in range(3)]
        await scene.change(managed={"selection_strategy": "round-robin"})
        after = [await scene.account() for _ in range(4)]
    assert before == ["sim-1"] * 3
    assert sorted(map(str, after)) == ["sim-1", "sim-1", "sim-2", "sim-2"]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"max_concurrent_turns": 5}, id="something else"),
        pytest.param(
            {"session_affinity_ttl_seconds": 99},
            id="how long a binding holds",
        ),
    ],
)
async def test_sessions_stay_where_they_are_while_the_strategy_does(
    tmp_path: Path, changed: JsonObject
) -> None:
    async with reloading(tmp_path, 3, managed={"selection_strategy": "session-affinity"}) as scene:
        names = ["a", "b", "c", "d", "e"]
        before = [await scene.account(session_id=name) for name in names]
        await scene.change(managed=changed)
        after = [await scene.account(session_id=name) for name in reversed(names)]
    assert after == before[::-1]
    assert len(set(before)) == 3


async def test_the_list_of_accounts_that_may_be_used_acts_both_ways(tmp_path: Path) -> None:
    async with reloading(tmp_path, 3, managed={"accounts": ["sim-1"]}) as scene:
        served = [{await scene.account() for _ in range(3)}]
        for accounts in (["sim-2", "sim-3"], "all"):
            await scene.change(managed={"accounts": accounts})
            served.append({await scene.account() for _ in range(3)})
    assert served == [{"sim-1"}, {"sim-2", "sim-3"}, {"sim-1", "sim-2", "sim-3"}]


async def test_a_turn_goes_on_with_an_account_that_may_not_be_used_any_more(tmp_path: Path) -> None:
    async with (
        reloading(tmp_path, 2, managed={"accounts": ["sim-1"]}) as scene,
        scene.relay.open_turn(ask("[sim fault=hang]")) as held,
    ):
        await held.until(b"Hello")
        await scene.change(managed={"accounts": ["sim-2"]})
        assert await scene.account() == "sim-2"
        assert not held.complete
        held.reset()


async def test_a_turn_that_waits_in_line_takes_an_account_that_may_be_used_now(
    tmp_path: Path,
) -> None:
    limit: JsonObject = {"accounts": ["sim-1"], "max_concurrent_turns": 1}
    async with (
        reloading(tmp_path, 2, managed=limit) as scene,
        scene.relay.open_turn(ask("[sim fault=hang]")) as held,
        trio.open_nursery() as nursery,
    ):
        await held.until(b"Hello")
        nursery.start_soon(scene.relay.post, "/v1/responses", ask())
        await eventually(lambda: scene.relay.in_line() == 1)
        await scene.change(managed={"accounts": "all"})
        assert scene.relay.in_line() == 0
        await scene.relay.until_asked(2)
        assert scene.relay.accounts_asked == ["sim-1", "sim-2"]
        held.reset()


async def test_an_instance_without_weight_gets_no_turn_that_does_not_ask_for_it(
    tmp_path: Path,
) -> None:
    async with reloading(tmp_path, 2, second=1) as scene:
        before = [await scene.account() for _ in range(3)]  # it is the second one's turn now
        assert len(set(before)) == 2
        backends: JsonObject = scene.config["backends"]  # type: ignore[assignment]
        backends["openai_codex.2"] = {"weight": 0}
        told = await scene.change()
        after = {await scene.account() for _ in range(4)}
        named = await scene.relay.post("/v1/responses", ask(model="openai-codex.2:gpt-5.5"))
    assert told == "configuration reloaded backends.openai_codex.2.weight"
    assert after == {before[0]}
    assert named.status_code == 200


async def test_who_asks_has_the_account_files_looked_at(tmp_path: Path) -> None:
    async with reloading(tmp_path, 2) as scene:
        kept = (scene.relay.store / "sim-2.json").read_bytes()
        (scene.relay.store / "sim-2.json").unlink()
        scene.live.ask()
        [instance] = scene.relay.services.relay.instances.members
        await eventually(lambda: len(instance.lender.accounts()) == 1)
        (scene.relay.store / "sim-2.json").write_bytes(kept)
        (scene.relay.store / "sim-2.json").chmod(0o600)
        scene.file.write_text("server: {")
        scene.live.ask()
        await eventually(lambda: len(instance.lender.accounts()) == 2)


#: Values among which reloads choose, none of which refuses a turn of the test.
_CHOICES: Final[Mapping[str, list[JsonObject]]] = {
    "server": [{}, {"keep_alive_s": 0.01}, {"allowed_hosts": ["x"]}, {"max_body_bytes": 5000}],
    "managed": [
        {"selection_strategy": name, "max_concurrent_turns": most, "accounts": accounts}
        for name in ("round-robin", "random", "first-available", "session-affinity")
        for most in (None, 1, 3, 30)
        for accounts in ("all", ["sim-1"], ["sim-2", "sim-3"])
    ],
    "budgets": [{}, {"silence_s": 50}, {"connect_s": 9, "turn_s": 600}],
    "models": [{}, {"aliases": {"x": "gpt-5.5"}}, {"aliases": {"y": "gpt-5.5"}}],
}


async def test_a_hundred_reloads_lose_none_of_twenty_streams(tmp_path: Path) -> None:
    chance = random.Random(3)
    answers: list[httpx.Response] = []
    rounds = 0

    async def client(relay: LiveRelay) -> None:
        while rounds < 100:
            answers.append(await relay.post("/v1/responses", ask("[sim deltas=10]")))

    async with reloading(tmp_path, 3, pace_s=0.3) as scene:
        seen: set[int] = set()
        async with trio.open_nursery() as clients:
            for _ in range(20):
                clients.start_soon(client, scene.relay)
            await scene.relay.until_asked(20)
            while rounds < 100:
                parts = {name: chance.choice(values) for name, values in _CHOICES.items()}
                scene.told.clear()
                scene.write(**parts)
                scene.live.ask()
                assert "not reloaded" not in await scene.line("configuration")
                await eventually(
                    lambda: scene.live.settings is scene.relay.services.current.settings
                )
                seen.add(len(scene.relay.services.relay.active))
                rounds += 1
            scene.write()  # who stands in line is not kept for longer than that
    assert {answer.status_code for answer in answers} == {200}
    assert all(b'"type":"response.completed"' in answer.content for answer in answers)
    assert len(answers) >= 20
    assert max(seen) > 0
