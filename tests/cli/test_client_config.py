"""`codexrelay client-config`, as people and programs read it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
from click.testing import CliRunner, Result

from codexrelay.backends.codex.catalogue import packaged
from codexrelay.backends.codex.listing import Listing
from codexrelay.cli.accounts.world import World
from codexrelay.cli.client_config import PROGRAMS, client_config
from codexrelay.cli.client_config.models import Named, name_for
from codexrelay.cli.client_config.programs.program import KEY_VARIABLE, Target
from codexrelay.config.loading import load
from codexrelay.errors import RequestError
from codexrelay.protocol.raw import JsonObject, get_text, is_object
from codexrelay.server.models import shelf_of
from harness.children import bare_environment
from harness.simulator import Simulator
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import relaying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.client_config.programs.program import WireProtocol

SECRET: Final = "a-client-key-that-nobody-may-see"
FIRST: Final = next(
    get_text(model, "slug") or "" for model in packaged() if model["visibility"] == "list"
)
MODELS: Final = {get_text(model, "slug") or "": model for model in packaged()}
EVERY_BLOCK = [
    pytest.param(name, protocol, id=f"{name}-{protocol}")
    for name, program in PROGRAMS.items()
    for protocol in program.protocols
]


def printed(*words: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(client_config, words, obj=World(environ=environ or {}))


def configured(folder: Path, **config: object) -> str:
    """Write a configuration and return its path."""
    sessions = {"state_path": str(folder / "state")}
    path = folder / "config.yaml"
    path.write_text(json.dumps({"sessions": sessions, **config}), "utf-8")
    return str(path)


def parsed(block: str, program: str) -> JsonObject:
    """Read a block as its program does; of Python the constants that it assigns to."""
    if program == "openai":
        told: JsonObject = {}
        exec(block.replace("from openai import OpenAI", "OpenAI = dict"), told)  # type: ignore[arg-type]
        return {name: told[name] for name in ("client", "model", "extra_body")}
    value = tomllib.loads(block) if program == "codex" else json.loads(block)
    assert is_object(value)
    return value


def as_json(*words: str) -> JsonObject:
    result = printed(*words, "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert is_object(value)
    return value


@pytest.mark.parametrize(("program", "protocol"), EVERY_BLOCK)
def test_a_block_can_be_read_and_names_the_relay_and_a_model_that_exists(
    program: str, protocol: str, tmp_path: Path
) -> None:
    words = (program, "--protocol", protocol, "--config", configured(tmp_path))
    result = printed(*words)
    assert result.exit_code == 0, result.output
    told = json.dumps(parsed(result.stdout, program))
    assert "http://127.0.0.1:8787/v1" in told
    model = "relay-model" if (program, protocol) == ("droid", "chat") else FIRST
    assert f'"{model}"' in told
    value = as_json(*words)
    assert value["content"] == result.stdout
    assert (value["program"], value["protocol"], value["model"]) == (program, protocol, model)
    assert value["url"] == "http://127.0.0.1:8787/v1"


@pytest.mark.parametrize(("program", "protocol"), EVERY_BLOCK)
def test_where_the_block_belongs_is_said_beside_it(
    program: str, protocol: str, tmp_path: Path
) -> None:
    result = printed(program, "--protocol", protocol, "--config", configured(tmp_path))
    block = PROGRAMS[program].block(
        Target(protocol="chat", api_url="", model="", context_tokens=0, key=None)
    )
    assert f"file      {block.path}\n" in result.stderr
    assert block.path not in result.stdout


def test_responses_is_spoken_unless_told_otherwise(tmp_path: Path) -> None:
    config = configured(tmp_path)
    for program in PROGRAMS:
        assert as_json(program, "--config", config)["protocol"] == "responses"


def test_a_protocol_that_the_program_does_not_speak_is_refused() -> None:
    result = printed("codex", "--protocol", "chat")
    assert result.exit_code == 2
    assert "Codex CLI speaks responses only" in result.stderr


def test_a_program_that_is_not_known_is_refused() -> None:
    result = printed("emacs")
    assert result.exit_code == 2
    for program in ("opencode", "droid", "codex", "pi", "openai"):
        assert program in result.stderr


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("127.0.0.2", "127.0.0.2"),
        ("localhost", "localhost"),
        ("relay.example", "relay.example"),
    ],
)
def test_a_client_is_told_an_address_that_it_can_use(host: str, named: str, tmp_path: Path) -> None:
    config = configured(tmp_path, server={"host": host, "port": 9000, "client_keys": [SECRET]})
    assert as_json("pi", "--config", config)["url"] == f"http://{named}:9000/v1"


def test_a_port_that_is_not_known_yet_must_be_given(tmp_path: Path) -> None:
    config = configured(tmp_path, server={"port": 0})
    result = printed("pi", "--config", config)
    assert result.exit_code == 2
    assert "Error: server.port is 0" in result.stderr
    assert "give --url the address" in result.stderr
    url = "http://127.0.0.1:41234"
    assert as_json("pi", "--config", config, "--url", url)["url"] == f"{url}/v1"


@pytest.mark.parametrize(
    ("host", "allowed", "told"),
    [
        ("relay.example", [], '["relay.example"]'),
        ("192.0.2.1", ["other"], '["other", "192.0.2.1"]'),
        ("2001:db8::1", [], '["[2001:db8::1]"]'),
        ("relay.example", ["relay.example"], None),
        ("0.0.0.0", [], None),
        ("127.0.0.1", [], None),
    ],
)
def test_the_line_without_which_the_relay_refuses_its_address_is_printed(
    host: str, allowed: list[str], told: str | None, tmp_path: Path
) -> None:
    server = {"host": host, "client_keys": [SECRET], "allowed_hosts": allowed}
    notes = as_json("pi", "--config", configured(tmp_path, server=server))["notes"]
    assert is_object(notes)
    line = notes.get("host")
    if told is None:
        assert line is None
    else:
        assert str(line).startswith(f"server: {{allowed_hosts: {told}}} must stand in")


def test_an_address_that_is_given_is_looked_at_too(tmp_path: Path) -> None:
    words = ("pi", "--config", configured(tmp_path), "--url", "https://relay.example:8443/codex")
    assert 'server: {allowed_hosts: ["relay.example"]}' in printed(*words).stderr


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/v1"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/v1"),
        ("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1"),
        ("https://relay.example/codex", "https://relay.example/codex/v1"),
    ],
)
def test_an_address_is_taken_with_or_without_v1(url: str, read: str, tmp_path: Path) -> None:
    assert as_json("pi", "--config", configured(tmp_path), "--url", url)["url"] == read


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8787", "ftp://relay", "http://", "http://h:port", "http://h/?a=1"]
)
def test_what_is_no_address_is_refused(url: str, tmp_path: Path) -> None:
    result = printed("pi", "--config", configured(tmp_path), "--url", url)
    assert result.exit_code == 2
    assert "--url" in result.stderr


@pytest.mark.parametrize(("program", "protocol"), EVERY_BLOCK)
def test_a_client_key_is_named_by_its_variable_and_never_printed(
    program: str, protocol: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, server={"client_keys": [SECRET]})
    words = (program, "--protocol", protocol, "--config", config)
    plain, value = printed(*words), as_json(*words)
    assert KEY_VARIABLE in plain.stdout
    assert f"set {KEY_VARIABLE} to one of server.client_keys" in plain.stderr
    assert value["key_variable"] == KEY_VARIABLE
    assert SECRET not in plain.output + json.dumps(value)


@pytest.mark.parametrize(("program", "protocol"), EVERY_BLOCK)
def test_no_key_needs_to_be_set_where_the_relay_takes_any(
    program: str, protocol: str, tmp_path: Path
) -> None:
    words = (program, "--protocol", protocol, "--config", configured(tmp_path))
    assert KEY_VARIABLE not in printed(*words).output
    assert as_json(*words)["key_variable"] is None


def place(value: JsonObject, *path: str | int) -> object:
    """Return what stands at a place of a block."""
    at: object = value
    for step in path:
        at = at[step]  # type: ignore[index]
    return at


HEADER = "x-codexrelay-capabilities"
AS_OBJECT = {"include_environment_context": False}
AS_TEXT = "include_environment_context=false"


@pytest.mark.parametrize(
    ("program", "protocol", "path", "value"),
    [
        (
            "opencode",
            "chat",
            ("provider", "codexrelay", "models", FIRST, "options", "codex_capabilities"),
            AS_OBJECT,
        ),
        (
            "opencode",
            "responses",
            ("provider", "codexrelay", "options", "headers", HEADER),
            AS_TEXT,
        ),
        ("droid", "chat", ("customModels", 0, "extraArgs", "codex_capabilities"), AS_OBJECT),
        ("droid", "responses", ("customModels", 0, "extraArgs", "codex_capabilities"), AS_OBJECT),
        (
            "codex",
            "responses",
            ("model_providers", "codexrelay", "http_headers", HEADER),
            AS_TEXT,
        ),
        ("pi", "chat", ("providers", "codexrelay", "headers", HEADER), AS_TEXT),
        ("pi", "responses", ("providers", "codexrelay", "headers", HEADER), AS_TEXT),
        ("openai", "chat", ("extra_body", "codex_capabilities"), AS_OBJECT),
        ("openai", "responses", ("extra_body", "codex_capabilities"), AS_OBJECT),
    ],
)
def test_a_block_shows_where_the_program_sets_capabilities(
    program: str, protocol: str, path: tuple[str | int, ...], value: object, tmp_path: Path
) -> None:
    result = printed(program, "--protocol", protocol, "--config", configured(tmp_path))
    assert place(parsed(result.stdout, program), *path) == value
    assert "optional  " in result.stderr


@pytest.mark.parametrize(("program", "protocol"), EVERY_BLOCK)
def test_a_block_can_ask_for_other_capabilities(program: str, protocol: WireProtocol) -> None:
    asked: Final = {"codex_passthrough": False, "prompt_mode": "custom_only"}
    target = Target(
        protocol=protocol,
        api_url="http://127.0.0.1:1/v1",
        model="gpt-5.5",
        context_tokens=1,
        key="any",
        capabilities=asked,
    )
    told = parsed(PROGRAMS[program].block(target).text, program)
    assert [*asked_for(told)] == [
        asked
        if program in ("openai", "droid") or (program, protocol) == ("opencode", "chat")
        else "codex_passthrough=false, prompt_mode=custom_only"
    ]


def asked_for(told: object) -> Iterator[object]:
    """Yield what stands wherever a program asks something of the relay."""
    if isinstance(told, dict):
        for key, value in told.items():
            if key in ("codex_capabilities", HEADER):
                yield value
            yield from asked_for(value)
    elif isinstance(told, list):
        for value in told:
            yield from asked_for(value)


def test_a_model_may_be_named(tmp_path: Path) -> None:
    words = ("pi", "--config", configured(tmp_path))
    assert as_json(*words, "--model", "gpt-5.5?reasoning_effort=low")["model"] == (
        "gpt-5.5?reasoning_effort=low"
    )
    big = json.loads(printed(*words, "--model", "openai-codex:gpt-6.1-terra").stdout)
    assert big["providers"]["codexrelay"]["models"][0]["contextWindow"] == 500_000


def test_a_model_that_is_in_no_list_is_told_and_taken(tmp_path: Path) -> None:
    words = ("pi", "--config", configured(tmp_path), "--model")
    assert "model     " not in printed(*words, "gpt-5.5-high").stderr
    assert "the relay's list has no gpt-9: see codexrelay models" in printed(*words, "gpt-9").stderr
    assert as_json(*words, "gpt-9")["model"] == "gpt-9"


def test_a_model_that_is_in_no_list_is_refused_where_the_relay_is_strict(tmp_path: Path) -> None:
    strict = configured(tmp_path, models={"strict": True})
    result = printed("pi", "--config", strict, "--model", "gpt-9")
    assert result.exit_code == 2
    assert "the relay's list has no gpt-9, and with models.strict it is refused" in result.stderr
    assert as_json("pi", "--config", strict, "--model", "gpt-5.5-high")["model"] == "gpt-5.5-high"


def test_an_alias_that_means_something_else_is_left_alone_and_named(tmp_path: Path) -> None:
    config = configured(tmp_path, models={"aliases": {"Relay-Model": FIRST}})
    words = ("droid", "--protocol", "chat", "--model", "gpt-5.5", "--config", config)
    result = printed(*words)
    assert json.loads(result.stdout)["customModels"][0]["model"] == "relay-model-2"
    assert "models: {aliases: {relay-model-2: gpt-5.5}} must stand in" in result.stderr
    assert f"(relay-model means {FIRST} there)" in result.stderr


def test_a_list_without_models_is_told() -> None:
    with pytest.raises(RequestError, match="name one"):
        name_for(None, {}, aliases={}, openai_like=True)


def test_a_model_whose_name_the_relay_would_refuse_is_refused(tmp_path: Path) -> None:
    result = printed("pi", "--config", configured(tmp_path), "--model", "gpt-5.5?effort=high")
    assert result.exit_code == 2
    assert "--model" in result.stderr
    assert "a model has no parameter 'effort'" in result.stderr


def test_what_an_earlier_relay_learnt_of_the_models_counts(tmp_path: Path) -> None:
    config = configured(tmp_path)
    loaded = printed("pi", "--config", config)
    assert FIRST in loaded.stdout
    _keep_list(config)
    told = json.loads(printed("pi", "--config", config).stdout)
    (model,) = told["providers"]["codexrelay"]["models"]
    assert (model["id"], model["contextWindow"]) == ("of-tomorrow", 1234)


def _keep_list(config: str) -> None:
    settings = load(config_path=Path(config), environ={}, flags={}).settings
    entry: JsonObject = {"slug": "of-tomorrow", "visibility": "list", "context_window": 1234}
    shelf_of(settings).save(
        [Listing(plan=None, models=(entry,), etag=None, fetched_unix_s=1.0, client_version="1.0.0")]
    )


def chosen(wanted: str | None, **aliases: str) -> Named:
    """Return the model for a client that minds names like OpenAI's."""
    named = {name.replace("_", "-"): target for name, target in aliases.items()}
    return name_for(wanted, MODELS, aliases=named, openai_like=False)


@pytest.mark.parametrize(
    ("wanted", "aliases", "named"),
    [
        (None, {}, Named(name="relay-model", context_tokens=272_000, alias_of=FIRST)),
        ("gpt-5.5", {}, Named(name="relay-model", context_tokens=272_000, alias_of="gpt-5.5")),
        (
            "codex-auto-review",
            {},
            Named(name="relay-model", context_tokens=272_000, alias_of="codex-auto-review"),
        ),
        (None, {"mine": "gpt-6.1-terra"}, Named(name="mine", context_tokens=500_000)),
        ("gpt-5.5", {"mine": "gpt-5.5"}, Named(name="mine", context_tokens=272_000)),
        (
            "gpt-5.5",
            {"mine": FIRST},
            Named(name="relay-model", context_tokens=272_000, alias_of="gpt-5.5"),
        ),
        (
            None,
            {"gpt_5_mine": FIRST},
            Named(name="relay-model", context_tokens=272_000, alias_of=FIRST),
        ),
        ("mine", {"mine": "gpt-6.1-terra"}, Named(name="mine", context_tokens=500_000)),
    ],
    ids=[
        "none is configured",
        "for a model that is named",
        "for the one whose name says codex",
        "the configured one",
        "the one of the model that is named",
        "one of another model does not count",
        "one with such a name itself does not count",
        "named itself",
    ],
)
def test_droid_over_chat_is_given_an_alias(
    wanted: str | None, aliases: dict[str, str], named: Named
) -> None:
    assert chosen(wanted, **aliases) == named


def test_the_line_that_makes_the_alias_is_printed(tmp_path: Path) -> None:
    words = ("droid", "--protocol", "chat", "--config")
    told = printed(*words, configured(tmp_path)).stderr
    line = f"models: {{aliases: {{relay-model: {FIRST}}}}}"
    assert line in told
    path = tmp_path / "config.yaml"
    path.write_text(f"{line}\nsessions: {{state_path: {tmp_path}}}\n", "utf-8")
    with_alias = printed(*words, str(path))
    assert json.loads(with_alias.stdout)["customModels"][0]["model"] == "relay-model"
    assert "alias " not in with_alias.stderr


def test_a_configuration_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("server: {prot: 1}", "utf-8")
    result = printed("pi", environ={"CODEXRELAY_CONFIG": str(path)})
    assert result.exit_code == 2
    assert "did you mean server.port?" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("protocol", ["responses", "chat"])
async def test_the_python_block_runs_and_its_capabilities_go_no_further_than_the_relay(
    protocol: str, tmp_path: Path
) -> None:
    async with relaying(tmp_path, Simulator()) as relay:
        config = configured(tmp_path)
        words = ("openai", "--protocol", protocol, "--model", "gpt-5.5", "--url", relay.url)
        program = tmp_path / "hello.py"
        program.write_text(printed(*words, "--config", config).stdout, "utf-8")
        run = partial(
            subprocess.run,
            (sys.executable, "-I", str(program)),
            capture_output=True,
            text=True,
            env={**bare_environment(tmp_path), "TMPDIR": str(tmp_path)},
            check=False,
        )
        with trio.fail_after(3 * PATIENCE_S):
            done = await trio.to_thread.run_sync(run)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        (asked,) = relay.asked
    assert is_object(asked.body)
    assert "codex_capabilities" not in asked.body
    assert "extra_body" not in asked.body
