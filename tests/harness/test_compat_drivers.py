"""What each driver says about its program; nothing is installed or started."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from codexrelay.cli.accounts.world import World
from codexrelay.cli.client_config import ANY_KEY, client_config
from harness.compat.drivers import all_drivers
from harness.compat.drivers.codex_cli import CLIENT_ACCOUNT_ID, LOGIN
from harness.compat.drivers.driver import (
    Driver,
    NpmProgram,
    Order,
    Variant,
    with_parameters,
)
from harness.compat.install import NotInstalledError, find
from harness.compat.scenarios import SCENARIOS, Ending
from harness.compat.verdict import CLIENT_KEY, CLIENT_SECRETS

EVERY_VARIANT = [
    pytest.param(driver, variant, id=variant.name)
    for driver in all_drivers()
    for variant in driver.variants
]
PROMPT = next(scenario for scenario in SCENARIOS if scenario.name == "tool").prompt
RELAY_URL = "http://127.0.0.1:40000"


def order_for(variant: Variant) -> Order:
    return Order(
        variant=variant,
        relay_url=RELAY_URL,
        home=Path("/nowhere/home"),
        client_key=CLIENT_KEY,
        prompt=PROMPT,
    )


def driver_of(name: str) -> tuple[Driver, Variant]:
    return next(
        (driver, variant)
        for driver in all_drivers()
        for variant in driver.variants
        if variant.name == name
    )


def everything_told(driver: Driver, order: Order) -> str:
    told = (*driver.files(order).values(), *driver.arguments(order))
    return "\n".join((*told, *driver.environment(order).values()))


@pytest.mark.parametrize(("driver", "variant"), EVERY_VARIANT)
def test_a_program_is_told_the_relay_the_model_the_key_and_the_prompt(
    driver: Driver, variant: Variant
) -> None:
    told = everything_told(driver, order_for(variant))
    assert f"{RELAY_URL}/v1" in told
    assert variant.model in told
    assert CLIENT_KEY in told
    assert driver.arguments(order_for(variant))[-1] == PROMPT


@pytest.mark.parametrize(("driver", "variant"), EVERY_VARIANT)
def test_configuration_stays_inside_the_home(driver: Driver, variant: Variant) -> None:
    for name in driver.files(order_for(variant)):
        assert not Path(name).is_absolute()
        assert ".." not in Path(name).parts


@pytest.mark.parametrize(("driver", "variant"), EVERY_VARIANT)
def test_configuration_can_be_parsed(driver: Driver, variant: Variant) -> None:
    for name, content in driver.files(order_for(variant)).items():
        {"json": json.loads, "toml": tomllib.loads, "py": ast.parse}[name.rpartition(".")[2]](
            content
        )


#: Driver -> what `client-config` calls its program.
PRINTED = {
    "codex": "codex",
    "codex-ws": "codex",
    "droid": "droid",
    "opencode": "opencode",
    "pi": "pi",
    "sdk": "openai",
}


@pytest.mark.parametrize(
    ("driver", "variant"),
    [param for param in EVERY_VARIANT if param.id != LOGIN],
)
def test_a_program_is_run_with_the_very_block_that_people_are_given(
    driver: Driver, variant: Variant, tmp_path: Path
) -> None:
    # Over chat the key stands in the block; else the block names the variable.
    by_variable = variant.protocol != "chat"
    config = tmp_path / "config.yaml"
    keys = ["a-key-of-the-relay"] if by_variable else []
    config.write_text(json.dumps({"server": {"client_keys": keys}}), "utf-8")
    words = [PRINTED[driver.name], "--protocol", variant.protocol, "--url", RELAY_URL]
    result = CliRunner().invoke(
        client_config,
        [*words, "--model", variant.model, "--config", str(config)],
        obj=World(environ={}),
    )
    assert result.exit_code == 0, result.output
    block = result.stdout.replace(f'"{ANY_KEY}"', f'"{CLIENT_KEY}"')
    if not variant.websocket:  # this one line less
        block = block.replace("supports_websockets = true\n", "")
    assert block in driver.files(order_for(variant)).values()
    assert by_variable == ("CODEXRELAY_API_KEY" in block)
    assert driver.environment(order_for(variant))["CODEXRELAY_API_KEY"] == CLIENT_KEY


def test_the_names_of_drivers_and_variants_are_unique() -> None:
    names = [driver.name for driver in all_drivers()]
    rows = [variant.name for driver in all_drivers() for variant in driver.variants]
    assert len(set(names)) == len(names)
    assert len(set(rows)) == len(rows)


def test_every_program_is_run_in_each_protocol_it_speaks() -> None:
    spoken = {
        driver.name: {variant.protocol for variant in driver.variants} for driver in all_drivers()
    }
    both = {"chat", "responses"}
    assert spoken == {
        "opencode": both,
        "droid": both,
        "codex": {"responses"},
        "codex-ws": {"responses"},
        "pi": both,
        "sdk": both,
    }


def test_npm_programs_are_pinned() -> None:
    pins = {
        driver.name: driver.program.version
        for driver in all_drivers()
        if isinstance(driver.program, NpmProgram)
    }
    codex = {"codex": "0.169.0", "codex-ws": "0.169.0"}
    assert pins == {"opencode": "1.18.33", "droid": "0.225.2", **codex, "pi": "0.73.1"}


def test_a_codex_login_is_kept_and_only_the_model_traffic_goes_to_the_relay() -> None:
    driver, variant = driver_of("codex-login")
    files = driver.files(order_for(variant))
    config = tomllib.loads(files["codex/config.toml"])
    assert config["openai_base_url"] == f"{RELAY_URL}/v1"
    assert not config["chatgpt_base_url"].startswith(RELAY_URL)
    assert "model_provider" not in config
    tokens = json.loads(files["codex/auth.json"])["tokens"]
    assert tokens["account_id"] == CLIENT_ACCOUNT_ID
    assert CLIENT_KEY in tokens["access_token"]
    assert CLIENT_ACCOUNT_ID in CLIENT_SECRETS


#: Beside what a block has by itself, as a person would change it.
ASKED = {"codex_passthrough": False, "tool_schema_mode": "merge_custom"}
AS_TEXT = "codex_passthrough=false, tool_schema_mode=merge_custom"


@pytest.mark.parametrize(("driver", "variant"), EVERY_VARIANT)
def test_what_is_asked_of_the_relay_stands_in_the_programs_own_configuration(
    driver: Driver, variant: Variant
) -> None:
    plain = order_for(variant)
    order = attrs.evolve(plain, capabilities=ASKED)
    files = driver.files(order)
    before = driver.files(plain)
    (changed,) = [name for name in files if files[name] != before[name]]
    content = files[changed]
    if variant.name == LOGIN:
        model = tomllib.loads(content)["model"]
        assert model == f"{variant.model}?{AS_TEXT.replace(', ', '&')}"
    elif changed.endswith(".py"):
        assert f'"codex_capabilities": {json.dumps(ASKED).replace("false", "False")}' in content
    else:
        told = {"json": json.loads, "toml": tomllib.loads}[changed.rpartition(".")[2]](content)
        in_place = json.dumps(told)
        assert f'"codex_capabilities": {json.dumps(ASKED)}' in in_place or AS_TEXT in in_place
    assert driver.arguments(order) == driver.arguments(plain)
    assert driver.environment(order) == driver.environment(plain)


@pytest.mark.parametrize(
    ("model", "parameters", "named"),
    [
        ("gpt-5.5", {}, "gpt-5.5"),
        ("gpt-5.5", {"reasoning_effort": "low"}, "gpt-5.5?reasoning_effort=low"),
        (
            "gpt-5.5?verbosity=low",
            {"codex_passthrough": False},
            "gpt-5.5?verbosity=low&codex_passthrough=false",
        ),
    ],
    ids=["none", "the first", "another one"],
)
def test_parameters_stand_behind_a_models_name(
    model: str, parameters: dict[str, str | bool], named: str
) -> None:
    assert with_parameters(model, parameters) == named


def test_codex_without_a_login_has_no_auth_file() -> None:
    driver, variant = driver_of("codex")
    assert list(driver.files(order_for(variant))) == ["codex/config.toml"]


def test_droid_is_not_given_a_gpt_like_name_over_chat() -> None:
    _, variant = driver_of("droid-chat")
    assert "gpt" not in variant.model


def test_an_exception_in_the_table_names_a_row_that_exists() -> None:
    rows = {variant.name for driver in all_drivers() for variant in driver.variants}
    assert {name for scenario in SCENARIOS for name in scenario.but} <= rows
    assert {name for scenario in SCENARIOS for name in scenario.rows or ()} <= rows


def test_only_what_comes_before_the_output_is_repaired_unseen() -> None:
    repaired = [scenario.name for scenario in SCENARIOS if scenario.repair is not None]
    assert repaired == ["500", "overload", "exhausted", "revoked", "refreshed"]
    assert all(scenario.ending is Ending.ANSWERED for scenario in SCENARIOS if scenario.repair)


@pytest.mark.parametrize("name", ["opencode-chat", "pi-chat"])
def test_a_program_with_further_models_has_all_of_them_in_one_provider(name: str) -> None:
    driver, variant = next(
        (driver, variant)
        for driver in all_drivers()
        for variant in driver.variants
        if variant.name == name
    )
    order = attrs.evolve(order_for(variant), further_models=("local:one", "local:two"))
    (config,) = map(json.loads, driver.files(order).values())
    (provider,) = (config.get("provider") or config["providers"]).values()
    models = [one if isinstance(one, str) else one["id"] for one in provider["models"]]
    assert models == [variant.model, "local:one", "local:two"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("opencode", ("run", "-c")), ("pi", ("-p", "-c")), ("codex", ("exec", "resume", "--last"))],
)
def test_a_program_goes_on_with_its_latest_conversation(name: str, words: tuple[str, ...]) -> None:
    driver = next(driver for driver in all_drivers() if driver.name == name)
    order = order_for(driver.variants[0])
    again = " ".join(driver.arguments(attrs.evolve(order, goes_on=True)))
    assert " ".join(words) in again
    assert " ".join(words) not in " ".join(driver.arguments(order))


def test_a_row_over_websockets_is_the_same_program_with_one_more_line() -> None:
    _, plain = driver_of("codex")
    driver, over = driver_of("codex-ws")
    config = tomllib.loads(driver.files(order_for(over))["codex/config.toml"])
    provider = config["model_providers"]["codexrelay"]
    assert provider.pop("supports_websockets") is True
    assert config == tomllib.loads(driver.files(order_for(plain))["codex/config.toml"])
    assert [(variant.websocket, variant.speaks_to_codex) for variant in driver.variants] == [
        (True, True),
        (True, False),
        (False, True),
    ]


def test_a_program_of_two_drivers_is_installed_once(tmp_path: Path) -> None:
    asked: list[Path] = []

    def npm(_spec: str, folder: Path) -> None:
        asked.append(folder)
        raise NotInstalledError("not here")

    for name in ("codex", "codex-ws"):
        with pytest.raises(NotInstalledError):
            find(driver_of(name)[0], folder=tmp_path, npm=npm, tries=1)
    assert asked == [tmp_path / "codex-0.169.0"] * 2
