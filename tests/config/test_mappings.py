"""Keys that hold entries under names of their user's choice, and the rules about such names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from codexrelay.backends.codex.settings import CapabilitySettings
from codexrelay.config import Loaded, load
from codexrelay.config.keys import KEYS
from codexrelay.errors import ConfigError
from codexrelay.profiles import find_profiles
from codexrelay.protocol import capabilities
from codexrelay.protocol.model_choice import EFFORTS, VERBOSITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

CODEX = "backends.openai_codex.extra.codex"
AGENTS = f"{CODEX}.agent_capabilities"
DEFAULTS = f"{CODEX}.default_capabilities"
DEFAULTS_VARIABLE = "OPENAI_CODEX_DEFAULT_CAPABILITIES"
AGENTS_VARIABLE = "OPENAI_CODEX_AGENT_CAPABILITIES"


@attrs.frozen
class File:
    path: Path

    def load(
        self,
        text: str = "",
        *,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Loaded:
        self.path.write_text(text, encoding="utf-8")
        return load(config_path=self.path, environ=environ or {}, flags=flags or {})

    def problems(self, text: str = "", *, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ=environ)
        return str(caught.value).replace(str(self.path), "c.yaml").split("\n")


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "c.yaml")


def in_codex(text: str, block: str = "openai_codex") -> str:
    return f"backends:\n  {block}:\n    extra:\n      codex:\n        {text}\n"


def agents(loaded: Loaded) -> Mapping[str, Mapping[str, object]]:
    return loaded.settings.backends.openai_codex.extra.codex.agent_capabilities


# Aliases


def test_aliases_keep_the_names_that_their_user_gave_them(file: File) -> None:
    text = 'models:\n  aliases: {Fast: "gpt-5.5?reasoning_effort=low", claude-4.5: gpt-5.4, 5: x}'
    assert file.load(text).settings.models.aliases == {
        "Fast": "gpt-5.5?reasoning_effort=low",
        "claude-4.5": "gpt-5.4",
        "5": "x",
    }


def test_a_flag_adds_aliases_to_those_of_the_file_and_beats_them(file: File) -> None:
    loaded = file.load(
        "models: {aliases: {a: one, b: two}}", flags={"models.aliases": '{"b": "x", "c": "y"}'}
    )
    assert loaded.settings.models.aliases == {"a": "one", "b": "x", "c": "y"}


@pytest.mark.parametrize(
    ("entry", "where", "what"),
    [
        ('a: ""', "models.aliases.a", "must be non-empty text, not an empty text"),
        ("a: 1", "models.aliases.a", "must be non-empty text, not the number 1"),
        ("a: [b]", "models.aliases.a", "must be non-empty text, not [the text 'b']"),
        ("a: null", "models.aliases.a", "must be non-empty text, not null"),
        ('"a?b": c', "models.aliases.a?b", "no alias has a `?` in its name"),
        ('"": c', "models.aliases.", "an alias needs a name"),
        ('a: "m?reasoning_effort=huge"', "models.aliases.a", "'huge' is none of: none, minimal"),
        ('a: "m?effort=low"', "models.aliases.a", "effort"),
        ('a: "m?prompt_mode=x"', "models.aliases.a", "must be codex_default"),
        ('a: "?reasoning_effort=low"', "models.aliases.a", "names no model"),
        ('a: " "', "models.aliases.a", "names no model"),
        ("a: openai-codex.9:m", "models.aliases.a", "there is no backend openai-codex.9"),
        ("{a: b, B: c}", "models.aliases.a", "B is an alias too"),
        ("{a: 'OPENAI_CODEX:b?verbosity=low', b: c}", "models.aliases.a", "b is an alias too"),
        ("{a: b-high, b: c}", "models.aliases.a", "b is an alias too"),
    ],
)
def test_an_alias_that_could_not_be_used_is_a_problem(
    file: File, entry: str, where: str, what: str
) -> None:
    (problem,) = file.problems(f"models:\n  aliases:\n    {entry}\n")
    assert problem.startswith(f"{where} (c.yaml:3): ")
    assert what in problem


@pytest.mark.parametrize(
    "entry",
    [
        'gpt-5.5: "gpt-5.5?reasoning_effort=low"',
        "a: openai-codex:m",
        "a: openai/m",
        "{a: m-high, m-high-b: m}",
    ],
)
def test_an_alias_may_stand_for_what_clients_call_the_same(file: File, entry: str) -> None:
    assert file.load(f"models:\n  aliases:\n    {entry}\n").warnings == ()


def test_an_alias_may_mean_a_further_instance_that_there_is(file: File) -> None:
    file.load(
        "models: {aliases: {a: openai-codex.2:m}}\n"
        "backends: {openai_codex.2: {auth_path: /nowhere}}\n"
    )


def test_two_aliases_that_differ_in_case_alone_are_a_problem(file: File) -> None:
    (problem,) = file.problems("models:\n  aliases:\n    Fast: a\n    fast: b\n")
    assert problem == "models.aliases.fast (c.yaml:4): Fast is the same alias: case does not matter"


def test_an_alias_that_stands_twice_is_a_problem(file: File) -> None:
    (problem,) = file.problems("models:\n  aliases:\n    a: b\n    a: c\n")
    assert problem == "models.aliases.a (c.yaml:4): stands here twice, first on line 3"


def test_aliases_must_be_a_mapping(file: File) -> None:
    assert file.problems("models:\n  aliases: [a]") == [
        "models.aliases (c.yaml:2): must be a mapping of keys, not a list"
    ]


# Capabilities


def test_the_capabilities_are_those_that_requests_can_give() -> None:
    fields = attrs.fields_dict(CapabilitySettings)
    assert list(fields) == list(capabilities.KEYS)
    for name, words in capabilities.KEYS.items():
        key = KEYS[(*DEFAULTS.split("."), name)]
        values = words or (True, False)
        for value in (*values, None):
            key.check(value)
        with pytest.raises(ValueError, match="must be"):
            key.check("something else")


def test_efforts_and_verbosities_are_those_that_models_names_can_give() -> None:
    extra = ("backends", "openai_codex", "extra")
    for name, words in (("reasoning_effort", EFFORTS), ("verbosity", VERBOSITIES)):
        assert KEYS[(*extra, name)].takes == f"one of {', '.join(words)} or null"


def test_two_words_for_one_format_are_one_in_the_settings(file: File) -> None:
    text = in_codex("default_capabilities: {tool_text_format: codex_xml}")
    environ = {AGENTS_VARIABLE: '{"droid": {"tool_text_format": "inherit"}}'}
    loaded = file.load(text, environ=environ)
    codex = loaded.settings.backends.openai_codex.extra.codex
    assert codex.default_capabilities.tool_text_format == "xml"
    assert codex.agent_capabilities == {"droid": {"tool_text_format": "default"}}


def test_a_variable_gives_some_capabilities_and_leaves_the_others_as_the_file_has_them(
    file: File,
) -> None:
    loaded = file.load(
        in_codex("default_capabilities: {prompt_mode: custom_only, codex_passthrough: on}"),
        environ={DEFAULTS_VARIABLE: '{"codex_passthrough": null, "protocol": "openai-chat"}'},
    )
    found = loaded.settings.backends.openai_codex.extra.codex.default_capabilities
    assert found == CapabilitySettings(prompt_mode="custom_only", protocol="openai-chat")


def test_agents_are_merged_key_by_key_whatever_the_case_and_dashes_of_their_names(
    file: File,
) -> None:
    loaded = file.load(
        in_codex("agent_capabilities: {Codex-CLI: {prompt_mode: custom_only, protocol: null}}"),
        environ={AGENTS_VARIABLE: '{"codex_cli": {"codex_passthrough": true}, "pi": {}}'},
    )
    assert agents(loaded) == {
        "codex_cli": {"prompt_mode": "custom_only", "codex_passthrough": True}
    }


def test_an_agent_that_stands_twice_in_other_words_is_a_problem(file: File) -> None:
    (problem,) = file.problems(
        in_codex("agent_capabilities: {codex-cli: {protocol: null}, CODEX_CLI: {protocol: null}}")
    )
    assert problem == f"{AGENTS}.codex_cli (c.yaml:5): stands here twice, first on line 5"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "agent_capabilities: {droid: {promt_mode: custom_only}}",
            f"{AGENTS}.droid.promt_mode (c.yaml:5): unknown key; "
            f"did you mean {AGENTS}.droid.prompt_mode?",
        ),
        (
            "agent_capabilities: {droid: {prompt_mode: x}}",
            f"{AGENTS}.droid.prompt_mode (c.yaml:5): must be one of codex_default, merge_custom, "
            "custom_only or null, not the text 'x'",
        ),
        (
            "agent_capabilities: {droid: on}",
            f"{AGENTS}.droid (c.yaml:5): must be a mapping of keys, not a single value",
        ),
        (
            "agent_capabilities: {cline: {protocol: openai-chat}}",
            f"{AGENTS}.cline (c.yaml:5): there is no profile cline; "
            f"known: {', '.join(sorted(find_profiles()))}",
        ),
        (
            "agent_capabilities: {open_code: {protocol: openai-chat}}",
            f"{AGENTS}.open_code (c.yaml:5): there is no profile open_code; did you mean opencode?",
        ),
        (
            "default_capabilities: {codex_passthrough: maybe}",
            f"{DEFAULTS}.codex_passthrough (c.yaml:5): must be true, yes, on, false, no or off or "
            "null, not the text 'maybe'",
        ),
        (
            "prompt_mode: custom_only",
            f"{CODEX}.prompt_mode (c.yaml:5): unknown key; did you mean {CODEX}.prompt?",
        ),
        (
            "tool_text_format: xml",
            f"{CODEX}.tool_text_format (c.yaml:5): unknown key; "
            f"did you mean {DEFAULTS}.tool_text_format?",
        ),
        (
            "tool_call_reactors: [log, lgo]",
            f"{CODEX}.tool_call_reactors (c.yaml:5): there is no reactor lgo; did you mean log?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_full_path_and_line(
    file: File, text: str, problem: str
) -> None:
    assert file.problems(in_codex(text)) == [problem]


def test_a_mistake_in_a_variable_is_named_with_its_full_path_and_the_variable(file: File) -> None:
    told = file.problems(
        environ={
            DEFAULTS_VARIABLE: '{"protocol": "openai", "prompt_mod": 1}',
            AGENTS_VARIABLE: '{"droid": {"prompt_mode": true}, "pi": 1}',
        }
    )
    assert told == [
        f"{DEFAULTS}.protocol ({DEFAULTS_VARIABLE}): must be one of openai-chat, openai-responses "
        "or null, not the text 'openai'",
        f"{DEFAULTS}.prompt_mod ({DEFAULTS_VARIABLE}): unknown key; "
        f"did you mean {DEFAULTS}.prompt_mode?",
        f"{AGENTS}.droid.prompt_mode ({AGENTS_VARIABLE}): must be one of codex_default, "
        "merge_custom, custom_only or null, not true",
        f"{AGENTS}.pi ({AGENTS_VARIABLE}): must be a mapping of keys, not the number 1",
    ]


def test_a_further_block_adds_to_the_agents_of_the_first(file: File) -> None:
    text = in_codex("agent_capabilities: {droid: {prompt_mode: custom_only, protocol: null}}")
    text += (
        "  openai_codex.2:\n    extra: {codex: {agent_capabilities: "
        "{droid: {prompt_mode: null}, pi: {protocol: openai-chat}}}}\n"
    )
    loaded = file.load(text, environ={AGENTS_VARIABLE: '{"droid": {"codex_passthrough": true}}'})
    (_, second) = loaded.settings.backends.further[0]
    assert agents(loaded) == {"droid": {"prompt_mode": "custom_only", "codex_passthrough": True}}
    assert second.extra.codex.agent_capabilities == {
        "droid": {"codex_passthrough": True},
        "pi": {"protocol": "openai-chat"},
    }


def test_what_a_further_block_takes_over_is_complained_of_once(file: File) -> None:
    text = in_codex("agent_capabilities: {cline: {protocol: openai-chat}}")
    (problem,) = file.problems(f"{text}  openai_codex.2: {{}}\n")
    assert problem.startswith(f"{AGENTS}.cline (")


# Tools, adaptations, certificates and proxies

TOOLS = f"{CODEX}.tool_schema.custom_tools"


@pytest.mark.parametrize(
    ("tools", "what"),
    [
        ("[{name: a}]", "tool 1 has no type"),
        ("[{type: ''}]", "tool 1 has no type"),
        ("[{type: function, name: a}, {type: custom}]", "tool 2 has no name"),
        ("[{type: function, name: ''}]", "tool 1 has no name"),
        ("[{type: function, function: {name: a}}]", "tool 1 has no name, which a function tool"),
        (
            "[{type: function, name: a}, {type: custom, name: a}]",
            "tool 2 has a name that stands there already: a",
        ),
        ("{type: function}", "must be a list (each item: a JSON object), not a mapping"),
        ("[look]", "must be a list (each item: a JSON object), not [the text 'look']"),
        ("[{type: function, name: a, since: 2026-01-01}]", "must be a list (each item: a JSON obj"),
        ("[{type: function, name: a, 1: x}]", "must be a list (each item: a JSON object)"),
        ("[{type: function, name: a, limit: .inf}]", "must be a list (each item: a JSON object)"),
    ],
)
def test_what_is_no_tool_is_a_problem(file: File, tools: str, what: str) -> None:
    (problem,) = file.problems(in_codex(f"tool_schema: {{custom_tools: {tools}}}"))
    assert problem.startswith(f"{TOOLS} (c.yaml:5): {what}")


def test_tools_are_kept_as_they_stand(file: File) -> None:
    text = in_codex(
        "tool_schema: {base_tools: [{type: web_search}, {type: function, name: a, strict: false, "
        "parameters: {type: object, properties: {}, required: [x], max: 1.5, none: null}}]}"
    )
    assert file.load(text).settings.backends.openai_codex.extra.codex.tool_schema.base_tools == (
        {"type": "web_search"},
        {
            "type": "function",
            "name": "a",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {},
                "required": ["x"],
                "max": 1.5,
                "none": None,
            },
        },
    )


def test_an_adaptation_that_no_profile_has_is_a_problem(file: File) -> None:
    known = [f"{p.name}.{name}" for p in find_profiles().values() for name in p.adaptations]
    assert known
    file.load(f"profiles: {{adaptations: [{', '.join(known)}]}}")
    (problem,) = file.problems(f"profiles: {{adaptations: [{known[0]}, {known[0]}s]}}")
    assert problem == (
        f"profiles.adaptations (c.yaml:1): there is no adaptation {known[0]}s; "
        f"did you mean {known[0]}?"
    )


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("", True),
        (in_codex("default_capabilities: {bypass_tool_call_reactor: true}"), True),
        (in_codex("agent_capabilities: {droid: {bypass_tool_call_reactor: false}}"), True),
        (in_codex("agent_capabilities: {opencode: {bypass_tool_call_reactor: false}}"), False),
        (in_codex("default_capabilities: {bypass_tool_call_reactor: false}"), False),
        (
            in_codex("default_capabilities: {bypass_tool_call_reactor: false}", "openai_codex.2"),
            False,
        ),
    ],
)
def test_an_adaptation_that_never_acts_is_a_warning(file: File, more: str, warned: bool) -> None:
    loaded = file.load(f"profiles: {{adaptations: [OpenCode.shell-as-bash]}}\n{more}")
    told = [str(warning) for warning in loaded.warnings]
    assert told == (
        [
            f"profiles.adaptations ({file.path}:1): OpenCode.shell-as-bash does nothing unless a "
            "request asks for it: bypass_tool_call_reactor is true; set it to false in "
            "agent_capabilities.opencode"
        ]
        if warned
        else []
    )


def test_certificates_must_be_there(file: File) -> None:
    (problem,) = file.problems("backends: {openai_codex: {ca_file: own.pem}}")
    own = file.path.parent / "own.pem"
    assert problem == f"backends.openai_codex.ca_file (c.yaml:1): there is no file {own}"
    own.touch()
    loaded = file.load("backends: {openai_codex: {ca_file: own.pem}}")
    assert loaded.settings.backends.openai_codex.ca_file == str(own)


@pytest.mark.parametrize("proxy", ["none", "http://p.test:3128", "https://me:secret@p.test"])
def test_a_proxy_is_none_or_an_http_url(file: File, proxy: str) -> None:
    loaded = file.load(f"backends: {{openai_codex: {{proxy: '{proxy}'}}}}")
    assert loaded.settings.backends.openai_codex.proxy == proxy


@pytest.mark.parametrize(
    "proxy", ["p.test:3128", "socks5://p.test", "http://", "NONE", "http://p:x"]
)
def test_what_is_no_proxy_is_a_problem(file: File, proxy: str) -> None:
    (problem,) = file.problems(f"backends: {{openai_codex: {{proxy: '{proxy}'}}}}")
    assert problem == (
        "backends.openai_codex.proxy (c.yaml:1): must be none, or an http or https URL such as "
        "http://host:3128 or http://user:password@host:3128; in a user or password, / ? # @ and "
        "blanks are written %2F %3F %23 %40 %20"
    )


def test_a_list_of_models_counts_from_the_file(file: File) -> None:
    loaded = file.load(in_codex("model_catalog: {fallback_path: models.json}"))
    catalog = loaded.settings.backends.openai_codex.extra.codex.model_catalog
    assert catalog.fallback_path == str(file.path.parent / "models.json")
