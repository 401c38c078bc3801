"""The environment as a source."""

from __future__ import annotations

import pytest

from codexrelay.config import load
from codexrelay.config.environment import VARIABLES, read
from codexrelay.config.keys import KEYS, key_named
from codexrelay.errors import ConfigError

MANAGED = "OPENAI_CODEX_MANAGED_OAUTH_"


def value_of(variable: str, text: str) -> object:
    """Return what the settings hold once the variable says `text`."""
    settings: object = load(config_path=None, environ={variable: text}, flags={}).settings
    for part in VARIABLES[variable].split("."):
        settings = getattr(settings, part)
    return settings


def problem_of(variable: str, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config_path=None, environ={variable: text}, flags={})
    return str(caught.value)


def test_every_variable_is_a_key_that_exists() -> None:
    assert [key_named(name).name for name in VARIABLES.values()] == list(VARIABLES.values())


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
        (' ["all"]', ("all",)),
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
    managed = "backends.openai_codex.extra.codex.managed_oauth."
    keys = [key.name for key in KEYS.values() if key.name.startswith(managed)]
    assert {VARIABLES[f"{MANAGED}{key.rpartition('.')[2].upper()}"]: key for key in keys} == {
        key: key for key in keys
    }


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
