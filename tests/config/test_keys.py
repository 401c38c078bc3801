"""What the table of keys knows of each one."""

from __future__ import annotations

import pytest

from codexrelay.config.keys import KEYS, key_named
from codexrelay.config.settings import Settings

CODEX = "backends.openai_codex.extra.codex"
MANAGED = f"{CODEX}.managed_oauth"
#: What a running relay takes over: whole sections end in `.`.
RELOADABLE = (
    "models.",
    "compaction.",
    "dynamic_compression.",
    "default_backend",
    "sessions.max_sessions",
    "sessions.idle_seconds",
    "sessions.keep_days",
    "profiles.",
    "server.client_keys",
    "server.allowed_hosts",
    "server.max_body_bytes",
    "server.keep_alive_s",
    "server.drain_grace_s",
    "server.log_level",
    "backends.openai_codex.timeout",
    "backends.openai_codex.budgets.",
    "backends.openai_codex.websocket",
    "backends.openai_codex.identity",
    "backends.openai_codex.weight",
    "backends.openai_codex.extra.reasoning_effort",
    "backends.openai_codex.extra.verbosity",
    f"{CODEX}.default_capabilities.",
    f"{CODEX}.agent_capabilities",
    f"{CODEX}.prompt.",
    f"{CODEX}.tool_schema.",
    f"{CODEX}.renderer.",
    f"{CODEX}.tool_call_reactors",
    f"{MANAGED}.accounts",
    f"{MANAGED}.selection_strategy",
    f"{MANAGED}.refresh_buffer_seconds",
    f"{MANAGED}.session_affinity_ttl_seconds",
    f"{MANAGED}.session_affinity_max_entries",
    f"{MANAGED}.max_concurrent_turns",
    f"{MANAGED}.rate_limit_local_cooldown_cap_seconds",
    f"{MANAGED}.max_rate_limit_wait_seconds",
    f"{MANAGED}.quota_remaining_alerts_enabled",
    f"{MANAGED}.quota_remaining_alert_thresholds_percent",
)


def test_these_keys_can_change_while_the_relay_runs_and_no_others() -> None:
    live = [key.name for key in KEYS.values() if key.about.live]
    assert live == [
        key.name
        for key in KEYS.values()
        if any(
            key.name.startswith(name) if name.endswith(".") else key.name == name
            for name in RELOADABLE
        )
    ]
    assert {"server.port", "sessions.state_path"}.isdisjoint(live)


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_every_key_says_what_it_means_and_its_default_is_a_value_of_it(key: object) -> None:
    assert key.about.meaning.endswith((".", "log"))
    assert key.about.meaning in key.help
    assert key.name in key.help
    assert key.is_mapping or key.check(key.default) == key.default


def test_the_settings_classes_have_the_defaults_that_the_keys_have() -> None:
    for key in KEYS.values():
        value: object = Settings()
        for part in key.path:
            value = getattr(value, part)
        assert value == key.default, key.name


def test_no_two_settings_share_a_mapping() -> None:
    one, other = Settings(), Settings()
    assert one.models.aliases is not other.models.aliases


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("server.host", "text"),
        ("server.port", "whole number >= 0 <= 65535"),
        ("server.client_keys", "list of texts"),
        ("sessions.state_path", "folder"),
        ("models.aliases", "mapping"),
        ("models.routes", "mapping"),
        ("dynamic_compression.disable_tools", "list of texts"),
        (
            "compaction.denied_tool_categories",
            "list; each one of file_read, file_write, view_file, command_execution, search, "
            "list_directory, test_execution, other",
        ),
        ("models.strict", "true or false"),
        ("backends.openai_codex.ca_file", "file or null"),
        ("backends.openai_codex.budgets.silence_s", "number > 0 or null"),
        (f"{MANAGED}.accounts", "all or list of texts"),
        (f"{MANAGED}.quota_remaining_alert_thresholds_percent", "list of numbers"),
        (f"{CODEX}.prompt.append", "list of texts or text"),
        (f"{CODEX}.tool_schema.base_tools", "list of JSON objects or null"),
        (f"{CODEX}.renderer.default", "one of none, xml, markdown, summary"),
    ],
)
def test_what_a_key_takes_is_said_in_few_words(name: str, takes: str) -> None:
    assert key_named(name).takes == takes
