"""Backends of other kinds: blocks with `type: openai` beside those of the Codex family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import yaml

from codexrelay.backends.openai import headers
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.config import Loaded, load
from codexrelay.config.shown import shown
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

URL: Final = "http://127.0.0.1:8000/v1"
KINDS: Final = (
    "the only other kind of backend; instances of openai_codex are called openai_codex.2, "
    "openai_codex.3 and so on"
)


@attrs.frozen
class File:
    path: Path

    def load(
        self, tree: object, *, environ: Mapping[str, str] | None = None, starts: bool = True
    ) -> Loaded:
        text = tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False)
        self.path.write_text(text, encoding="utf-8")
        return load(config_path=self.path, environ=environ or {}, flags={}, starts=starts)

    def block(self, *, environ: Mapping[str, str] | None = None, **keys: object) -> Loaded:
        """Load a file with one such backend, `local`."""
        return self.load({"backends": {"local": a_block(**keys)}}, environ=environ)

    def problems(self, tree: object, *, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(tree, environ=environ)
        return str(caught.value).replace(str(self.path), "c.yaml").split("\n")

    def problem(self, *, environ: Mapping[str, str] | None = None, **keys: object) -> str:
        """Return the one problem of a file with one such backend, without the place's line."""
        tree = {"backends": {"local": a_block(**keys)}}
        (problem,) = self.problems(tree, environ=environ)
        return problem


def a_block(**keys: object) -> dict[str, object]:
    return {"type": "openai", "api_base_url": URL, **keys}


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "c.yaml")


def test_a_block_has_the_defaults_of_its_class_and_what_it_says(file: File) -> None:
    loaded = file.block(
        wire="responses",
        models="qwen3",
        headers={"X-Team": "blue"},
        timeout=7,
        budgets={"connect_s": 1},
    )
    ((name, block),) = loaded.settings.backends.others
    wanted = OpenAIBackendSettings(
        api_base_url=URL,
        wire="responses",
        models=("qwen3",),
        headers={"x-team": "blue"},
        timeout=7.0,
    )
    assert name == "local"
    assert block == attrs.evolve(wanted, budgets=attrs.evolve(wanted.budgets, connect_s=1.0))
    assert loaded.warnings == ()


def test_there_is_none_by_default_and_they_stand_in_the_order_of_the_file(file: File) -> None:
    assert file.load({}).settings.backends.others == ()
    names = ("b", "a", "z.9", "openai")
    loaded = file.load({"backends": {name: a_block() for name in names}})
    assert tuple(name for name, _ in loaded.settings.backends.others) == names
    assert len(loaded.settings.backends.family) == 1


@pytest.mark.parametrize("name", ["my-box", "my_box", "My_Box", "MY-BOX"])
def test_the_name_is_the_same_in_any_case_and_with_dashes(file: File, name: str) -> None:
    loaded = file.load({"backends": {name: a_block(timeout=3)}})
    ((canonical, block),) = loaded.settings.backends.others
    assert (canonical, block.timeout) == ("my-box", 3.0)
    assert "backends.my_box.timeout" in loaded.found


def test_two_spellings_of_one_name_are_a_key_that_stands_twice(file: File) -> None:
    text = (
        f"backends:\n  my_box: {{type: openai, api_base_url: {URL}}}\n  my-box: {{type: openai}}\n"
    )
    (problem,) = file.problems(text)
    assert problem == "backends.my_box (c.yaml:3): stands here twice, first on line 2"


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("{}", f"backends.local (c.yaml:2): needs type: openai, {KINDS}"),
        ("null", f"backends.local (c.yaml:2): needs type: openai, {KINDS}"),
        (
            "{timeout: x, nonsense: 1}",
            f"backends.local (c.yaml:2): needs type: openai, {KINDS}",
        ),
        (
            "\n    type: anthropic\n    nonsense: 1",
            f"backends.local.type (c.yaml:3): must be openai, {KINDS}",
        ),
        (
            "{type: openai-codex}",
            f"backends.local.type (c.yaml:2): must be openai, {KINDS}",
        ),
        (
            "{type: [openai]}",
            f"backends.local.type (c.yaml:2): must be openai, {KINDS}",
        ),
        (
            "\n    type: openai",
            "backends.local (c.yaml:2): needs api_base_url, for example http://127.0.0.1:8000/v1",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    base_url: x",
            "backends.local.base_url (c.yaml:5): unknown key; did you mean "
            "backends.local.api_base_url?",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    turn_s: 3",
            "backends.local.turn_s (c.yaml:5): unknown key; did you mean "
            "backends.local.budgets.turn_s?",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    budgets: {{turn: 3}}",
            "backends.local.budgets.turn (c.yaml:5): unknown key; did you mean "
            "backends.local.budgets.turn_s?",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    wire: grpc",
            "backends.local.wire (c.yaml:5): must be one of chat, responses, not the text 'grpc'",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    timeout: 0",
            "backends.local.timeout (c.yaml:5): must be > 0, not the number 0",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    ca_file: /no/such/file",
            "backends.local.ca_file (c.yaml:5): there is no file /no/such/file",
        ),
        (
            "\n    type: openai\n    api_base_url: http://127.0.0.1:8787/v1",
            "backends.local.api_base_url (c.yaml:4): is the relay itself (server.host and "
            "server.port), which would call itself without end",
        ),
        (
            f"\n    type: openai\n    api_base_url: {URL}\n    api_key: sk-hunter2",
            "backends.local.api_key (c.yaml:5): not supported: no key stands in this file: "
            "api_key_env names the variable, or api_key_file the file, that holds it",
        ),
    ],
)
def test_what_is_wrong_with_a_block_is_told_with_key_and_line(
    file: File, block: str, problem: str
) -> None:
    assert file.problems(f"backends:\n  local: {block}\n") == [problem]


def test_a_url_that_is_none_is_one_problem_and_not_a_missing_one_too(file: File) -> None:
    problem = file.problem(api_base_url="ftp://user:hunter2@host/v1")
    assert problem.startswith(
        "backends.local.api_base_url (c.yaml:4): must be an http or https URL"
    )
    assert "hunter2" not in problem


def test_all_problems_of_all_blocks_are_told_together(file: File) -> None:
    tree = {"backends": {"a": a_block(timeout=0), "b": {}, "c": {"type": "openai"}}}
    assert [problem.partition(" (")[0] for problem in file.problems(tree)] == [
        "backends.a.timeout",
        "backends.b",
        "backends.c",
    ]


# Keys


@pytest.mark.parametrize(
    ("keys", "environ", "problem"),
    [
        (
            {"api_key_env": "LOCAL_KEY"},
            {},
            "api_key_env (c.yaml:5): the variable LOCAL_KEY is not set: set it to the key, or "
            "leave api_key_env out if the backend wants none",
        ),
        (
            {"api_key_env": "LOCAL_KEY"},
            {"LOCAL_KEY": " "},
            "api_key_env (c.yaml:5): the variable LOCAL_KEY is empty: set it to the key, or leave "
            "api_key_env out if the backend wants none",
        ),
        (
            {"api_key_env": "gsk_hunter2"},
            {},
            "api_key_env (c.yaml:5): must be the name of a variable, in capitals, such as "
            "LOCAL_API_KEY: it holds the key, which stands in no configuration",
        ),
        (
            {"api_key_env": "LOCAL_KEY", "api_key_file": "key"},
            {"LOCAL_KEY": "hunter2"},
            "api_key_file (c.yaml:6): stands beside api_key_env, and a backend has one key",
        ),
        (
            {"api_key_file": "sk-hunter2"},
            {},
            "api_key_file (c.yaml:5): there is no such file",
        ),
        (
            {"headers": {"Authorization": "Bearer hunter2"}},
            {},
            "headers.authorization (c.yaml:6): is none to write here: api_key_env or api_key_file "
            "says where the key is",
        ),
        (
            {"headers": {"host": "hunter2"}},
            {},
            "headers.host (c.yaml:6): is none to write here: the relay sends its own",
        ),
        (
            {"headers": {"x team": "hunter2"}},
            {},
            "headers.x team (c.yaml:6): no header may be called so: letters, digits and `-` do",
        ),
        (
            {"headers": {"x-team": "hunter2\n"}},
            {},
            "headers.x-team (c.yaml:6): must be plain printable characters (ASCII) without blanks "
            "around them",
        ),
        ({"headers": {"x-team": 2222}}, {}, "headers.x-team (c.yaml:6): must be non-empty text"),
    ],
)
def test_a_key_that_is_missing_or_in_the_wrong_place_is_a_problem_that_does_not_repeat_it(
    file: File, keys: Mapping[str, object], environ: Mapping[str, str], problem: str
) -> None:
    told = file.problem(environ=environ, **keys)
    assert told == f"backends.local.{problem}"
    assert "hunter2" not in told
    assert "2222" not in told


@pytest.mark.parametrize("keys", [{"api_key_env": "LOCAL_KEY"}, {"api_key_file": "not-there"}])
def test_who_starts_no_relay_is_only_warned_of_a_key_that_is_not_there(
    file: File, keys: Mapping[str, object]
) -> None:
    tree = {"backends": {"local": a_block(**keys)}}
    problems = file.problems(tree)
    (warning,) = file.load(tree, starts=False).warnings
    assert [str(warning).replace(str(file.path), "c.yaml")] == problems


def test_no_header_can_be_configured_that_would_not_be_sent(file: File) -> None:
    for name in headers.OURS:
        assert "is none to write here" in file.problem(headers={name: "x"})


def test_the_same_header_in_two_spellings_stands_twice(file: File) -> None:
    told = file.problem(headers={"x-team": "a", "X-Team": "b"})
    assert told.startswith("backends.local.headers.x-team (c.yaml:7): stands here twice")


def test_a_key_in_a_variable_or_a_file_is_fine(file: File) -> None:
    (file.path.parent / "key").write_text("sk-x")
    environ = {"LOCAL_KEY": "sk-x"}
    assert file.block(api_key_env="LOCAL_KEY", environ=environ).warnings == ()
    ((_, block),) = file.block(api_key_file="key").settings.backends.others
    assert block.api_key_file == str(file.path.parent / "key")


def test_headers_are_shown_by_name_only_and_are_in_no_repr(file: File) -> None:
    loaded = file.block(headers={"x-team": "hunter2"})
    by_name = {one.name: one.value for one in shown(loaded)}
    assert by_name["backends.local.headers.x-team"] == "<hidden>"
    assert "hunter2" not in str([*shown(loaded)])
    assert "hunter2" not in repr(loaded.settings)
    assert by_name["backends.local.api_base_url"] == URL


def test_every_key_of_a_block_is_shown(file: File) -> None:
    names = [one.name for one in shown(file.block()) if one.name.startswith("backends.local.")]
    assert names[:3] == [
        "backends.local.type",
        "backends.local.api_base_url",
        "backends.local.wire",
    ]
    assert {"backends.local.headers", "backends.local.budgets.turn_s"} <= {*names}


@pytest.mark.parametrize(
    ("url", "keys", "warned"),
    [
        ("http://models.test/v1", {"api_key_env": "LOCAL_KEY"}, "its API key go"),
        ("http://models.test/v1", {"headers": {"x-key": "a"}}, "its headers go"),
        (
            "http://10.0.0.1:1/v1",
            {"api_key_env": "LOCAL_KEY", "headers": {"x": "a"}},
            "key and its",
        ),
        ("http://models.test/v1", {}, None),
        ("https://models.test/v1", {"api_key_env": "LOCAL_KEY"}, None),
        ("http://localhost:1/v1", {"api_key_env": "LOCAL_KEY"}, None),
        ("http://[::1]:1/v1", {"api_key_env": "LOCAL_KEY"}, None),
        ("http://127.0.0.9:1/v1", {"api_key_env": "LOCAL_KEY"}, None),
    ],
)
def test_a_key_that_would_go_over_the_network_in_plain_text_is_warned_about(
    file: File, url: str, keys: Mapping[str, object], warned: str | None
) -> None:
    loaded = file.block(environ={"LOCAL_KEY": "sk-x"}, api_base_url=url, **keys)
    if warned is None:
        assert loaded.warnings == ()
    else:
        (warning,) = map(str, loaded.warnings)
        assert warned in warning
        assert "without encryption" in warning


# Names


@pytest.mark.parametrize("name", ["local", "LOCAL", "openai_codex", "OpenAI-Codex.2"])
def test_the_default_backend_is_any_that_is_configured(file: File, name: str) -> None:
    tree = {"default_backend": name, "backends": {"local": a_block(), "openai_codex.2": {}}}
    assert file.load(tree).settings.default_backend == name.lower().replace("_", "-")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lokal", "there is no backend lokal; did you mean local?"),
        ("openai_codex.3", "there is no backend openai-codex.3; did you mean openai-codex?"),
        ("x", "there is no backend x; known: local, openai-codex"),
    ],
)
def test_a_default_backend_that_is_not_configured_is_a_problem(
    file: File, name: str, told: str
) -> None:
    tree = {"default_backend": name, "backends": {"local": a_block()}}
    assert file.problems(tree) == [f"default_backend (c.yaml:1): {told}"]


def test_aliases_and_routes_may_name_them(file: File) -> None:
    models = {
        "aliases": {"fast": "local:qwen3?reasoning_effort=low", "coder": "Local/org/model"},
        "routes": {
            "main": ["local:fast", "local:main", "openai-codex:gpt-5.5", "qwen3", "gpt-5.5-high"],
        },
    }
    loaded = file.load({"models": models, "backends": {"local": a_block()}})
    assert loaded.settings.models.routes == {"main": tuple(models["routes"]["main"])}


@pytest.mark.parametrize(
    "more",
    [
        {
            "models": {"aliases": {"a": "qwen3:8b"}},
            "backends": {"local": a_block(models="qwen3:8b")},
        },
        {
            "models": {"aliases": {"a": "phi:2"}},
            "default_backend": "local",
            "backends": {"local": a_block()},
        },
        {"models": {"aliases": {"a": "vendor/m"}}},
    ],
    ids=["listed", "of the default", "with a slash"],
)
def test_an_alias_may_mean_a_model_whose_name_only_looks_like_a_backends(
    file: File, more: Mapping[str, object]
) -> None:
    assert len(file.load(more).settings.models.aliases) == 1


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        (
            {"aliases": {"a": "openai-codex.7:x"}},
            "models.aliases.a (c.yaml:3): there is no backend openai-codex.7; "
            "did you mean openai-codex?",
        ),
        (
            {"aliases": {"a": "lokal:x?verbosity=low"}},
            "models.aliases.a (c.yaml:3): there is no backend lokal; did you mean local?",
        ),
        (
            {"routes": {"a": ["qwen3:8b"]}},
            "models.routes.a (c.yaml:4): there is no backend qwen3; known: local, openai-codex",
        ),
        (
            {"routes": {"a": ["local:"]}},
            "models.routes.a (c.yaml:4): local: is the name of a backend with no model behind it: "
            "write one there",
        ),
        (
            {"routes": {"a": []}},
            "models.routes.a (c.yaml:3): an empty list leads nowhere: name a model, or leave the "
            "route out",
        ),
        (
            {"routes": {"a": "local:x"}},
            "models.routes.a (c.yaml:3): must be a list (each item: non-empty text), "
            "not the text 'local:x'",
        ),
        (
            {"routes": {"a": ["local:x", "openai-codex.7:y"]}},
            "models.routes.a (c.yaml:4): there is no backend openai-codex.7; "
            "did you mean openai-codex?",
        ),
        (
            {"routes": {"a": ["local:x?depth=3"]}},
            "models.routes.a (c.yaml:4): a model has no parameter 'depth'",
        ),
        (
            {"routes": {"a?": ["local:x"]}},
            "models.routes.a? (c.yaml:4): no route has a `?` in its name",
        ),
        (
            {"routes": {"": ["local:x"]}},
            "models.routes. (c.yaml:4): a route needs a name",
        ),
        (
            {"routes": {"a": ["local:x"], "A": ["local:y"]}},
            "models.routes.A (c.yaml:6): a is the same route: case does not matter",
        ),
        (
            {"aliases": {"a": "x"}, "routes": {"A": ["local:y"]}},
            "models.routes.A (c.yaml:6): a is an alias too: give one of them another name",
        ),
        (
            {"aliases": {"a": "x"}, "routes": {"b": ["a"]}},
            "models.routes.b (c.yaml:6): a is an alias too, and what an alias means",
        ),
        (
            {"routes": {"a": ["x"], "b": ["openai-codex:a"]}},
            "models.routes.b (c.yaml:6): a is a route too, and what a route means",
        ),
        (
            {"aliases": {"b": "A-high"}, "routes": {"a": ["x"]}},
            "models.aliases.b (c.yaml:3): a is a route too, and what a route means",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_a_problem(
    file: File, models: Mapping[str, object], problem: str
) -> None:
    (told,) = file.problems({"models": models, "backends": {"local": a_block()}})
    assert told.startswith(problem)


def test_a_block_that_is_faulty_hides_no_other_problem_and_makes_none(file: File) -> None:
    tree = {
        "models": {"aliases": {"a": "local:x"}},
        "default_backend": "local",
        "backends": {"local": a_block(api_base_url="x")},
    }
    (problem,) = file.problems(tree)
    assert problem.startswith("backends.local.api_base_url (")
