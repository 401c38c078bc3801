"""`codexrelay models`, with and without a backend."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from codexrelay.backends.codex.catalogue import packaged
from codexrelay.backends.codex.catalogue_file import CatalogueFile
from codexrelay.backends.codex.listing import Listing
from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.world import World
from codexrelay.cli.models import models
from codexrelay.protocol.raw import JsonObject, dump, get_list, is_object, parse_object
from harness.openai_api import OpenAISimulator
from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.catalogue import MODELS
from tests.fakes.account_commands import ZONE, secrets_in
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.wall_clock import NOW_UNIX_S, WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from click.testing import Result

    from codexrelay.protocol.raw import Json

_DEAD: Final = "http://127.0.0.1:9/codex"


@attrs.define(eq=False, kw_only=True)
class ModelsCommand:
    """Runs `codexrelay models` on a folder, beside a simulator if there is one."""

    folder: Path
    simulator: Simulator | None = None
    clock: WallClock = attrs.field(factory=WallClock)
    #: Keys of `models` and of `model_catalog`.
    names: JsonObject = attrs.field(factory=dict)
    catalog: JsonObject = attrs.field(factory=dict)
    #: Backends of other kinds.
    others: JsonObject = attrs.field(factory=dict)
    environ: Mapping[str, str] = attrs.field(factory=dict)

    def run(
        self, *arguments: str, configured: bool = True, environ: Mapping[str, str] = {}
    ) -> Result:
        home = {"HOME": str(self.folder), "USERPROFILE": str(self.folder)}
        home |= {**self.environ, **environ}
        given = ("--config", str(self.config())) if configured else ()
        world = World(
            environ=home,
            platform="linux",
            wall_clock=self.clock,
            zone=ZONE,
            proxy_for=lambda _: None,
            configure_logs=lambda: None,
        )
        with capture_logs():
            result = CliRunner().invoke(models, [*given, *arguments], obj=Call(world=world))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    async def beside(self, *arguments: str) -> Result:
        """Run it in a thread, so that the simulator can answer it."""
        with trio.fail_after(PATIENCE_S):
            return await trio.to_thread.run_sync(partial(self.run, *arguments))

    def json(self, *arguments: str) -> JsonObject:
        result = self.run("--json", *arguments)
        assert result.exit_code == 0, result.output
        return parse_object(result.stdout)

    @property
    def file(self) -> CatalogueFile:
        """Where the relay of this configuration keeps the backend's lists."""
        url = _DEAD if self.simulator is None else self.simulator.api_base_url
        return CatalogueFile(self.folder / "state", (url,))

    def config(self) -> Path:
        codex: JsonObject = {
            "managed_oauth": {"storage_path": str(self.folder / "accounts")},
            "model_catalog": self.catalog,
        }
        block: JsonObject = {"api_base_url": _DEAD, "extra": {"codex": codex}}
        if self.simulator is not None:
            codex["oauth_issuer"] = self.simulator.issuer_url
            block["api_base_url"] = self.simulator.api_base_url
        path = self.folder / "config.yaml"
        settings: JsonObject = {
            "sessions": {"state_path": str(self.folder / "state")},
            "models": self.names,
            "backends": {"openai_codex": block, **self.others},
        }
        path.write_bytes(dump(settings))
        return path


@asynccontextmanager
async def world(folder: Path, *accounts: SimulatedAccount) -> AsyncIterator[ModelsCommand]:
    clock = WallClock()
    simulator = Simulator(accounts=accounts or (SimulatedAccount("work"),), wall_clock=clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        simulator.write_store(folder / "accounts")
        yield ModelsCommand(folder=folder, simulator=simulator, clock=clock)
        nursery.cancel_scope.cancel()


def listing(plan: str | None, *slugs: str, age_s: float = 0.0) -> Listing:
    offered: list[Json] = ["plus", "pro"]
    entries: list[JsonObject] = [{"slug": slug, "available_in_plans": offered} for slug in slugs]
    return Listing(
        plan=plan,
        models=tuple(entries),
        etag='W/"x"',
        fetched_unix_s=NOW_UNIX_S - age_s,
        client_version="0.169.0",
    )


def row(result: Result, model: str) -> str:
    [line] = [line for line in result.stdout.splitlines() if line.startswith(f"{model} ")]
    return line


# without a relay, a backend, an account or a file


def test_without_anything_the_packaged_list_is_shown(tmp_path: Path) -> None:
    command = ModelsCommand(folder=tmp_path)
    result = command.run(configured=False)
    assert result.exit_code == 0, result.output
    told = " ".join(row(result, "gpt-5.5").split())
    assert told == "gpt-5.5 low medium* high xhigh 272k - packaged"
    assert "500k (max 872k)" in row(result, "gpt-6.1-terra")
    assert "to be had by name: gpt-daybreak-blue-latest" in result.stdout
    assert "The list is the packaged one. `codexrelay models --refresh` asks" in result.stdout
    facts = command.json()
    assert facts["source"] == "packaged"
    assert [m["slug"] for m in get_list(facts, "models") if is_object(m)] == [
        model["slug"] for model in packaged()
    ]


def test_the_json_says_what_the_table_says_and_more(tmp_path: Path) -> None:
    command = ModelsCommand(folder=tmp_path, names={"aliases": {"mine": "GPT-5.5-high"}})
    command.file.save([listing("plus", "gpt-5.5", "gpt-new", age_s=90)])
    told = command.json()
    assert told["source"] == "cache"
    assert told["lists"] == [
        {
            "plan": "plus",
            "models": 2,
            "source": "cache",
            "fetched_at": "2026-11-22T12:18:30+00:00",
            "age_s": 90,
            "etag": 'W/"x"',
            "client_version": "0.169.0",
        }
    ]
    [model] = [m for m in get_list(told, "models") if is_object(m) and m["slug"] == "gpt-new"]
    assert (model["plans"], model["source"], model["age_s"]) == (["plus", "pro"], "cache", 90)
    [alias] = get_list(told, "aliases")
    assert is_object(alias)
    assert (alias["alias"], alias["model"], alias["reasoning_effort"]) == (
        "mine",
        "gpt-5.5",
        "high",
    )
    assert alias["problem"] is None
    assert told["cache"] == str(command.file.path)


def test_what_an_earlier_run_has_learnt_is_shown_with_its_age(tmp_path: Path) -> None:
    command = ModelsCommand(folder=tmp_path)
    command.file.save([listing("plus", "gpt-new", age_s=600), listing(None, "gpt-other")])
    result = command.run()
    assert "cache, 10 min ago" in row(result, "gpt-new")
    assert "cache, now" in row(result, "gpt-other")
    assert "The list of plan plus is the backend's, had 10 min ago." in result.stdout
    assert "gpt-6.1-sol" not in result.stdout


def test_aliases_are_shown_with_what_they_mean_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    names: JsonObject = {"aliases": {"mine": "gpt-5.5?reasoning_effort=high", "none": "gpt-0"}}
    result = ModelsCommand(folder=tmp_path, names=names).run()
    assert "mine  means gpt-5.5?reasoning_effort=high" in result.stdout
    assert "none  means gpt-0  (the list has no model 'gpt-0')" in result.stdout


def test_an_alias_that_can_reach_nothing_is_told_as_such_and_not_listed(tmp_path: Path) -> None:
    aliases: JsonObject = {"mine": "gpt-5.5", "loop": "Loop"}
    command = ModelsCommand(folder=tmp_path, names={"aliases": aliases})
    result = command.run()
    assert "mine  means gpt-5.5" in result.stdout
    assert "loop" not in result.stdout
    assert (
        "warning: models.aliases: 'loop' means nothing that can be reached: 'Loop' is no model but "
        "an alias, and an alias cannot mean another one"
    ) in result.stderr
    told = command.json()
    assert [a["alias"] for a in get_list(told, "aliases") if is_object(a)] == ["mine"]
    assert [a["alias"] for a in get_list(told, "broken_aliases") if is_object(a)] == ["loop"]


def test_a_list_of_the_owners_is_shown_and_named(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_bytes(dump({"models": [{"slug": "mine"}]}))
    command = ModelsCommand(folder=tmp_path, catalog={"fallback_path": str(own)})
    result = command.run()
    assert row(result, "mine").split() == ["mine", "-", "-", "-", "file"]
    assert f"The list is in {own}." in result.stdout


def test_files_that_cannot_be_used_are_told_once_each_and_another_list_is_shown(
    tmp_path: Path,
) -> None:
    command = ModelsCommand(folder=tmp_path, catalog={"fallback_path": str(tmp_path / "none")})
    command.file.folder.mkdir()
    command.file.path.write_bytes(b"{")
    result = command.run()
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if "api_base_url" not in line]
    assert len(warnings) == 2
    assert f"{tmp_path / 'none'}: file: does not exist; the packaged list" in result.stderr
    assert f"{command.file.path}: file: is no JSON object" in result.stderr
    assert row(result, "gpt-5.5")


def test_a_configuration_that_cannot_be_used_is_told_as_by_the_other_commands(
    tmp_path: Path,
) -> None:
    result = ModelsCommand(folder=tmp_path, names={"strict": "perhaps"}).run()
    assert result.exit_code == 2
    assert "models.strict" in result.stderr
    assert result.stdout == ""


def test_names_of_others_cannot_steer_the_terminal(tmp_path: Path) -> None:
    command = ModelsCommand(folder=tmp_path)
    command.file.save([listing("\x1b[2Jplus", "gpt-\x1b[31mred")])
    assert "\x1b" not in command.run().output


@pytest.mark.parametrize("columns", ["20", "30", "40", "50", "60", "80", "200"])
def test_the_table_keeps_whole_names_and_words_at_any_width(tmp_path: Path, columns: str) -> None:
    whole = ModelsCommand(folder=tmp_path).run(environ={"COLUMNS": "200"})
    result = ModelsCommand(folder=tmp_path).run(environ={"COLUMNS": columns})
    for model in packaged():
        assert str(model["slug"]) in result.stdout
    table = result.stdout.partition("\n\n")[0]
    assert max(map(len, table.splitlines())) <= int(columns)
    assert set(table.split()) <= set(whole.stdout.split()), "no word is broken"


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [("12", "EFFORTS, CONTEXT, PLANS"), ("20", "CONTEXT, PLANS"), ("40", "PLANS"), ("80", None)],
)
def test_columns_that_do_not_fit_are_named(
    tmp_path: Path, columns: str, left_out: str | None
) -> None:
    command = ModelsCommand(folder=tmp_path)
    plans: list[Json] = [f"a_plan_with_a_long_name_{n}" for n in range(2)]
    entries: list[JsonObject] = [
        {
            "slug": "gpt-5.5",
            "available_in_plans": plans,
            "context_window": 500_000,
            "max_context_window": 872_000,
            "supported_reasoning_levels": [{"effort": "medium"}, {"effort": "high"}],
        }
    ]
    kept = attrs.evolve(listing("plus", "gpt-5.5"), models=tuple(entries))
    command.file.save([kept])
    told = command.run(environ={"COLUMNS": columns}).stdout
    line = f"There is no room for: {left_out}."
    assert (line in told) if left_out else ("no room" not in told)


# asking the backend


async def test_the_backend_is_asked_with_an_account_of_each_plan_and_the_answer_is_kept(
    tmp_path: Path,
) -> None:
    accounts = (SimulatedAccount("a", plan="free"), SimulatedAccount("b", plan="pro"))
    async with world(tmp_path, *accounts) as command:
        before = command.run()
        assert "The list is the packaged one" in before.stdout
        result = await command.beside("--refresh")
        assert result.exit_code == 0, result.output
        assert "free, pro" in row(result, "gpt-5.5")
        assert " pro " in row(result, "gpt-6-sol")
        assert "free" not in row(result, "gpt-6-sol")
        assert "backend, now" in row(result, "gpt-6-sol")
        assert command.simulator is not None
        asked = sorted(str(seen.account) for seen in command.simulator.seen)
        assert asked == ["a", "b"]
        assert {each.plan for each in command.file.load()} == {"free", "pro"}
        command.clock.now_unix_s += 3600
        later = command.run()
        assert "cache, 1 h ago" in row(later, "gpt-5.5")
        assert {m.slug for m in MODELS if not m.hidden} <= set(later.stdout.split())
        printed = result.output + later.output
        assert [s for s in secrets_in(command.simulator) if s in printed] == []


async def test_what_is_known_is_asked_for_again_and_what_is_new_is_told_to_be(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as command:
        command.file.save([listing("plus", "gone")])
        command.clock.now_unix_s += 5
        result = await command.beside("--refresh")
        assert "gone" not in result.stdout
        assert "backend, now" in row(result, "gpt-5.5")


async def test_a_plan_that_gave_no_list_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    accounts = (SimulatedAccount("a", plan="free"), SimulatedAccount("b", plan="pro"))
    async with world(tmp_path, *accounts) as command:
        assert command.simulator is not None
        command.simulator.revoke("b")
        result = await command.beside("--refresh")
        assert result.exit_code == 0
        assert "warning: the backend gave no list of plan pro: " in result.stderr
        assert "codexrelay accounts update b" in result.stderr
        assert "Not asked for: plan pro" in result.stdout


async def test_a_backend_that_gives_nothing_is_a_failure_and_what_is_known_is_shown(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as command:
        command.file.save([listing("plus", "gpt-kept", age_s=60)])
        assert command.simulator is not None
        command.simulator.revoke("work")
        result = await command.beside("--refresh")
        assert result.exit_code == 1
        assert row(result, "gpt-kept")
        assert "codexrelay: the backend gave no list of plan plus: " in result.stderr


def test_without_an_account_it_says_what_to_do(tmp_path: Path) -> None:
    result = ModelsCommand(folder=tmp_path).run("--refresh")
    assert result.exit_code == 1
    assert "codexrelay accounts add" in result.stderr
    assert row(result, "gpt-5.5")


def test_where_discovery_is_off_it_says_which_key_to_change(tmp_path: Path) -> None:
    result = ModelsCommand(folder=tmp_path, catalog={"discovery_enabled": False}).run("--refresh")
    assert result.exit_code == 1
    assert "model_catalog.discovery_enabled" in result.stderr


# Backends of other kinds


_ROUTES: Final[JsonObject] = {
    "aliases": {"fast": "local:qwen3"},
    "routes": {"coder": ["local:qwen3", "gpt-5.5"]},
}


def other(url: str, *models: str) -> JsonObject:
    return {"type": "openai", "api_base_url": url, "models": [*models]}


def test_models_of_other_backends_aliases_and_routes_are_listed_without_asking(
    tmp_path: Path,
) -> None:
    command = ModelsCommand(
        folder=tmp_path,
        names=_ROUTES,
        others={
            "local": other("http://me:hunter2@127.0.0.1:9/v1", "qwen3", "b"),
            "hub": other(_DEAD),
        },
    )
    lines = command.run().stdout.splitlines()
    assert "fast  means local:qwen3" in lines
    assert "coder  tries local:qwen3, then gpt-5.5" in lines
    start = lines.index("Backend local, http://…@127.0.0.1:9/v1:")
    assert lines[start + 1 : start + 6] == [
        "  local:qwen3",
        "  local:b",
        "",
        f"Backend hub, {_DEAD}:",
        "  its models are not known; `codexrelay models --refresh` asks the backend",
    ]


def test_models_of_other_backends_are_told_to_programs(tmp_path: Path) -> None:
    others = {"local": other("http://me:hunter2@127.0.0.1:9/v1", "qwen3"), "hub": other(_DEAD)}
    told = ModelsCommand(folder=tmp_path, names=_ROUTES, others=others).json()
    assert told["routes"] == [{"route": "coder", "means": ["local:qwen3", "gpt-5.5"]}]
    assert told["backends"] == [
        {
            "backend": "local",
            "api_base_url": "http://…@127.0.0.1:9/v1",
            "models": ["qwen3"],
            "source": "configuration",
        },
        {"backend": "hub", "api_base_url": _DEAD, "models": None, "source": None},
    ]
    assert told["default_backend"] == "openai-codex"
    [alias] = get_list(told, "aliases")
    assert is_object(alias)
    assert (alias["model"], alias["instance"], alias["problem"]) == ("qwen3", "local", None)


async def test_refresh_asks_other_backends_whose_models_nobody_has_named(tmp_path: Path) -> None:
    api, silent = OpenAISimulator(models=("qwen3",)), OpenAISimulator()
    async with world(tmp_path) as command, trio.open_nursery() as nursery:
        for one in (api, silent):
            await nursery.start(one.serve)
        command.environ = {"LOCAL_KEY": str(api.key)}
        command.others = {
            "local": {**other(api.api_base_url), "api_key_env": "LOCAL_KEY"},
            "silent": other(silent.api_base_url),
            "named": other(api.api_base_url, "mine"),
        }
        lines = (await command.beside("--refresh")).stdout.splitlines()
        nursery.cancel_scope.cancel()
    assert {"  local:qwen3", "  named:mine"} <= {*lines}
    assert "  named:qwen3" not in lines
    refused = lines[lines.index(f"Backend silent, {silent.api_base_url}:") + 1]
    assert refused == "  it was asked for its models and gave none; backends.*.models can name them"
