"""Keys that other relays have and this one refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from codexrelay.config import load
from codexrelay.config.dropped import DROPPED, VARIABLES, why_dropped
from codexrelay.config.keys import KEYS
from codexrelay.config.keys import VARIABLES as OURS
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

EXTRA = "backends.openai_codex.extra"
CODEX = f"{EXTRA}.codex"
#: Every key that is documented elsewhere and not honoured here -> a word of the reason.
DOCUMENTED = {
    f"{EXTRA}.temperature": "refuses",
    f"{EXTRA}.top_p": "refuses",
    f"{EXTRA}.top_k": "refuses",
    f"{EXTRA}.forced_reasoning_effort": "models.aliases",
    f"{EXTRA}.forced_verbosity": "models.aliases",
    f"{EXTRA}.connector_forced_params.verbosity": "models.aliases",
    f"{CODEX}.managed_oauth.max_rate_limit_idle_polls": "max_rate_limit_wait_seconds",
    f"{CODEX}.default_capabilities.fallback_tool_text_format": "renderer.default",
    f"{CODEX}.agent_capabilities.droid.fallback_tool_text_format": "renderer.default",
    f"{CODEX}.renderer.fallback": "renderer.default",
    f"{CODEX}.renderer.aliases": "one name each",
    f"{CODEX}.renderer.modules": "no code is loaded",
    f"{CODEX}.streaming.max_retries": "budgets.turn_s",
    f"{CODEX}.streaming.retry_backoff_seconds": "budgets.turn_s",
    f"{CODEX}.websocket.enabled": "backends.openai_codex.websocket",
    f"{CODEX}.websocket.beta_mode": "auto, on or off",
    f"{CODEX}.model_catalog.codex_binary_path": "no other program",
    **{
        f"{CODEX}.gpt55_unsupported_free_plan_downgrade.{name}": "models.aliases"
        for name in (
            "enabled",
            "proactive_enabled",
            "reactive_enabled",
            "source_model",
            "target_model",
            "free_plan_types",
        )
    },
    f"{CODEX}.early_session_verbosity_bump.enabled": "extra.verbosity",
    f"{CODEX}.early_session_verbosity_bump.max_turns": "extra.verbosity",
    f"{CODEX}.compatibility_layer.enabled": "profiles.adaptations",
    f"{CODEX}.compatibility_layer.detection.cache_ttl_seconds": "profiles.adaptations",
    f"{CODEX}.compatibility_layer.translation.result_format": "profiles.adaptations",
    f"{CODEX}.compatibility_layer.telemetry.emit_metrics": "profiles.adaptations",
    "backends.<name>.api_key": "api_key_env",
    "compaction.alerts.window_seconds": "log",
    "compaction.max_stubs_per_resource": "one stub",
    "compaction.min_tool_output_tokens_to_compact": "compaction.min_tool_output_tokens",
    "dynamic_compression.max_level": "write level",
    "dynamic_compression.time_budget_ms_per_output": "dynamic_compression.time_budget_ms",
    "dynamic_compression.disable_methods": "disable_tools",
    "dynamic_compression.disable_tool_name_substrings": "disable_tools",
    "dynamic_compression.disable_command_prefixes": "disable_tools",
    "dynamic_compression.explicit_format_flags": "disable_tools",
    "dynamic_compression.per_output_evaluation_log_level": "in the log",
    "dynamic_compression.marker.style": "dynamic_compression.markers",
    "dynamic_compression.recovery.mode": "kept nowhere",
    "dynamic_compression.alerts.enabled": "in the log",
    "dynamic_compression.noise_directories": "dynamic_compression.level",
    "dynamic_compression.search_context_lines": "dynamic_compression.level",
    "dynamic_compression.file_detail_mode": "file_read",
    "dynamic_compression.diff_max_total_lines": "dynamic_compression.level",
    "dynamic_compression.json_structural_max_depth": "dynamic_compression.level",
    "dynamic_compression.xml_safeguard_min_bytes": "dynamic_compression.level",
    "dynamic_compression.log_dedupe_min_repeat": "dynamic_compression.level",
    "dynamic_compression.rules": "no rules",
    "dynamic_compression.output_pattern_rules": "no rules",
    "dynamic_compression.declarative_rules": "no rules",
    "dynamic_compression.declarative_rule_files": "no rules",
    "session.session_continuity.enabled": "`sessions`",
    "session.b2bua.enabled": "`sessions`",
    "responses_api.websocket.frontend_enabled": "without any setting",
    "model_defaults.openai-codex:gpt-5.5.limits.context_window": "codexrelay models",
    "usage_window_warmup.enabled": "no client has asked",
    "usage_window_warmup.entries": "no client has asked",
    "logging.capture_file": "not captured in this version",
    "logging.cbor_capture_dir": "not captured in this version",
    "backends.openai_codex_v2": "openai_codex.2",
}


def problems_of(path: Path, tree: object) -> list[str]:
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        load(config_path=path, environ={}, flags={})
    return [str(problem) for problem in caught.value.problems]


def nested(parts: list[str], value: object) -> object:
    for part in reversed(parts):
        value = {part: value}
        if part == "local":
            value[part] |= {"type": "openai", "api_base_url": "http://127.0.0.1:1/v1"}
    return value


def parts_of(name: str) -> list[str]:
    before, model, behind = name.partition("openai-codex:gpt-5.5")
    return [*before.strip(".").split("."), *([model] if model else []), *behind.split(".")[1:]]


@pytest.mark.parametrize("value", [1, "x", [1], None], ids=str)
@pytest.mark.parametrize(("name", "reason"), DOCUMENTED.items())
def test_a_dropped_key_is_a_problem_that_says_why_and_not_that_it_is_unknown(
    tmp_path: Path, name: str, reason: str, value: object
) -> None:
    name = name.replace("<name>", "local")
    (problem,) = problems_of(tmp_path / "c.yaml", nested(parts_of(name), value))
    assert problem.startswith(f"{name} ({tmp_path / 'c.yaml'}:")
    assert ": not supported: " in problem
    assert reason in problem
    assert "unknown key" not in problem


def test_the_table_of_dropped_keys_is_walked_as_a_whole() -> None:
    told = {why_dropped(name) for name in DOCUMENTED}
    assert None not in told
    assert told == set(DROPPED.values())


def test_nothing_is_dropped_that_is_a_key() -> None:
    assert [key.name for key in KEYS.values() if why_dropped(key.name)] == []
    assert VARIABLES.keys().isdisjoint(OURS)


def test_a_dropped_key_is_told_in_a_further_block_too(tmp_path: Path) -> None:
    tree = {"backends": {"OpenAI-Codex.2": {"extra": {"temperature": 1}}}}
    (problem,) = problems_of(tmp_path / "c.yaml", tree)
    assert problem.startswith("backends.openai_codex.2.extra.temperature (")


@pytest.mark.parametrize("name", ["openai-codex-v2", "OPENAI_CODEX_V2"])
def test_the_other_backend_is_one_problem_however_it_is_written(tmp_path: Path, name: str) -> None:
    tree = {"backends": {name: {"timeout": 1, "extra": {"temperature": 1}}}}
    (problem,) = problems_of(tmp_path / "c.yaml", tree)
    assert "write openai_codex" in problem


def test_each_key_of_a_dropped_section_is_named_and_an_empty_section_itself(
    tmp_path: Path,
) -> None:
    tree = {
        "compaction": {"alerts": {"enabled": True, "window_seconds": 1}, "enabled": True},
        "session": {},
    }
    told = problems_of(tmp_path / "c.yaml", tree)
    assert [problem.partition(" (")[0] for problem in told] == [
        "compaction.alerts.enabled",
        "compaction.alerts.window_seconds",
        "session",
    ]


def test_a_dropped_section_may_be_endless(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("session: &a {a: *a}")
    with pytest.raises(ConfigError, match="not supported"):
        load(config_path=path, environ={}, flags={})


def test_a_dropped_capability_is_told_in_a_variable_too() -> None:
    variable = "OPENAI_CODEX_DEFAULT_CAPABILITIES"
    with pytest.raises(ConfigError) as caught:
        load(config_path=None, environ={variable: '{"fallback_tool_text_format": "x"}'}, flags={})
    assert f"fallback_tool_text_format ({variable}): not supported: " in str(caught.value)


@pytest.mark.parametrize("variable", [*VARIABLES, "SESSION_B2BUA_ECHO_ENABLED"])
def test_a_variable_of_a_dropped_key_is_a_warning_that_says_why(variable: str) -> None:
    variable = variable.replace("*", "ENABLED")
    (warning,) = load(config_path=None, environ={variable: "1"}, flags={}).warnings
    assert str(warning).startswith(f"{variable}: ignored, not supported: ")
    assert str(warning).partition("supported: ")[2] in DROPPED.values()
