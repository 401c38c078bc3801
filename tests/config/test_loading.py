"""`load` as a command sees it: precedence, strictness, messages."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.config import Loaded, Settings, load
from codexrelay.config.keys import KEYS, OTHER_KEYS, key_named
from codexrelay.config.rules import PROBLEM_RULES, START_RULES, WARNING_RULES
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

BACKEND = "backends.openai_codex"
CODEX = f"{BACKEND}.extra.codex"
MANAGED = f"{CODEX}.managed_oauth"
CAPABILITIES = f"{CODEX}.default_capabilities"
LOOK = {"type": "function", "name": "look"}
PI = {"pi": {"protocol": "openai-chat"}}
TIMEOUT = f"{BACKEND}.timeout"
BUFFER = f"{MANAGED}.refresh_buffer_seconds"
BUFFER_VARIABLE = "OPENAI_CODEX_MANAGED_OAUTH_REFRESH_BUFFER_SECONDS"


@attrs.frozen
class Sources:
    """The three sources, with a folder for the file."""

    folder: Path

    def load(
        self,
        yaml: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Loaded:
        config_path = None
        if yaml is not None:
            config_path = self.folder / "config.yaml"
            config_path.write_text(yaml, encoding="utf-8")
        return load(config_path=config_path, environ=environ or {}, flags=flags or {})

    def problems(
        self,
        yaml: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> list[str]:
        """Return the problems, one text each, with the file's folder left out."""
        with pytest.raises(ConfigError) as caught:
            self.load(yaml, environ=environ, flags=flags)
        assert len(str(caught.value).splitlines()) == len(caught.value.problems)
        return (
            str(caught.value).replace(f"{self.folder / 'config.yaml'}", "config.yaml").split("\n")
        )


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def value_at(at: object, name: str) -> object:
    for part in name.split("."):
        at = getattr(at, part)
    return at


def in_managed(text: str) -> str:
    return f"backends: {{openai_codex: {{extra: {{codex: {{managed_oauth: {{{text}}}}}}}}}}}"


# Precedence

SOME_VALUES: list[tuple[str, str, object]] = [
    ("server.host", "localhost", "localhost"),
    ("server.port", "0", 0),
    ("server.drain_grace_s", "0.5", 0.5),
    ("server.keep_alive_s", "20", 20.0),
    ("server.max_body_bytes", "1024", 1024),
    ("server.client_keys", "[a-key-of-some-length]", ("a-key-of-some-length",)),
    ("server.allowed_hosts", "[relay.test, other.test]", ("relay.test", "other.test")),
    ("server.log_level", "debug", "debug"),
    ("sessions.state_path", "/c", str(Path("/c").absolute())),
    ("sessions.max_sessions", "7", 7),
    ("sessions.idle_seconds", "60", 60.0),
    ("sessions.keep_days", "0.5", 0.5),
    ("models.aliases", "{fast: gpt-5.5}", {"fast": "gpt-5.5"}),
    ("models.routes", "{main: [gpt-5.5, gpt-5.4]}", {"main": ("gpt-5.5", "gpt-5.4")}),
    ("models.strict", "yes", True),
    ("profiles.adaptations", "[opencode.shell_as_bash]", ("opencode.shell_as_bash",)),
    ("compaction.enabled", "on", True),
    ("compaction.token_threshold", "0", 0),
    ("compaction.max_tokens", "9", 9),
    ("compaction.min_tool_output_tokens", "3", 3),
    ("compaction.allowed_tool_categories", "[search, other]", ("search", "other")),
    ("compaction.denied_tool_categories", "[file_read]", ("file_read",)),
    ("compaction.preserve_last_n_results", "2", 2),
    ("compaction.stub_template", "'{resource}, {size}'", "{resource}, {size}"),
    ("compaction.redact_resource_identifiers", "true", True),
    ("dynamic_compression.enabled", "true", True),
    ("dynamic_compression.level", "balanced", "balanced"),
    ("dynamic_compression.min_bytes", "0", 0),
    ("dynamic_compression.time_budget_ms", "5", 5.0),
    ("dynamic_compression.disable_tools", "[bash]", ("bash",)),
    ("dynamic_compression.disable_categories", "[]", ()),
    ("dynamic_compression.markers", "false", False),
    ("default_backend", "OpenAI_Codex", "openai-codex"),
    (f"{BACKEND}.type", "openai-codex", "openai-codex"),
    (f"{BACKEND}.api_base_url", "http://127.0.0.1:1/x", "http://127.0.0.1:1/x"),
    (TIMEOUT, "7", 7.0),
    (f"{BACKEND}.auth_path", "/a", str(Path("/a").absolute())),
    (f"{BACKEND}.transport", "httpx", "httpx"),
    (f"{BACKEND}.proxy", "http://proxy.test:3128", "http://proxy.test:3128"),
    (f"{BACKEND}.ca_file", f"'{__file__}'", __file__),
    (f"{BACKEND}.websocket", "off", "off"),
    (f"{BACKEND}.identity", "client", "client"),
    (f"{BACKEND}.weight", "3", 3),
    (f"{BACKEND}.budgets.connect_s", "1", 1.0),
    (f"{BACKEND}.budgets.headers_s", "2", 2.0),
    (f"{BACKEND}.budgets.first_event_s", "3", 3.0),
    (f"{BACKEND}.budgets.silence_s", "4", 4.0),
    (f"{BACKEND}.budgets.turn_s", "5", 5.0),
    (f"{BACKEND}.extra.reasoning_effort", "none", "none"),
    (f"{BACKEND}.extra.verbosity", "low", "low"),
    (f"{BACKEND}.extra.codex.oauth_issuer", "http://127.0.0.1:1", "http://127.0.0.1:1"),
    (f"{MANAGED}.enabled", "off", False),
    (f"{MANAGED}.storage_path", "/b", str(Path("/b").absolute())),
    (f"{MANAGED}.accounts", "[work, home]", ("work", "home")),
    (f"{MANAGED}.selection_strategy", "session-affinity", "session-affinity"),
    (BUFFER, "60", 60),
    (f"{MANAGED}.session_affinity_ttl_seconds", "3600", 3600),
    (f"{MANAGED}.session_affinity_max_entries", "0", 0),
    (f"{MANAGED}.max_concurrent_turns", "4", 4),
    (f"{MANAGED}.rate_limit_local_cooldown_cap_seconds", "0", 0.0),
    (f"{MANAGED}.max_rate_limit_wait_seconds", "20", 20.0),
    (f"{MANAGED}.allow_legacy_fallback", "no", False),
    (f"{MANAGED}.quota_remaining_alerts_enabled", "no", False),
    (f"{MANAGED}.quota_remaining_alert_thresholds_percent", "[5, 90, 5]", (90.0, 5.0)),
    (f"{CAPABILITIES}.protocol", "openai-responses", "openai-responses"),
    (f"{CAPABILITIES}.codex_passthrough", "off", False),
    (f"{CAPABILITIES}.prompt_mode", "merge_custom", "merge_custom"),
    (f"{CAPABILITIES}.tool_schema_mode", "codex_default", "codex_default"),
    (f"{CAPABILITIES}.tool_text_format", "codex_xml", "xml"),
    (f"{CAPABILITIES}.bypass_tool_call_reactor", "false", False),
    (f"{CAPABILITIES}.include_environment_context", "true", True),
    (f"{CODEX}.agent_capabilities", "{pi: {protocol: openai-chat}}", PI),
    (f"{CODEX}.prompt.template", "Be brief.", "Be brief."),
    (f"{CODEX}.prompt.prepend", "one, two", ("one, two",)),
    (f"{CODEX}.prompt.append", "[one, two]", ("one", "two")),
    (f"{CODEX}.prompt.deduplicate", "no", False),
    (f"{CODEX}.prompt.fallback_to_default", "no", False),
    (f"{CODEX}.tool_schema.base_tools", "[{type: web_search}]", ({"type": "web_search"},)),
    (f"{CODEX}.tool_schema.custom_tools", "[{type: function, name: look}]", (LOOK,)),
    (f"{CODEX}.renderer.default", "xml", "xml"),
    (f"{CODEX}.tool_call_reactors", "[]", ()),
    (f"{CODEX}.model_catalog.discovery_enabled", "no", False),
    (f"{CODEX}.model_catalog.fallback_path", "/d", str(Path("/d").absolute())),
    (f"{CODEX}.model_catalog.discovery_timeout_seconds", "3", 3.0),
]


def test_the_table_of_values_has_every_key() -> None:
    assert [name for name, _, _ in SOME_VALUES] == [key.name for key in KEYS.values()]


@pytest.mark.parametrize(("name", "text", "value"), SOME_VALUES, ids=lambda value: str(value)[:40])
def test_every_key_can_be_set_in_the_file_and_by_a_flag(
    sources: Sources, name: str, text: str, value: object
) -> None:
    *sections, last = name.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    yaml = "\n".join([*lines, f"{'  ' * len(sections)}{last}: {text}"])
    assert value_at(sources.load(yaml).settings, name) == value
    assert value_at(sources.load(flags={name: value}).settings, name) == value


def test_no_source_at_all_gives_the_defaults_with_folders_made_absolute(sources: Sources) -> None:
    loaded = sources.load()
    folders = {
        f"{MANAGED}.storage_path": "openai_codex_oauth_accounts",
        "sessions.state_path": "codexrelay_state",
    }
    for name, folder in folders.items():
        assert value_at(loaded.settings, name) == str(Path.cwd() / "var" / folder)
    others = [key for key in KEYS.values() if key.name not in folders]
    default = Settings()
    assert [value_at(loaded.settings, key.name) for key in others] == [
        value_at(default, key.name) for key in others
    ]
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), 300),
        (("file",), 1),
        (("environment",), 2),
        (("flag",), 3),
        (("file", "environment"), 2),
        (("file", "flag"), 3),
        (("environment", "flag"), 3),
        (("file", "environment", "flag"), 3),
    ],
    ids=str,
)
def test_a_flag_beats_the_environment_and_the_environment_beats_the_file(
    sources: Sources, given: tuple[str, ...], expected: int
) -> None:
    yaml = in_managed("refresh_buffer_seconds: 1")
    loaded = sources.load(
        yaml if "file" in given else None,
        environ={BUFFER_VARIABLE: "2"} if "environment" in given else {},
        flags={BUFFER: 3 if "flag" in given else None},
    )
    assert value_at(loaded.settings, BUFFER) == expected


def test_a_list_replaces_the_list_of_a_weaker_source(sources: Sources) -> None:
    loaded = sources.load(
        "server: {allowed_hosts: [a.test, b.test]}", flags={"server.allowed_hosts": ("c.test",)}
    )
    assert loaded.settings.server.allowed_hosts == ("c.test",)


def test_a_bad_value_is_a_problem_even_when_a_stronger_source_overrides_it(
    sources: Sources,
) -> None:
    assert sources.problems("server: {port: no}", flags={"server.port": 1}) == [
        "server.port (config.yaml:1): must be a whole number, not false"
    ]


def test_text_in_a_flag_is_read_as_in_the_environment(sources: Sources) -> None:
    loaded = sources.load(flags={"server.port": "1", f"{MANAGED}.accounts": "work,home"})
    assert loaded.settings.server.port == 1
    assert value_at(loaded.settings, f"{MANAGED}.accounts") == ("work", "home")


def test_a_flag_for_no_key_is_a_mistake_in_the_command(sources: Sources) -> None:
    with pytest.raises(KeyError):
        sources.load(flags={"server.prot": 1})


def test_no_two_keys_share_a_flag() -> None:
    flags = [key.flag for key in KEYS.values()]
    assert len(set(flags)) == len(flags)
    assert key_named("server.port").flag == "--port"
    assert key_named(f"{MANAGED}.storage_path").flag == "--managed-oauth-storage-path"


# The file

BLOCKS_AS_DOCUMENTED = {
    "basic": """\
backends:
  openai_codex:
    type: openai-codex
""",
    "managed": """\
backends:
  openai_codex:
    timeout: 120
    extra:
      codex:
        managed_oauth:
          enabled: true
          storage_path: var/openai_codex_oauth_accounts
          accounts: all
          selection_strategy: round-robin
          refresh_buffer_seconds: 300
          allow_legacy_fallback: true
""",
}


@pytest.mark.parametrize("yaml", BLOCKS_AS_DOCUMENTED.values(), ids=BLOCKS_AS_DOCUMENTED.keys())
def test_the_documented_blocks_are_the_defaults(sources: Sources, yaml: str) -> None:
    default = sources.load().settings
    storage = f"{MANAGED}.storage_path"
    loaded = sources.load(yaml).settings
    assert [value_at(loaded, key.name) for key in KEYS.values() if key.name != storage] == [
        value_at(default, key.name) for key in KEYS.values() if key.name != storage
    ]


@pytest.mark.parametrize("yaml", ["", "\n\n", "# a comment\n", "---\n", "---\n# a comment\n", "{}"])
def test_a_file_that_says_nothing_gives_the_defaults(sources: Sources, yaml: str) -> None:
    assert sources.load(yaml) == sources.load()


def test_the_variable_names_the_file_when_no_flag_does(sources: Sources) -> None:
    named = sources.folder / "named.yaml"
    named.write_text("server: {port: 1}")
    environ = {"CODEXRELAY_CONFIG": str(named)}
    assert sources.load(environ=environ).settings.server.port == 1
    assert sources.load("server: {port: 2}", environ=environ).settings.server.port == 2


def test_a_missing_file_is_a_problem_that_says_who_named_it(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    with pytest.raises(ConfigError) as caught:
        load(config_path=missing, environ={}, flags={})
    assert str(caught.value) == f"--config {missing}: cannot be read: No such file or directory"
    with pytest.raises(ConfigError, match=r"^CODEXRELAY_CONFIG .*missing\.yaml: cannot be read"):
        load(config_path=None, environ={"CODEXRELAY_CONFIG": str(missing)}, flags={})


def test_a_file_may_begin_with_a_byte_order_mark(sources: Sources) -> None:
    assert sources.load("\ufeffserver: {port: 1}").settings.server.port == 1


def test_a_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"server: \xff")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 8\)$"):
        load(config_path=path, environ={}, flags={})


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("a\n", "config.yaml:1: must be a mapping of keys, not a single value"),
        ("- a\n", "config.yaml:1: must be a mapping of keys, not a list"),
        ("null\n", "config.yaml:1: must be a mapping of keys, not null"),
        ("server:\n", "server (config.yaml:1): must be a mapping of keys, not null"),
        ("server: {\nport: 1\n", "config.yaml:3: is not valid YAML: expected ',' or '}'"),
        ("server:\n  port: @\n", "config.yaml:2: is not valid YAML: found character '@'"),
        ("server: {}\n---\nserver: {}\n", "config.yaml:2: is not valid YAML: but found another"),
        ("server: {}\n\n#\0\n", "config.yaml:3: is not valid YAML: it holds a control character"),
    ],
)
def test_what_is_no_mapping_or_no_yaml_is_a_problem_with_its_line(
    sources: Sources, yaml: str, message: str
) -> None:
    (problem,) = sources.problems(yaml)
    assert problem.startswith(message)


KNOWN = (
    "unknown key; known here: server, sessions, models, profiles, compaction, "
    "dynamic_compression, default_backend, backends"
)
INSTANCES = "instances of openai_codex are called openai_codex.2, openai_codex.3 and so on"


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "server:\n  prot: 1\n",
            "server.prot (config.yaml:2): unknown key; did you mean server.port?",
        ),
        ("srever: {}\n", "srever (config.yaml:1): unknown key; did you mean server?"),
        ("server.port: 1\n", "server.port (config.yaml:1): unknown key; did you mean server?"),
        (
            "x: 1\n",
            f"x (config.yaml:1): {KNOWN}",
        ),
        (
            "? [a]\n: 1\n",
            f"? (config.yaml:1): {KNOWN}",
        ),
        (
            "backends:\n  openai_codex:\n\n    storage_path: x\n",
            f"{BACKEND}.storage_path (config.yaml:4): unknown key; "
            f"did you mean {MANAGED}.storage_path?",
        ),
        (
            "backends: {openai: {}}",
            "backends.openai (config.yaml:1): needs type: openai, the only other kind of backend; "
            f"{INSTANCES}",
        ),
    ],
)
def test_an_unknown_key_is_a_problem_that_names_the_nearest_one(
    sources: Sources, yaml: str, message: str
) -> None:
    assert sources.problems(yaml) == [message]


@pytest.mark.parametrize("ids", ["[all, work]", "[work, all, all]"])
def test_all_among_ids_of_accounts_is_a_problem(sources: Sources, ids: str) -> None:
    (problem,) = sources.problems(in_managed(f"accounts: {ids}"))
    assert problem.startswith(
        f"{MANAGED}.accounts (config.yaml:1): must be all, or a list of ids without it, not ["
    )


@pytest.mark.parametrize("name", ["openai_codex", "openai-codex", "OPENAI-Codex", "OpenAI_codex"])
def test_the_name_of_the_backend_is_the_same_in_any_case_and_with_dashes(
    sources: Sources, name: str
) -> None:
    loaded = sources.load(f"backends: {{{name}: {{timeout: 3}}}}")
    assert value_at(loaded.settings, TIMEOUT) == 3.0


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "server:\n  port: 1\n  port: 2\n",
            "server.port (config.yaml:3): stands here twice, first on line 2",
        ),
        (
            "backends:\n  openai_codex: {}\n  OPENAI-CODEX: {}\n",
            f"{BACKEND} (config.yaml:3): stands here twice, first on line 2",
        ),
    ],
)
def test_a_key_that_stands_twice_is_a_problem(sources: Sources, yaml: str, message: str) -> None:
    assert sources.problems(yaml) == [message]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("port", "'8787'", "must be a whole number, not the text '8787'"),
        ("port", "1.5", "must be a whole number, not the number 1.5"),
        ("port", "true", "must be a whole number, not true"),
        ("port", "null", "must be a whole number, not null"),
        ("port", "[1]", "must be a whole number, not [the number 1]"),
        ("port", "{a: 1}", "must be a whole number, not a mapping"),
        ("port", "2026-01-01", "must be a whole number, not a date"),
        ("port", "65536", "must be <= 65535, not the number 65536"),
        ("port", "-1", "must be >= 0, not the number -1"),
        ("drain_grace_s", "-1", "must be >= 0, not the number -1"),
        ("keep_alive_s", "0", "must be > 0, not the number 0"),
        ("keep_alive_s", "yes", "must be a number, not true"),
        ("keep_alive_s", ".inf", "must be a number, not the number inf"),
        ("keep_alive_s", ".nan", "must be a number, not the number nan"),
        ("host", "1", "must be non-empty text, not the number 1"),
        ("host", "''", "must be non-empty text, not an empty text"),
        ("host", "2026-13-45", "is no plain YAML value: put text in quotes"),
        ("host", "!env HOST", "is no plain YAML value: put text in quotes"),
        (
            "log_level",
            "loud",
            "must be one of debug, info, warning, error, not the text 'loud'",
        ),
        (
            "allowed_hosts",
            "relay.test",
            "must be a list (each item: non-empty text), not the text 'relay.test'",
        ),
        (
            "allowed_hosts",
            "[1, [a]]",
            "must be a list (each item: non-empty text), not [the number 1, a list]",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_or_out_of_range_is_a_problem_that_says_what_is_allowed(
    sources: Sources, key: str, text: str, message: str
) -> None:
    yaml = f"server:\n  {key}: {text}\n"
    assert sources.problems(yaml) == [f"server.{key} (config.yaml:2): {message}"]


def test_null_is_a_value_only_where_a_key_allows_it(sources: Sources) -> None:
    yaml = "backends: {openai_codex: {auth_path: null, budgets: {silence_s: null}}}"
    assert sources.load(yaml).settings.backends.openai_codex.auth_path is None
    assert sources.problems("backends: {openai_codex: {timeout: null}}") == [
        f"{TIMEOUT} (config.yaml:1): must be a number, not null"
    ]


@pytest.mark.parametrize("text", ["null", " NULL "])
def test_text_says_null_for_every_key_that_can_be_null(sources: Sources, text: str) -> None:
    limit, silence = f"{MANAGED}.max_concurrent_turns", f"{BACKEND}.budgets.silence_s"
    loaded = sources.load(
        in_managed("max_concurrent_turns: 2"), flags={limit: text, silence: text, "server.port": 0}
    )
    assert value_at(loaded.settings, limit) is None
    assert value_at(loaded.settings, silence) is None
    named = sources.load(flags={f"{BACKEND}.auth_path": "null"}).settings
    assert named.backends.openai_codex.auth_path is None


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("selection_strategy", "best", "not the text 'best'"),
        ("session_affinity_ttl_seconds", "-1", "must be >= 0, not the number -1"),
        ("session_affinity_ttl_seconds", "1.5", "must be a whole number, not the number 1.5"),
        ("session_affinity_max_entries", "-1", "must be >= 0, not the number -1"),
        ("max_concurrent_turns", "0", "must be >= 1, not the number 0"),
        ("max_concurrent_turns", "all", "must be a whole number or null, not the text 'all'"),
        ("rate_limit_local_cooldown_cap_seconds", "-0.5", "must be >= 0, not the number -0.5"),
        ("max_rate_limit_wait_seconds", "-1", "must be >= 0, not the number -1"),
    ],
)
def test_what_an_account_key_does_not_take_is_a_problem(
    sources: Sources, key: str, text: str, message: str
) -> None:
    (problem,) = sources.problems(in_managed(f"{key}: {text}"))
    assert problem.startswith(f"{MANAGED}.{key} (config.yaml:1): must be ")
    assert problem.endswith(message)


def test_a_backend_that_takes_no_turn_unasked_needs_another_that_does(sources: Sources) -> None:
    assert sources.problems("backends: {openai_codex: {weight: 0}}") == [
        f"{BACKEND}.weight (config.yaml:1): "
        "no instance takes turns that name none: give one a weight above 0"
    ]


def test_a_whole_number_serves_where_a_number_is_wanted(sources: Sources) -> None:
    timeout = value_at(sources.load("backends: {openai_codex: {timeout: 7}}").settings, TIMEOUT)
    assert (timeout, type(timeout)) == (7.0, float)


def test_the_problems_of_all_sources_are_reported_together_in_the_order_they_stand(
    sources: Sources,
) -> None:
    problems = sources.problems(
        "server:\n  port: x\n  prot: 1\nbackends:\n  openai_codex:\n    timeout: 0\n",
        environ={BUFFER_VARIABLE: "-1"},
        flags={"server.host": "0.0.0.0", TIMEOUT: -3},
    )
    assert [problem.split(": ")[0] for problem in problems] == [
        "server.port (config.yaml:2)",
        "server.prot (config.yaml:3)",
        f"{TIMEOUT} (config.yaml:6)",
        BUFFER_VARIABLE,
        "--timeout",
        "--host",
    ]


WORDS = ["server", "port", "backends", "openai_codex", "timeout", "extra", "codex", "accounts"]
WORDS += ["models", "aliases", "compaction", "agent_capabilities", "droid", "custom_tools"]
SNIPPETS = [*WORDS, ":", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "!t ", "<<"]
SCALARS = ["1", "null", "'", '"', "|", ">", "%", "1e999", "0x_", "2026-13-45", "=", "\0", "é", "?"]


@settings(deadline=None)  # files on a busy machine
@given(pieces=st.lists(st.sampled_from([*SNIPPETS, *SCALARS]), max_size=30))
def test_any_text_in_the_file_gives_settings_or_problems(pieces: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text("".join(pieces), encoding="utf-8")
        try:
            loaded = load(config_path=path, environ={}, flags={})
        except ConfigError:
            return
        assert isinstance(loaded.settings, Settings)


# Folders


def test_a_relative_folder_counts_from_the_file_or_else_from_the_working_directory(
    sources: Sources,
) -> None:
    name = f"{MANAGED}.storage_path"
    in_file = in_managed("storage_path: accounts")
    variable = {"OPENAI_CODEX_MANAGED_OAUTH_STORAGE_PATH": "accounts"}
    here = str(Path.cwd() / "accounts")
    assert value_at(sources.load(in_file).settings, name) == str(sources.folder / "accounts")
    assert value_at(sources.load(in_file, environ=variable).settings, name) == here
    assert value_at(sources.load(in_file, flags={name: "accounts"}).settings, name) == here


@pytest.mark.parametrize(
    ("name", "yaml"),
    [
        (f"{BACKEND}.auth_path", "backends: {openai_codex: {auth_path: ./there}}"),
        ("sessions.state_path", "sessions: {state_path: there}"),
    ],
)
def test_the_other_folders_count_from_the_file_too(sources: Sources, name: str, yaml: str) -> None:
    assert value_at(sources.load(yaml).settings, name) == str(sources.folder / "there")


def test_a_tilde_needs_a_home(sources: Sources) -> None:
    assert sources.problems("backends: {openai_codex: {auth_path: ~/.codex}}") == [
        f"{BACKEND}.auth_path (config.yaml:1): "
        "'~/.codex' is in the home folder, and HOME is not set"
    ]


# Rules between keys


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "relay.test", "127.0.0.1.test"])
def test_an_address_that_others_can_reach_needs_client_keys(sources: Sources, host: str) -> None:
    (problem,) = sources.problems(flags={"server.host": host})
    assert problem == (
        f"--host: {host} can be reached from other machines, and anyone there could use your "
        "accounts: set server.client_keys, or leave server.host at 127.0.0.1"
    )
    loaded = sources.load("server: {client_keys: [0123456789abcdef]}", flags={"server.host": host})
    assert loaded.settings.server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_a_loopback_address_needs_no_client_keys(sources: Sources, host: str) -> None:
    assert sources.load(flags={"server.host": host}).settings.server.host == host


def test_a_rule_is_silent_while_a_key_it_reads_is_faulty(sources: Sources) -> None:
    problems = sources.problems("server: {host: 0.0.0.0, client_keys: ['']}")
    assert problems == [
        "server.client_keys (config.yaml:1): must be a list (each item: non-empty text)"
    ]


def test_an_empty_list_of_accounts_is_a_problem(sources: Sources) -> None:
    assert sources.problems(in_managed("accounts: []")) == [
        f"{MANAGED}.accounts (config.yaml:1): an empty list allows no account: list ids, or say all"
    ]


def test_a_short_client_key_is_a_warning_that_does_not_show_it(sources: Sources) -> None:
    loaded = sources.load("server:\n  client_keys: [a-key-of-16-char, hunter2]\n")
    (warning,) = loaded.warnings
    assert str(warning).startswith(
        f"server.client_keys ({sources.folder / 'config.yaml'}:2): key 2"
    )
    assert "hunter2" not in str(warning)


@pytest.mark.parametrize(
    ("key", "url", "what"),
    [
        (
            f"{BACKEND}.api_base_url",
            "http://someone:password@127.0.0.1:99/codex",
            "access tokens go to http://127.0.0.1:99, not to https://chatgpt.com",
        ),
        (
            f"{BACKEND}.api_base_url",
            "https://chatgpt.com.test/backend-api/codex",
            "access tokens go to https://chatgpt.com.test, not to https://chatgpt.com",
        ),
        (
            f"{BACKEND}.extra.codex.oauth_issuer",
            "http://[::1]:99",
            "refresh tokens go to http://[::1]:99, not to https://auth.openai.com",
        ),
    ],
)
def test_a_foreign_origin_for_tokens_is_a_warning(
    sources: Sources, key: str, url: str, what: str
) -> None:
    (warning,) = sources.load(flags={key: url}).warnings
    assert str(warning) == f"{key_named(key).flag}: {what}"


def test_another_path_at_the_real_origin_is_no_warning(sources: Sources) -> None:
    environ = {"OPENAI_API_BASE_URL": "https://ChatGPT.com/other"}
    assert sources.load(environ=environ).warnings == ()


def test_every_rule_reads_keys_that_exist() -> None:
    for names in (*PROBLEM_RULES.values(), *START_RULES.values(), *WARNING_RULES.values()):
        for name in names:
            assert tuple(name.split(".")) in {**KEYS, **OTHER_KEYS}


# Secrets


@pytest.mark.parametrize(
    "client_keys",
    [
        "[hunter2, 1]",
        "hunter2",
        "{hunter2: 1}",
        "[*hunter2]",
        "[!hunter2 a]",
        "[!hunter2!x a]",
        "[2026-13-45, hunter2]",
        "['hunter2'",
        "['hunter2', '']",
        '["\\hunter2"]',
    ],
)
def test_no_message_holds_a_client_key(sources: Sources, client_keys: str) -> None:
    (problem,) = sources.problems(f"server:\n  client_keys: {client_keys}\n")
    assert "hunter2" not in problem
    assert "config.yaml:" in problem


def test_no_repr_holds_a_client_key(sources: Sources) -> None:
    loaded = sources.load(flags={"server.client_keys": ("hunter2",)})
    assert loaded.settings.server.client_keys == ("hunter2",)
    assert "hunter2" not in repr(loaded)


def test_no_message_holds_a_password_of_a_url(sources: Sources) -> None:
    (problem,) = sources.problems(environ={"OPENAI_API_BASE_URL": "ftp://me:hunter2@host/"})
    assert problem.startswith("OPENAI_API_BASE_URL: must ")
    assert "hunter2" not in problem
