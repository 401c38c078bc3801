"""Several instances of the backend: blocks beside the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import yaml

from codexrelay.config import load
from codexrelay.config.keys import FIRST_BLOCK, KEYS
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.accounts.settings import ManagedOAuthSettings
    from codexrelay.backends.codex.settings import CodexBackendSettings
    from codexrelay.config import Settings

FIRST: Final = "backends.openai_codex"
SECOND: Final = "backends.openai_codex.2"
IN_MANAGED: Final = "extra.codex.managed_oauth"
IN_CAPABILITIES: Final = "extra.codex.default_capabilities"
HOME: Final = {"HOME": str(Path("/home-of-nobody").absolute())}


@attrs.frozen
class File:
    """A configuration file of `backends`, each block given as its keys by path inside it."""

    path: Path

    def load(
        self,
        blocks: Mapping[str, Mapping[str, object]],
        *,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Settings:
        return load(
            config_path=self._written(blocks),
            environ={**HOME, **(environ or {})},
            flags=flags or {},
        ).settings

    def problems(self, blocks: Mapping[str, Mapping[str, object]]) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(blocks)
        return str(caught.value).replace(str(self.path.parent), "").split("\n")

    def warnings(
        self,
        blocks: Mapping[str, Mapping[str, object]],
        *,
        flags: Mapping[str, object] | None = None,
    ) -> list[str]:
        loaded = load(config_path=self._written(blocks), environ=HOME, flags=flags or {})
        return [str(warning).replace(str(self.path.parent), "") for warning in loaded.warnings]

    def _written(self, blocks: Mapping[str, Mapping[str, object]]) -> Path:
        tree = {name: _nested(keys) for name, keys in blocks.items()}
        self.path.write_text(yaml.safe_dump({"backends": tree}, sort_keys=False))
        return self.path


def _nested(keys: Mapping[str, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for path, value in keys.items():
        *sections, last = path.split(".")
        at = tree
        for section in sections:
            inside = at.setdefault(section, {})
            assert isinstance(inside, dict)
            at = inside
        at[last] = value
    return tree


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "c.yaml")


def second(settings: Settings) -> CodexBackendSettings:
    ((_, _), (name, codex)) = settings.backends.family
    assert name == "openai-codex.2"
    return codex


def managed(codex: CodexBackendSettings) -> ManagedOAuthSettings:
    return codex.extra.codex.managed_oauth


def test_without_further_blocks_the_family_is_the_first_one_alone(file: File) -> None:
    backends = file.load({}).backends
    assert backends.family == (("openai-codex", backends.openai_codex),)


@pytest.mark.parametrize("name", ["openai_codex.2", "openai-codex.2", "OPENAI_Codex.2"])
def test_the_name_of_an_instance_is_the_same_in_any_case_and_with_dashes(
    file: File, name: str
) -> None:
    assert second(file.load({name: {"timeout": 7}})).timeout == 7.0


def test_the_family_stands_in_order_of_numbers_whatever_the_order_in_the_file(file: File) -> None:
    backends = file.load({f"openai_codex.{number}": {} for number in (10, 2, 3)}).backends
    names = [name for name, _ in backends.family]
    assert names == ["openai-codex", "openai-codex.2", "openai-codex.3", "openai-codex.10"]


def test_an_empty_block_is_the_first_one_with_a_store_of_its_own(file: File) -> None:
    settings = file.load(
        {
            "openai_codex.2": {},
            "openai_codex": {
                "timeout": 3,
                "weight": 5,
                "auth_path": "codex",
                "budgets.connect_s": 4,
                f"{IN_MANAGED}.storage_path": "store",
                f"{IN_MANAGED}.accounts": ["work"],
                f"{IN_MANAGED}.selection_strategy": "random",
            },
        }
    )
    first = settings.backends.openai_codex
    own = {
        "storage_path": str(file.path.parent / "store.2"),
        "accounts": "all",
        "allow_legacy_fallback": False,
    }
    expected = attrs.evolve(
        first,
        weight=1,
        auth_path=None,
        extra=attrs.evolve(
            first.extra,
            codex=attrs.evolve(
                first.extra.codex, managed_oauth=attrs.evolve(managed(first), **own)
            ),
        ),
    )
    assert second(settings) == expected
    assert (first.timeout, managed(first).selection_strategy) == (3.0, "random")


def test_every_key_of_a_further_block_can_be_given_and_leaves_the_first_one_alone(
    file: File,
) -> None:
    given: dict[str, object] = {
        "type": "openai-codex",
        "api_base_url": "http://127.0.0.1:1/x",
        "timeout": 1.5,
        "auth_path": "/codex",
        "transport": "httpx",
        "proxy": "none",
        "ca_file": __file__,
        "websocket": "on",
        "identity": "relay",
        "weight": 0,
        "budgets.connect_s": 2.5,
        "budgets.headers_s": 3.5,
        "budgets.first_event_s": 4.5,
        "budgets.silence_s": 5.5,
        "budgets.turn_s": 6.5,
        "extra.reasoning_effort": "low",
        "extra.verbosity": "high",
        "extra.codex.oauth_issuer": "http://127.0.0.1:2",
        f"{IN_MANAGED}.enabled": False,
        f"{IN_MANAGED}.storage_path": "/store",
        f"{IN_MANAGED}.accounts": ["work"],
        f"{IN_MANAGED}.selection_strategy": "first-available",
        f"{IN_MANAGED}.refresh_buffer_seconds": 7,
        f"{IN_MANAGED}.session_affinity_ttl_seconds": 8,
        f"{IN_MANAGED}.session_affinity_max_entries": 9,
        f"{IN_MANAGED}.max_concurrent_turns": 10,
        f"{IN_MANAGED}.rate_limit_local_cooldown_cap_seconds": 11,
        f"{IN_MANAGED}.max_rate_limit_wait_seconds": 12,
        f"{IN_MANAGED}.allow_legacy_fallback": True,
        f"{IN_MANAGED}.quota_remaining_alerts_enabled": False,
        f"{IN_MANAGED}.quota_remaining_alert_thresholds_percent": [50.0],
        f"{IN_CAPABILITIES}.protocol": "openai-chat",
        f"{IN_CAPABILITIES}.codex_passthrough": True,
        f"{IN_CAPABILITIES}.prompt_mode": "custom_only",
        f"{IN_CAPABILITIES}.tool_schema_mode": "merge_custom",
        f"{IN_CAPABILITIES}.tool_text_format": "summary",
        f"{IN_CAPABILITIES}.bypass_tool_call_reactor": False,
        f"{IN_CAPABILITIES}.include_environment_context": True,
        "extra.codex.agent_capabilities": {"droid": {"protocol": "openai-chat"}},
        "extra.codex.prompt.template": "Be brief.",
        "extra.codex.prompt.prepend": ["a"],
        "extra.codex.prompt.append": ["b"],
        "extra.codex.prompt.deduplicate": False,
        "extra.codex.prompt.fallback_to_default": False,
        "extra.codex.tool_schema.base_tools": [{"type": "web_search"}],
        "extra.codex.tool_schema.custom_tools": [{"type": "function", "name": "look"}],
        "extra.codex.renderer.default": "xml",
        "extra.codex.tool_call_reactors": [],
        "extra.codex.model_catalog.discovery_enabled": False,
        "extra.codex.model_catalog.fallback_path": "/models",
        "extra.codex.model_catalog.discovery_timeout_seconds": 13,
    }
    assert list(given) == [
        ".".join(path[2:]) for path in KEYS if path[: len(FIRST_BLOCK)] == FIRST_BLOCK
    ]
    settings = file.load({"openai_codex.2": given})
    folders = {text: str(Path(text).absolute()) for text in ("/codex", "/store", "/models")}
    for name, value in given.items():
        at: object = second(settings)
        for part in name.split("."):
            at = getattr(at, part)
        expected = folders.get(value, value) if isinstance(value, str) else value
        assert at == (tuple(expected) if isinstance(expected, list) else expected), name
    assert settings.backends.openai_codex == file.load({}).backends.openai_codex


def test_what_is_not_given_follows_the_first_block_wherever_that_has_it_from(file: File) -> None:
    settings = file.load(
        {"openai_codex": {"timeout": 1}, "openai_codex.2": {}},
        environ={"OPENAI_API_BASE_URL": "http://127.0.0.1:1/x"},
        flags={f"{FIRST}.timeout": 2, f"{FIRST}.{IN_MANAGED}.storage_path": "/flag"},
    )
    assert second(settings).timeout == 2.0
    assert second(settings).api_base_url == "http://127.0.0.1:1/x"
    assert managed(second(settings)).storage_path == str(Path("/flag.2").absolute())


def test_what_is_given_stands_against_flags_and_variables_of_the_first_block(file: File) -> None:
    settings = file.load(
        {"openai_codex.2": {"timeout": 1, "api_base_url": "http://127.0.0.1:2/y"}},
        environ={"OPENAI_API_BASE_URL": "http://127.0.0.1:1/x"},
        flags={f"{FIRST}.timeout": 2},
    )
    assert (second(settings).timeout, second(settings).api_base_url) == (
        1.0,
        "http://127.0.0.1:2/y",
    )


def test_a_folder_in_a_further_block_counts_from_the_file(file: File) -> None:
    settings = file.load({"openai_codex.2": {f"{IN_MANAGED}.storage_path": "store"}})
    assert managed(second(settings)).storage_path == str(file.path.parent / "store")


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, False),
        ({"auth_path": "codex"}, True),
        ({"auth_path": None}, False),
        ({"auth_path": "codex", f"{IN_MANAGED}.allow_legacy_fallback": False}, False),
    ],
)
def test_auth_json_is_read_by_a_further_block_that_names_its_folder(
    file: File, given: dict[str, object], allowed: object
) -> None:
    codex = second(file.load({"openai_codex.2": given}))
    assert managed(codex).allow_legacy_fallback is allowed


# Mistakes


@pytest.mark.parametrize(
    "name",
    [
        "openai_codex.0",
        "openai_codex.1",
        "openai_codex.02",
        "openai_codex.x",
        "openai_codex.",
        "2",
        "a/b",
        "a:b",
        "ä",
    ],
)
def test_a_block_of_another_name_is_a_problem_that_says_which_there_can_be(
    file: File, name: str
) -> None:
    (problem,) = file.problems({name: {"type": "openai", "timeout": 1}})
    assert problem == (
        f"backends.{name} (/c.yaml:2): no backend is called so: instances of openai_codex are "
        "called openai_codex.2, openai_codex.3 and so on, and the names of others are letters, "
        "digits, `.`, `_` and `-`, beginning with a letter"
    )


@pytest.mark.parametrize("inside", ["openai_codex", "openai_codex.3"])
def test_an_instance_written_inside_a_block_is_told_where_it_belongs(
    file: File, inside: str
) -> None:
    file.path.write_text(f"backends:\n  {inside}:\n    2: {{}}\n")
    with pytest.raises(ConfigError) as caught:
        load(config_path=file.path, environ={}, flags={})
    assert str(caught.value).endswith(
        "c.yaml:3): unknown key; an instance is a block of its own: write openai_codex.2"
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"timeout": 0}, f"{SECOND}.timeout (/c.yaml:3): must be > 0, not the number 0"),
        ({"weight": -1}, f"{SECOND}.weight (/c.yaml:3): must be >= 0, not the number -1"),
        (
            {"timout": 1},
            f"{SECOND}.timout (/c.yaml:3): unknown key; did you mean {SECOND}.timeout?",
        ),
        (
            {"storage_path": "x"},
            f"{SECOND}.storage_path (/c.yaml:3): unknown key; "
            f"did you mean {SECOND}.{IN_MANAGED}.storage_path?",
        ),
        (
            {"log_level": "info"},
            f"{SECOND}.log_level (/c.yaml:3): unknown key; did you mean server.log_level?",
        ),
        (
            {"budgets": None},
            f"{SECOND}.budgets (/c.yaml:3): must be a mapping of keys, not null",
        ),
        (
            {f"{IN_MANAGED}.accounts": []},
            f"{SECOND}.{IN_MANAGED}.accounts (/c.yaml:6): "
            "an empty list allows no account: list ids, or say all",
        ),
    ],
)
def test_a_mistake_in_a_further_block_is_named_with_its_instance(
    file: File, keys: dict[str, object], problem: str
) -> None:
    assert file.problems({"openai_codex.2": keys}) == [problem]


def test_an_instance_that_stands_twice_is_a_problem(file: File) -> None:
    assert file.problems({"openai_codex.2": {}, "OPENAI-CODEX.2": {}}) == [
        f"{SECOND} (/c.yaml:3): stands here twice, first on line 2"
    ]


def test_a_rule_is_silent_while_a_key_it_reads_is_faulty_in_any_block(file: File) -> None:
    (problem,) = file.problems({"openai_codex": {"weight": 0}, "openai_codex.2": {"weight": -1}})
    assert problem.startswith(f"{SECOND}.weight ")


# Rules between blocks


def test_one_instance_with_a_weight_is_enough(file: File) -> None:
    file.load({"openai_codex": {"weight": 0}, "openai_codex.2": {}})
    (problem,) = file.problems({"openai_codex": {"weight": 0}, "openai_codex.2": {"weight": 0}})
    assert problem == (
        f"{FIRST}.weight (/c.yaml:3): "
        "no instance takes turns that name none: give one a weight above 0"
    )


def store(folder: Path | str, accounts: object = "all") -> dict[str, object]:
    return {f"{IN_MANAGED}.storage_path": str(folder), f"{IN_MANAGED}.accounts": accounts}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("all", "all"),
        ("all", ["work"]),
        (["work"], "all"),
        (["work", "home"], ["home", "spare"]),
    ],
)
def test_two_instances_over_the_same_accounts_stop_the_start(
    file: File, one: object, other: object
) -> None:
    (problem,) = file.problems(
        {"openai_codex": store("store", one), "openai_codex.2": store("./x/../store", other)}
    )
    assert problem.startswith(f"{SECOND}.{IN_MANAGED}.storage_path (/c.yaml:")
    assert problem.endswith(
        f"is the store of {FIRST} too, and no account may serve both: "
        "name another folder, or give each a list of accounts of its own"
    )


def test_a_link_to_the_store_of_another_instance_is_that_store(file: File) -> None:
    folder = file.path.parent / "store"
    folder.mkdir()
    try:
        (file.path.parent / "link").symlink_to(folder)
    except OSError:  # Windows lets few users do so
        pytest.skip("no links here")
    (problem,) = file.problems(
        {"openai_codex.2": store("link"), "openai_codex.3": store("store"), "openai_codex": {}}
    )
    assert problem.startswith("backends.openai_codex.3.")
    assert f"is the store of {SECOND} too" in problem


def test_instances_with_accounts_of_their_own_may_share_a_folder(file: File) -> None:
    settings = file.load(
        {"openai_codex": store("store", ["a"]), "openai_codex.2": store("store", ["b"])}
    )
    assert managed(second(settings)).accounts == ("b",)


def test_a_store_that_an_instance_does_not_use_is_nobodys(file: File) -> None:
    unused = store("store") | {f"{IN_MANAGED}.enabled": False, "auth_path": "codex"}
    file.load({"openai_codex": store("store"), "openai_codex.2": unused})


@pytest.mark.parametrize("folder", ["/home-of-nobody/.codex", "codex"])
def test_two_instances_over_one_auth_json_stop_the_start(file: File, folder: str) -> None:
    (problem,) = file.problems(
        {"openai_codex": {"auth_path": "codex"}, "openai_codex.2": {"auth_path": folder}}
    )
    assert problem.startswith(f"{SECOND}.auth_path (/c.yaml:5): the auth.json in ")
    assert problem.endswith(
        f" may be used by {FIRST} too, and no account may serve both: "
        "name another folder, or set allow_legacy_fallback to false there"
    )


def test_an_auth_json_that_the_first_instance_leaves_alone_is_free(file: File) -> None:
    file.load(
        {
            "openai_codex": {f"{IN_MANAGED}.allow_legacy_fallback": False},
            "openai_codex.2": {"auth_path": "/home-of-nobody/.codex"},
        }
    )


@pytest.mark.parametrize("key", ["allow_legacy_fallback", "enabled"])
def test_an_instance_that_needs_an_auth_json_must_say_where(file: File, key: str) -> None:
    (problem,) = file.problems({"openai_codex.2": {f"{IN_MANAGED}.{key}": key != "enabled"}})
    assert problem == (
        f"{SECOND}.auth_path: needed, since {SECOND} may use Codex CLI's auth.json, and only that "
        f"of {FIRST} is looked for elsewhere"
    )


def test_a_foreign_origin_is_warned_of_once_for_each_block_that_names_one(file: File) -> None:
    here = "http://127.0.0.1:1"
    flags = {f"{FIRST}.extra.codex.oauth_issuer": here}
    assert file.warnings(
        {"openai_codex.2": {"api_base_url": here}, "openai_codex.3": {}}, flags=flags
    ) == [
        f"{SECOND}.api_base_url (/c.yaml:3): access tokens go to {here}, not to "
        "https://chatgpt.com",
        f"--oauth-issuer: refresh tokens go to {here}, not to https://auth.openai.com",
    ]
