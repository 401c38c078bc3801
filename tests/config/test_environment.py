"""The environment as a source."""

from __future__ import annotations

import pytest

from codexrelay.config import load
from codexrelay.config.environment import read
from codexrelay.config.keys import KEYS, SECTIONS, VARIABLES
from codexrelay.errors import ConfigError

MANAGED = "OPENAI_CODEX_MANAGED_OAUTH_"


def value_of(variable: str, text: str) -> object:
    """Return what the settings hold once the variable says `text`."""
    settings: object = load(config_path=None, environ={variable: text}, flags={}).settings
    for part in VARIABLES[variable]:
        settings = getattr(settings, part)
    return settings


def problem_of(variable: str, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config_path=None, environ={variable: text}, flags={})
    return str(caught.value)


def test_every_variable_is_a_key_or_a_section_that_exists() -> None:
    assert all(path in KEYS or path in SECTIONS for path in VARIABLES.values())


_CODEX = "backends.openai_codex.extra.codex"


def test_the_variables_have_the_names_that_are_documented() -> None:
    managed = {
        f"{MANAGED}{name.upper()}": f"{_CODEX}.managed_oauth.{name}"
        for name in (
            "enabled",
            "storage_path",
            "accounts",
            "selection_strategy",
            "refresh_buffer_seconds",
            "session_affinity_ttl_seconds",
            "session_affinity_max_entries",
            "max_concurrent_turns",
            "rate_limit_local_cooldown_cap_seconds",
            "max_rate_limit_wait_seconds",
            "allow_legacy_fallback",
        )
    }
    quota = f"{_CODEX}.managed_oauth.quota_remaining"
    assert {variable: ".".join(path) for variable, path in VARIABLES.items()} == managed | {
        "ENABLE_CONTEXT_COMPACTION": "compaction.enabled",
        "COMPACTION_MIN_TOKENS": "compaction.token_threshold",
        "ENABLE_DYNAMIC_COMPRESSION": "dynamic_compression.enabled",
        "DYNAMIC_COMPRESSION_LEVEL": "dynamic_compression.level",
        "DYNAMIC_COMPRESSION_MIN_BYTES": "dynamic_compression.min_bytes",
        "DYNAMIC_COMPRESSION_DISABLE_TOOLS": "dynamic_compression.disable_tools",
        "DYNAMIC_COMPRESSION_DISABLE_CATEGORIES": "dynamic_compression.disable_categories",
        "OPENAI_API_BASE_URL": "backends.openai_codex.api_base_url",
        "OPENAI_CODEX_PATH": "backends.openai_codex.auth_path",
        "OPENAI_CODEX_WEBSOCKET": "backends.openai_codex.websocket",
        "CODEX_CA_CERTIFICATE": "backends.openai_codex.ca_file",
        "OPENAI_CODEX_QUOTA_REMAINING_ALERTS_ENABLED": f"{quota}_alerts_enabled",
        "OPENAI_CODEX_QUOTA_REMAINING_THRESHOLDS": f"{quota}_alert_thresholds_percent",
        "OPENAI_CODEX_DEFAULT_CAPABILITIES": f"{_CODEX}.default_capabilities",
        "OPENAI_CODEX_AGENT_CAPABILITIES": f"{_CODEX}.agent_capabilities",
        "OPENAI_CODEX_PROMPT_TEMPLATE": f"{_CODEX}.prompt.template",
        "OPENAI_CODEX_PROMPT_PREPEND": f"{_CODEX}.prompt.prepend",
        "OPENAI_CODEX_PROMPT_APPEND": f"{_CODEX}.prompt.append",
        "OPENAI_CODEX_PROMPT_DEDUPLICATE": f"{_CODEX}.prompt.deduplicate",
        "OPENAI_CODEX_PROMPT_FALLBACK_DEFAULT": f"{_CODEX}.prompt.fallback_to_default",
        "OPENAI_CODEX_TOOL_SCHEMA_BASE": f"{_CODEX}.tool_schema.base_tools",
        "OPENAI_CODEX_TOOL_SCHEMA_CUSTOM": f"{_CODEX}.tool_schema.custom_tools",
        "OPENAI_CODEX_RENDERER_DEFAULT": f"{_CODEX}.renderer.default",
        "OPENAI_CODEX_MODEL_CATALOG_DISCOVERY_ENABLED": f"{_CODEX}.model_catalog.discovery_enabled",
        "OPENAI_CODEX_MODEL_CATALOG_FALLBACK_PATH": f"{_CODEX}.model_catalog.fallback_path",
        "OPENAI_CODEX_MODEL_CATALOG_DISCOVERY_TIMEOUT_SECONDS": (
            f"{_CODEX}.model_catalog.discovery_timeout_seconds"
        ),
    }


@pytest.mark.parametrize("text", ["1", "true", "yes", "on", "TRUE", "Yes", " on "])
def test_words_that_mean_true(text: str) -> None:
    assert value_of(f"{MANAGED}ENABLED", text) is True


@pytest.mark.parametrize("text", ["0", "false", "no", "off", "FALSE", "No", " off "])
def test_words_that_mean_false(text: str) -> None:
    assert value_of(f"{MANAGED}ALLOW_LEGACY_FALLBACK", text) is False


@pytest.mark.parametrize("text", ["", "2", "t", "enabled", "null", "truee"])
def test_any_other_word_is_no_boolean(text: str) -> None:
    problem = problem_of(f"{MANAGED}ENABLED", text)
    assert problem.startswith(f"{MANAGED}ENABLED: must be true, yes, on, false, no or off, not ")


@pytest.mark.parametrize(
    ("text", "accounts"),
    [
        ("all", "all"),
        ("work", ("work",)),
        ("work,home", ("work", "home")),
        (" work , home ", ("work", "home")),
        ('["work", "home"]', ("work", "home")),
        (' ["all"]', "all"),
        ("1,2", ("1", "2")),
    ],
)
def test_a_list_is_a_json_array_or_separated_by_commas(
    text: str, accounts: str | tuple[str, ...]
) -> None:
    assert value_of(f"{MANAGED}ACCOUNTS", text) == accounts


@pytest.mark.parametrize("text", ["", ",", "work,", '["work"', "[1]", '["work", ""]', "[[]]", "[]"])
def test_what_is_no_list_of_ids_is_a_problem_that_names_the_variable(text: str) -> None:
    assert problem_of(f"{MANAGED}ACCOUNTS", text).startswith(f"{MANAGED}ACCOUNTS: ")


def test_a_number_is_text_in_the_environment() -> None:
    assert value_of(f"{MANAGED}REFRESH_BUFFER_SECONDS", "60") == 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60s", "must be a whole number, not the text '60s'"),
        ("1.5", "must be a whole number, not the text '1.5'"),
        ("", "must be a whole number, not an empty text"),
        ("-1", "must be >= 0, not the number -1"),
    ],
)
def test_what_is_no_number_is_a_problem_that_names_the_variable(text: str, message: str) -> None:
    variable = f"{MANAGED}REFRESH_BUFFER_SECONDS"
    assert problem_of(variable, text) == f"{variable}: {message}"


def test_an_unknown_strategy_is_a_problem_that_lists_the_known_ones() -> None:
    variable = f"{MANAGED}SELECTION_STRATEGY"
    assert value_of(variable, "round-robin") == "round-robin"
    assert value_of(variable, "session-affinity") == "session-affinity"
    assert problem_of(variable, "best") == (
        f"{variable}: must be one of round-robin, random, first-available, session-affinity, "
        "not the text 'best'"
    )


def test_every_key_of_managed_accounts_has_a_variable() -> None:
    managed = ("backends", "openai_codex", "extra", "codex", "managed_oauth")
    keys = {path for path in KEYS if path[:-1] == managed}
    assert len(keys) > 10
    assert keys <= set(VARIABLES.values())


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("SESSION_AFFINITY_TTL_SECONDS", "60", 60),
        ("SESSION_AFFINITY_MAX_ENTRIES", "5", 5),
        ("MAX_CONCURRENT_TURNS", "2", 2),
        ("MAX_CONCURRENT_TURNS", "null", None),
        ("RATE_LIMIT_LOCAL_COOLDOWN_CAP_SECONDS", "0.5", 0.5),
        ("MAX_RATE_LIMIT_WAIT_SECONDS", "20", 20.0),
    ],
)
def test_the_variables_of_selection_and_limits(variable: str, text: str, value: object) -> None:
    assert value_of(f"{MANAGED}{variable}", text) == value


TOOL = {"type": "function", "name": "look"}


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("QUOTA_REMAINING_ALERTS_ENABLED", "off", False),
        ("QUOTA_REMAINING_THRESHOLDS", "5, 20.5,5", (20.5, 5.0)),
        ("QUOTA_REMAINING_THRESHOLDS", "[10, 50]", (50.0, 10.0)),
        ("PROMPT_TEMPLATE", "Be brief.\nBe kind.", "Be brief.\nBe kind."),
        ("PROMPT_PREPEND", "one, two", ("one, two",)),
        ("PROMPT_APPEND", '["one, two", "three"]', ("one, two", "three")),
        ("PROMPT_TEMPLATE", " Null ", None),
        ("MANAGED_OAUTH_ACCOUNTS", " ALL ", "all"),
        ("PROMPT_DEDUPLICATE", "no", False),
        ("PROMPT_FALLBACK_DEFAULT", "no", False),
        ("TOOL_SCHEMA_BASE", '[{"type": "function", "name": "look"}]', (TOOL,)),
        ("TOOL_SCHEMA_BASE", "null", None),
        ("TOOL_SCHEMA_CUSTOM", "[]", ()),
        ("RENDERER_DEFAULT", "xml", "xml"),
        ("MODEL_CATALOG_DISCOVERY_ENABLED", "0", False),
        ("MODEL_CATALOG_DISCOVERY_TIMEOUT_SECONDS", "3", 3.0),
    ],
)
def test_the_variables_of_prompts_tools_and_models(variable: str, text: str, value: object) -> None:
    assert value_of(f"OPENAI_CODEX_{variable}", text) == value


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("QUOTA_REMAINING_THRESHOLDS", "0", "must be numbers above 0 and below 100, not "),
        ("QUOTA_REMAINING_THRESHOLDS", "25, 100", "must be numbers above 0 and below 100, not "),
        ("QUOTA_REMAINING_THRESHOLDS", "few", "must be a list (each item: a number), not "),
        ("TOOL_SCHEMA_CUSTOM", "look, see", "must be a list (each item: a JSON object), not "),
        ("TOOL_SCHEMA_CUSTOM", '[{"type": "function"}]', "tool 1 has no name"),
        ("PROMPT_APPEND", "[sic] be brief", "begins as a JSON array and is no valid JSON (char"),
        ("PROMPT_APPEND", " [1]", "must be a list (each item: non-empty text) or non-empty text"),
        ("MANAGED_OAUTH_ACCOUNTS", '["a",', "begins as a JSON array and is no valid JSON"),
        ("TOOL_SCHEMA_CUSTOM", '[{"a": 1, "a": 1}]', "begins as a JSON array and has a key twice"),
        ("TOOL_SCHEMA_CUSTOM", "[" * 5000, "begins as a JSON array and is nested too deeply"),
        ("TOOL_SCHEMA_CUSTOM", "[" * 200 + "]" * 200, "begins as a JSON array and is nested too"),
        ("TOOL_SCHEMA_CUSTOM", "[NaN]", "begins as a JSON array and holds NaN"),
        ("PROMPT_APPEND", '["\\ud83d"]', "holds half of a character"),
        ("DEFAULT_CAPABILITIES", '{"a": 1, "a": 2}', "begins as a JSON object and has a key twice"),
        ("DEFAULT_CAPABILITIES", "prompt_mode=x", "must be a JSON object, not the text 'prompt_mo"),
        ("AGENT_CAPABILITIES", "[]", "must be a JSON object, not the text '[]'"),
        ("RENDERER_DEFAULT", "html", "must be one of none, xml, markdown, summary, not the text"),
    ],
)
def test_what_a_variable_does_not_take_is_a_problem_that_names_it(
    variable: str, text: str, message: str
) -> None:
    assert problem_of(f"OPENAI_CODEX_{variable}", text).startswith(
        f"OPENAI_CODEX_{variable}: {message}"
    )


def test_a_name_inside_a_variable_that_is_half_a_character_is_a_problem() -> None:
    problem = problem_of("OPENAI_CODEX_AGENT_CAPABILITIES", '{"\\ud800": {}}')
    assert "has a key that holds half of a character" in problem
    problem.encode()


def test_a_message_does_not_repeat_a_long_text() -> None:
    assert len(problem_of("OPENAI_CODEX_TOOL_SCHEMA_BASE", "long " * 1000)) < 300


def test_a_variable_of_other_programs_that_is_empty_is_not_set() -> None:
    loaded = load(config_path=None, environ={"CODEX_CA_CERTIFICATE": ""}, flags={})
    assert loaded.settings.backends.openai_codex.ca_file is None


def test_the_variable_for_other_certificates_is_left_to_the_system() -> None:
    loaded = load(config_path=None, environ={"SSL_CERT_FILE": "/usual.pem"}, flags={})
    assert loaded.settings.backends.openai_codex.ca_file is None


def test_the_base_url_moves_the_codex_backend() -> None:
    assert value_of("OPENAI_API_BASE_URL", "http://127.0.0.1:1/x") == "http://127.0.0.1:1/x"


def test_an_unknown_variable_with_our_prefix_is_a_warning_and_others_are_none_of_ours() -> None:
    environ = {
        "OPENAI_CODEX_MANAGED_OAUTH_ENABLE": "1",
        "OPENAI_CODEX_": "1",
        "OPENAI_API_KEY": "x",
        "CODEX_HOME": "/x",
        "PATH": "/bin",
    }
    loaded = load(config_path=None, environ=environ, flags={})
    assert [str(warning) for warning in loaded.warnings] == [
        "OPENAI_CODEX_: no such setting, ignored; did you mean OPENAI_CODEX_PATH?",
        "OPENAI_CODEX_MANAGED_OAUTH_ENABLE: no such setting, ignored; "
        "did you mean OPENAI_CODEX_MANAGED_OAUTH_ENABLED?",
    ]


def test_an_environment_without_our_variables_says_nothing() -> None:
    assert read({"PATH": "/bin"}).found == ()
