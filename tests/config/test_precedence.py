"""Flag beats environment beats file beats default, for every key."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args, get_origin

import pytest
import yaml

from codexrelay.config import Loaded, load
from codexrelay.config.keys import KEYS, VARIABLES, Key
from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Source = Literal["file", "variable", "flag"]
#: Weakest first.
SOURCES: Final[Sequence[Source]] = ("file", "variable", "flag")
CODEX: Final = "backends.openai_codex.extra.codex"
_HERE: Final = Path(__file__).parent
#: Three values for each key whose type alone does not say which there are.
_URLS: Final = ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", "http://127.0.0.1:3/c")
SPECIAL: Final[Mapping[str, tuple[object, object, object]]] = {
    "server.host": ("localhost", "127.0.0.2", "::1"),
    "server.client_keys": (["a" * 16], ["b" * 16], ["c" * 16]),
    "models.aliases": ({"x": "a"}, {"x": "b"}, {"x": "c"}),
    "models.routes": ({"x": ("a",)}, {"x": ("b", "a")}, {"x": ("c",)}),
    "default_backend": ("openai_codex", "OpenAI-Codex", "openai-codex"),
    "profiles.adaptations": ([], ["opencode.shell_as_bash"], []),
    "backends.openai_codex.api_base_url": _URLS,
    "backends.openai_codex.proxy": ("none", "http://a.test", "http://b.test"),
    "backends.openai_codex.ca_file": (
        __file__,
        str(_HERE / "test_loading.py"),
        str(_HERE / "test_folders.py"),
    ),
    f"{CODEX}.oauth_issuer": _URLS,
    f"{CODEX}.managed_oauth.accounts": (["a"], "all", ["b", "c"]),
    f"{CODEX}.agent_capabilities": (
        {"pi": {"prompt_mode": "custom_only"}},
        {"pi": {"prompt_mode": "merge_custom"}},
        {"pi": {"prompt_mode": "codex_default"}},
    ),
    f"{CODEX}.tool_call_reactors": ([], ["log"], []),
    **{
        f"{CODEX}.tool_schema.{name}": tuple(  # type: ignore[dict-item] - three
            [{"type": "function", "name": name}] for name in "abc"
        )
        for name in ("base_tools", "custom_tools")
    },
}


def three_values(key: Key) -> tuple[object, object, object]:
    """Return a value for each source; neighbours differ where the key has more than one."""
    if key.name in SPECIAL:
        return SPECIAL[key.name]
    members = get_args(key.wanted) if get_origin(key.wanted) is not Literal else ()
    for member in (key.wanted, *members):
        if get_origin(member) is Literal:
            words = itertools.cycle(get_args(member))
            return next(words), next(words), next(words)
        if member is bool:
            return True, False, True
        if member in (int, float):
            return 1, 2, 3
        if member is str:
            root = Path("/").absolute()
            return tuple(str(root / name) for name in "abc")  # type: ignore[return-value] - three
        if get_origin(member) is tuple:
            (each, _) = get_args(member)
            if get_origin(each) is Literal:
                one, two, *_ = get_args(each)
                return [one], [two], [one, two]
            return ([1], [2], [3]) if each is float else (["a"], ["b"], ["c"])
    raise AssertionError(f"no values for {key.name}")


def as_text(value: object) -> str:
    """Return a value as a variable or a flag says it."""
    if isinstance(value, str):
        return value
    return dump(value).decode()  # type: ignore[arg-type] - JSON


def variable_of(key: Key) -> str | None:
    """Return the strongest variable that gives this very key, or its whole section."""
    own = [variable for variable, path in VARIABLES.items() if path == key.path]
    of_section = [variable for variable, path in VARIABLES.items() if path == key.path[:-1]]
    return (own or of_section or [None])[-1]


def loaded(folder: Path, key: Key, given: Mapping[Source, object]) -> Loaded:
    """Return the configuration in which these sources give the key."""
    path = folder / "c.yaml"
    tree: object = given.get("file")
    if "file" in given:
        for part in reversed(key.path):
            tree = {part: tree}
    path.write_text(yaml.safe_dump(tree or {}))
    environ: dict[str, str] = {}
    if "variable" in given:
        variable, value = variable_of(key), given["variable"]
        assert variable is not None
        whole = VARIABLES[variable] == key.path
        environ[variable] = as_text(value if whole else {key.path[-1]: value})
    flags = {key.name: as_text(given["flag"])} if "flag" in given else {}
    return load(config_path=path, environ=environ, flags=flags)


def in_settings(loaded: Loaded, key: Key) -> object:
    value: object = loaded.settings
    for part in key.path:
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_the_strongest_source_that_gives_a_key_wins(tmp_path: Path, key: Key) -> None:
    values = dict(zip(SOURCES, three_values(key), strict=True))
    there = [source for source in SOURCES if source != "variable" or variable_of(key)]
    for count in range(len(there) + 1):
        for sources in itertools.combinations(there, count):
            found = loaded(tmp_path, key, {source: values[source] for source in sources})
            strongest = sources[-1] if sources else "default"
            if key.is_mapping:
                origins = [g.origin.kind for n, g in found.found.items() if n.startswith(key.name)]
                assert origins == ([strongest] if sources else [])
                assert in_settings(found, key) == (values[sources[-1]] if sources else {})
                continue
            assert found.found[key.name].origin.kind == strongest, sources
            wanted = key.check(values[sources[-1]]) if sources else key.default
            is_default_place = not sources and key.about.path is not None and wanted is not None
            if is_default_place:
                wanted = str(Path.cwd() / str(wanted))
            assert in_settings(found, key) == wanted, sources
            assert found.found[key.name].value == wanted


def test_the_values_of_two_sources_differ_so_that_the_above_can_fail() -> None:
    for key in KEYS.values():
        one, two, three = three_values(key)
        if key.path[-1] != "type":
            assert one != two != three, key.name


def test_most_keys_have_a_variable() -> None:
    assert sum(variable_of(key) is not None for key in KEYS.values()) > 30


TABLE: Final[Sequence[tuple[str, str, str, str, tuple[object, ...]]]] = [
    # key, in the file, in its variable, as a flag; what they become
    (f"{CODEX}.managed_oauth.enabled", "off", "yes", "0", (False, True, False)),
    (f"{CODEX}.managed_oauth.refresh_buffer_seconds", "1", "2", "3", (1, 2, 3)),
    (f"{CODEX}.managed_oauth.max_concurrent_turns", "1", "null", "3", (1, None, 3)),
    (f"{CODEX}.managed_oauth.max_rate_limit_wait_seconds", "1", ".5", "2e1", (1.0, 0.5, 20.0)),
    (
        f"{CODEX}.managed_oauth.accounts",
        "[a, b]",
        "c, d",
        '["e"]',
        (("a", "b"), ("c", "d"), ("e",)),
    ),
    (
        f"{CODEX}.managed_oauth.accounts",
        "[all]",
        "ALL",
        '["all", "all"]',
        ("all", "all", "all"),
    ),
    (
        f"{CODEX}.managed_oauth.selection_strategy",
        "random",
        "first-available",
        "session-affinity",
        ("random", "first-available", "session-affinity"),
    ),
    (
        f"{CODEX}.managed_oauth.quota_remaining_alert_thresholds_percent",
        "[5, 50]",
        "10, 10, 20",
        "1",
        ((50.0, 5.0), (20.0, 10.0), (1.0,)),
    ),
    ("compaction.enabled", "off", "yes", "0", (False, True, False)),
    ("compaction.token_threshold", "1", "2", "3", (1, 2, 3)),
    ("dynamic_compression.enabled", "off", "yes", "0", (False, True, False)),
    (
        "dynamic_compression.level",
        "balanced",
        "AGGRESSIVE",
        "conservative",
        ("balanced", "aggressive", "conservative"),
    ),
    ("dynamic_compression.min_bytes", "1", "2", "3", (1, 2, 3)),
    (
        "dynamic_compression.disable_tools",
        "[a]",
        "bash, grep",
        "[]",
        (("a",), ("bash", "grep"), ()),
    ),
    (
        "dynamic_compression.disable_categories",
        "[other]",
        "search,file_read",
        "test_execution",
        (("other",), ("search", "file_read"), ("test_execution",)),
    ),
    (
        f"{CODEX}.prompt.prepend",
        "a, b",
        "c, d",
        '["e", "f"]',
        (("a, b",), ("c, d",), ("e", "f")),
    ),
    (
        f"{CODEX}.tool_schema.base_tools",
        "[{type: web_search}]",
        '[{"type": "x"}]',
        "null",
        (({"type": "web_search"},), ({"type": "x"},), None),
    ),
    (
        f"{CODEX}.default_capabilities.prompt_mode",
        "custom_only",
        '{"prompt_mode": "merge_custom"}',
        "null",
        ("custom_only", "merge_custom", None),
    ),
    (
        f"{CODEX}.agent_capabilities",
        "{pi: {codex_passthrough: on}}",
        '{"Pi": {"codex_passthrough": null, "protocol": "openai-chat"}}',
        '{"pi": {"codex_passthrough": false}}',
        (
            {"pi": {"codex_passthrough": True}},
            {"pi": {"protocol": "openai-chat"}},
            {"pi": {"protocol": "openai-chat", "codex_passthrough": False}},
        ),
    ),
]


@pytest.mark.parametrize(
    ("name", "in_file", "in_variable", "as_flag", "expected"), TABLE, ids=[row[0] for row in TABLE]
)
def test_each_type_of_key_is_read_as_its_source_writes_it(
    tmp_path: Path,
    name: str,
    in_file: str,
    in_variable: str,
    as_flag: str,
    expected: tuple[object, ...],
) -> None:
    key = KEYS[tuple(name.split("."))]
    path = tmp_path / "c.yaml"
    *sections, last = key.path
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    path.write_text("\n".join([*lines, f"{'  ' * len(sections)}{last}: {in_file}"]))
    environ = {variable_of(key) or "": in_variable}
    got = (
        load(config_path=path, environ={}, flags={}),
        load(config_path=path, environ=environ, flags={}),
        load(config_path=path, environ=environ, flags={name: as_flag}),
    )
    assert tuple(in_settings(each, key) for each in got) == expected
