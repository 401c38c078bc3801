"""`codexrelay config`: show, check, example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
from click.testing import CliRunner

from codexrelay.cli import main
from codexrelay.config.keys import FIRST_BLOCK, KEYS, VARIABLES

if TYPE_CHECKING:
    from click.testing import Result

_FIRST: Final = "backends.openai_codex"
_CODEX: Final = f"{_FIRST}.extra.codex"
#: Variables of the machine that the tests run on.
_NONE: Final[dict[str, str | None]] = dict.fromkeys((*VARIABLES, "CODEXRELAY_CONFIG"))


@attrs.frozen
class Command:
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "c.yaml"

    def run(self, *arguments: str, yaml: str | None = None, **environ: str) -> Result:
        if yaml is not None:
            self.file.write_text(yaml, encoding="utf-8")
        return CliRunner().invoke(main, ["config", *arguments], env={**_NONE, **environ})

    def shown(self, *arguments: str, yaml: str = "", **environ: str) -> dict[str, str]:
        """Return what `show` says of each key."""
        result = self.run("show", "--config", str(self.file), *arguments, yaml=yaml, **environ)
        assert result.exit_code == 0, result.output
        lines = [line.partition(": ") for line in result.stdout.splitlines()]
        return {name: told for name, _, told in lines}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


# show


def test_it_shows_every_key_without_a_file_too(command: Command) -> None:
    result = command.run("show")
    assert result.exit_code == 0
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [
        key.name for key in KEYS.values()
    ]
    assert all(line.endswith("  # default") for line in result.stdout.splitlines())


def test_it_shows_where_each_value_comes_from(command: Command) -> None:
    shown = command.shown(
        *("--port", "1", "--default-capabilities-protocol", "openai-chat"),
        yaml="server:\n  host: localhost\n  port: 2\nmodels:\n  aliases:\n    fast: gpt-5.5\n",
        OPENAI_CODEX_PATH="/codex",
        OPENAI_CODEX_DEFAULT_CAPABILITIES='{"prompt_mode": "custom_only"}',
    )
    capabilities = f"{_CODEX}.default_capabilities"
    assert {
        "server.host": f"localhost  # {command.file}:2",
        "server.port": "1  # --port",
        "server.log_level": "info  # default",
        "models.aliases.fast": f"gpt-5.5  # {command.file}:6",
        f"{_FIRST}.auth_path": f"{Path('/codex').absolute()}  # OPENAI_CODEX_PATH",
        f"{capabilities}.prompt_mode": "custom_only  # OPENAI_CODEX_DEFAULT_CAPABILITIES",
        f"{capabilities}.protocol": "openai-chat  # --default-capabilities-protocol",
        f"{capabilities}.tool_schema_mode": "null  # default",
        f"{_CODEX}.agent_capabilities": "{}  # default",
    }.items() <= shown.items()


_OTHER: Final = (
    "backends:\n  my_box:\n    type: openai\n    api_base_url: http://me:hunter2@127.0.0.1:1/v1\n"
    "    headers: {x-key: hunter2}\n"
)


def test_it_shows_a_backend_of_another_kind_without_its_secrets(command: Command) -> None:
    shown = command.shown(yaml=_OTHER)
    assert {
        "backends.my_box.type": f"openai  # {command.file}:3",
        "backends.my_box.api_base_url": f"http://…@127.0.0.1:1/v1  # {command.file}:4",
        "backends.my_box.headers.x-key": f"<hidden>  # {command.file}:5",
        "backends.my_box.wire": "chat  # default",
        "backends.my_box.budgets.turn_s": "3600  # default",
    }.items() <= shown.items()
    assert "hunter2" not in command.run("show", "--config", str(command.file), "--json").output


@pytest.mark.parametrize(
    ("flags", "key", "told"),
    [
        (["--enable-context-compaction"], "compaction.enabled", "true"),
        (["--enable-context-compaction", "true"], "compaction.enabled", "true"),
        (["--enable-context-compaction=false"], "compaction.enabled", "false"),
        (["--compaction-enabled"], "compaction.enabled", "true"),
        (["--compaction-min-tokens", "5"], "compaction.token_threshold", "5"),
        (["--compaction-token-threshold", "5"], "compaction.token_threshold", "5"),
        (["--enable-dynamic-compression"], "dynamic_compression.enabled", "true"),
        (["--enable-dynamic-compression", "no"], "dynamic_compression.enabled", "false"),
        (["--dynamic-compression-level", "balanced"], "dynamic_compression.level", "balanced"),
        (["--dynamic-compression-min-bytes", "9"], "dynamic_compression.min_bytes", "9"),
        (
            ["--dynamic-compression-disable-tools", "bash,grep"],
            "dynamic_compression.disable_tools",
            "[bash, grep]",
        ),
        (["--models-strict"], "models.strict", "true"),
    ],
)
def test_a_switch_may_stand_alone_and_a_flag_may_have_several_names(
    command: Command, flags: list[str], key: str, told: str
) -> None:
    shown = command.shown(*flags, "--port", "1", ENABLE_CONTEXT_COMPACTION="no")
    value, _, place = shown[key].partition("  # ")
    assert value == told
    assert flags[0].partition("=")[0] in place.split("/")
    assert shown["server.port"] == "1  # --port"


def test_what_is_wrong_with_a_flag_is_told_with_all_its_names(command: Command) -> None:
    result = command.run("show", "--enable-context-compaction", "maybe")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "codexrelay: --compaction-enabled/--enable-context-compaction: must be true, yes, on, "
    )


def test_it_shows_folders_as_absolute_paths(command: Command) -> None:
    shown = command.shown(yaml="sessions: {state_path: state}")
    assert shown["sessions.state_path"] == f"{command.folder / 'state'}  # {command.file}:1"
    store = Path.cwd() / "var" / "openai_codex_oauth_accounts"
    assert shown[f"{_CODEX}.managed_oauth.storage_path"] == f"{store}  # default"


def test_it_shows_no_secret(command: Command) -> None:
    yaml = (
        "server: {client_keys: [hunter2-hunter2-hunter2, hunter2]}\n"
        "models: {aliases: {a: 'x/https://me:hunter2@models.test/x'}}\n"
        "backends: {openai_codex: {proxy: 'http://me:hunter2@proxy.test:3128', "
        "api_base_url: 'http://me:hunter2@127.0.0.1/x'}}\n"
    )
    for more in ((), ("--json",)):
        result = command.run("show", "--config", str(command.file), *more, yaml=yaml)
        assert result.exit_code == 0
        assert "hunter2" not in result.output
    shown = command.shown(yaml=yaml)
    assert shown["server.client_keys"].startswith("<2 hidden>  # ")
    assert shown[f"{_FIRST}.proxy"].startswith("http://…@proxy.test:3128  # ")


def test_it_shows_a_text_of_several_lines_in_one(command: Command) -> None:
    shown = command.shown(OPENAI_CODEX_PROMPT_TEMPLATE="Be brief.\nBe kind. \x1b[2J")
    told = shown[f"{_CODEX}.prompt.template"]
    assert told == '"Be brief.\\nBe kind. \\e[2J"  # OPENAI_CODEX_PROMPT_TEMPLATE'


def test_it_shows_further_instances_and_what_they_take_over(command: Command) -> None:
    yaml = (
        "backends:\n"
        "  openai_codex.2:\n"
        "    weight: 3\n"
        "    extra: {codex: {agent_capabilities: {pi: {protocol: openai-chat}}}}\n"
        "  openai_codex:\n"
        "    timeout: 5\n"
        "    extra: {codex: {agent_capabilities: {pi: {prompt_mode: custom_only}}}}\n"
    )
    shown = command.shown(yaml=yaml)
    agents = "extra.codex.agent_capabilities.pi"
    assert {
        f"{_FIRST}.2.weight": f"3  # {command.file}:3",
        f"{_FIRST}.2.timeout": f"5  # as the first block: {command.file}:6",
        f"{_FIRST}.2.transport": "direct  # default",
        f"{_FIRST}.2.{agents}.protocol": f"openai-chat  # {command.file}:4",
        f"{_FIRST}.2.{agents}.prompt_mode": (
            f"custom_only  # as the first block: {command.file}:7"
        ),
        f"{_FIRST}.weight": "1  # default",
    }.items() <= shown.items()
    in_block = [key for key in KEYS if key[: len(FIRST_BLOCK)] == FIRST_BLOCK]
    assert len(shown) == len(KEYS) + len(in_block) + 1


def test_it_shows_json_for_programs(command: Command) -> None:
    result = command.run(
        *("show", "--config", str(command.file), "--json"),
        yaml="server: {client_keys: [0123456789abcdef, short]}\nbackends: {openai_codex.2: {}}\n",
    )
    told = json.loads(result.stdout)
    by_key = {one["key"]: one for one in told["keys"]}
    assert by_key["server.port"] == {
        "key": "server.port",
        "value": 8787,
        "source": "default",
        "place": None,
        "as_first_block": False,
        "restart": True,
    }
    assert by_key["server.client_keys"] == {
        "key": "server.client_keys",
        "value": "<2 hidden>",
        "source": "file",
        "place": f"{command.file}:1",
        "as_first_block": False,
        "restart": False,
    }
    assert by_key[f"{_FIRST}.2.timeout"]["value"] == 120.0
    assert [warning["where"] for warning in told["warnings"]] == [
        f"server.client_keys ({command.file}:1)"
    ]


def test_what_should_be_looked_at_goes_beside_the_values(command: Command) -> None:
    result = command.run("show", OPENAI_CODEX_PTAH="x")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "codexrelay: warning: OPENAI_CODEX_PTAH: no such setting, ignored; "
        "did you mean OPENAI_CODEX_PATH?"
    ]


def test_a_configuration_that_cannot_be_used_is_not_shown(command: Command) -> None:
    result = command.run("show", "--port", "x", "--host", "0.0.0.0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "codexrelay: --port: must be a whole number, not the text 'x'",
        "codexrelay: --host: 0.0.0.0 can be reached from other machines, and anyone there could "
        "use your accounts: set server.client_keys, or leave server.host at 127.0.0.1",
    ]


def test_the_help_of_its_flags_says_what_they_mean() -> None:
    told = " ".join(CliRunner().invoke(main, ["config", "show", "--help"]).stdout.split())
    assert "--port VALUE Port to listen on; 0 lets the system choose one." in told
    assert "[server.port; default: 8787]" in told


# check


def test_a_file_that_is_fine_is_said_to_be(command: Command) -> None:
    result = command.run("check", str(command.file), yaml="server: {port: 1}")
    assert (result.exit_code, result.stdout) == (0, f"{command.file}: fine\n")


def test_warnings_about_a_file_that_is_fine_are_listed(command: Command) -> None:
    yaml = "backends: {openai_codex: {api_base_url: http://127.0.0.1:1/x}}"
    result = command.run("check", str(command.file), yaml=yaml)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{command.file}: fine",
        f"warning: {_FIRST}.api_base_url ({command.file}:1): access tokens go to "
        "http://127.0.0.1:1, not to https://chatgpt.com",
    ]


_BAD: Final = "server:\n  port: 99999\n  prot: 1\nsession: {enabled: true}\n"


def test_all_problems_of_a_file_are_told(command: Command) -> None:
    result = command.run("check", str(command.file), yaml=_BAD)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"codexrelay: server.port ({command.file}:2): must be <= 65535, not the number 99999",
        f"codexrelay: server.prot ({command.file}:3): unknown key; did you mean server.port?",
        f"codexrelay: session.enabled ({command.file}:4): not supported: sessions are known by "
        "what clients send, and `sessions` says what is kept of them: max_sessions, idle_seconds, "
        "keep_days and state_path",
    ]


def test_problems_are_told_as_json_too(command: Command) -> None:
    result = command.run("check", str(command.file), "--json", yaml=_BAD)
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["fine"] is False
    assert [problem["where"].partition(" (")[0] for problem in told["problems"]] == [
        "server.port",
        "server.prot",
        "session.enabled",
    ]
    result = command.run("check", str(command.file), "--json", yaml="")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"fine": True, "problems": [], "warnings": []},
    )


def test_a_file_that_is_not_there_is_a_problem(command: Command) -> None:
    result = command.run("check", str(command.file))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"codexrelay: FILE {command.file}: cannot be read: No such fil")


# example


def test_the_example_is_the_file_of_the_repository(command: Command) -> None:
    result = command.run("example")
    repository = Path(__file__).parents[2] / "config.example.yaml"
    assert (result.exit_code, result.stdout) == (0, repository.read_text(encoding="utf-8"))


def test_the_example_can_be_used_as_it_is(command: Command) -> None:
    result = command.run("check", str(command.file), yaml=command.run("example").stdout)
    assert (result.exit_code, result.stdout) == (0, f"{command.file}: fine\n")
