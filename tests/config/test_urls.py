"""URLs of a configuration: which are taken, and that no password in one is ever repeated."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.cli import main
from codexrelay.config import Loaded, load
from codexrelay.config.shown import shown
from codexrelay.errors import ConfigError

_BACKEND: Final = "backends.openai_codex"
_URLS: Final = (
    f"{_BACKEND}.proxy",
    f"{_BACKEND}.api_base_url",
    f"{_BACKEND}.extra.codex.oauth_issuer",
)
#: What is no URL, and where people put one by mistake.
_OTHERS: Final = (f"{_BACKEND}.transport", "server.port", f"{_BACKEND}.identity")


def loaded(**flags: object) -> Loaded:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load(config_path=None, environ={}, flags=named)


def problem_with(url: str, **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(backends__openai_codex__api_base_url=url, **flags)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://h /x",
        "http://h/a b",
        "http://h/\u00a0x",
        "http://h/\nx",
        "http://h\x01/x",
        "http://h\t/x",
        "http://h:99999/x",
        "http://h:0",
        "http://999.1.1.1/x",
        "http://[::g]/x",
        "http://[::1/x",
        "http://a%20b/x",
        "http://h\u00fc/x",
        "http://a@b@c/x",
        "http://u:1/x@h",
        "http://u\\x@h",
        "http://h/?",
        "http://h/x#",
    ],
)
def test_a_base_url_that_could_not_be_called_is_a_problem(url: str) -> None:
    assert "must be an http or https URL" in problem_with(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://h",
        "HTTP://H.test:1/x/",
        "http://[::1]:5/x",
        "http://10.0.0.1",
        "http://u:p%40ss@h/x",
        "http://h_1.test/%20x",
    ],
)
def test_a_base_url_that_can_be_called_is_taken(url: str) -> None:
    loaded(backends__openai_codex__api_base_url=url)
    assert httpx.URL(url).host


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x2100, exclude_categories=["Cs"]), max_size=20))
def test_whatever_is_taken_can_be_called(rest: str) -> None:
    for url in (f"http://{rest}", f"https://h{rest}/x"):
        try:
            loaded(backends__openai_codex__api_base_url=url)
        except ConfigError:
            continue
        assert httpx.URL(url).host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.9.9.9", "0.0.0.0", "a.localhost"]
)
def test_a_base_url_that_is_the_relay_itself_is_a_problem(host: str) -> None:
    problem = problem_with(f"http://{host}:8787/v1")
    assert problem.startswith("--api-base-url: is the relay itself (server.host and server.port)")


def test_the_relay_itself_is_also_what_it_listens_on_and_the_port_of_the_scheme() -> None:
    keyed = {"server__client_keys": "a-key-that-is-long-enough"}
    flags = {"server__host": "10.1.2.3", "server__port": "80", **keyed}
    assert "is the relay itself" in problem_with("http://10.1.2.3/v1", **flags)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8788/v1", "http://10.0.0.1:8787", "https://h"])
def test_another_port_or_machine_is_not_the_relay(url: str) -> None:
    loaded(backends__openai_codex__api_base_url=url)


@pytest.mark.parametrize(
    "proxy", ["http://p.test:1/x", "http://u:p w@h:1", "http://p.test: 1", "http://u:1/2@h:3"]
)
def test_a_proxy_with_a_blank_or_a_path_is_a_problem(proxy: str) -> None:
    with pytest.raises(ConfigError, match="must be none, or an http or https URL"):
        loaded(backends__openai_codex__proxy=proxy)


_PASSWORDS: Final = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["C"]), min_size=8
).filter(lambda text: len(set(text)) > 4)
_FORMS: Final = st.sampled_from(
    [
        "http://me:%s@h.test:3128",
        "me:%s@h.test:3128",
        "%s@h",
        "https://%s@h",
        "//me:%s@h",
        "x y:%s@h",
    ]
)


def said_of(key: str, url: str, folder: Path) -> str:
    """Return everything that is said of a configuration with this URL."""
    tree: object = url
    for part in reversed(key.split(".")):
        tree = {part: tree}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    try:
        found = load(config_path=path, environ={}, flags={})
    except ConfigError as error:
        return str(error)
    told = [str((one.name, one.value, one.origin)) for one in shown(found)]
    return "\n".join((*told, *map(str, found.warnings), repr(found.settings), repr(found)))


@settings(deadline=None)
@given(
    key=st.sampled_from([*_URLS, *_OTHERS]), form=_FORMS, password=_PASSWORDS, long=st.booleans()
)
def test_no_password_in_a_url_is_ever_repeated(
    key: str, form: str, password: str, long: bool
) -> None:
    password += "x" * 200 if long else ""
    with TemporaryDirectory() as folder:
        said = said_of(key, form % password, Path(folder))
    # Neither as it is nor as Python writes it, nor its beginning.
    for text in {password, repr(password)[1:-1], password[:8]}:
        assert text not in said


@pytest.mark.parametrize("command", [["show"], ["show", "--json"], ["check", "FILE"]])
@pytest.mark.parametrize(
    "proxy",
    ["http://me:s3cr/et@h:1", "me:s3cret@h:1", "http://me:s3c@ret@h:1", "http://me:s3cret@h"],
)
def test_no_command_shows_the_password_of_a_proxy(
    tmp_path: Path, command: list[str], proxy: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"backends": {"openai_codex": {"proxy": proxy}}}))
    told = [str(path) if word == "FILE" else word for word in command]
    result = CliRunner().invoke(main, ["config", *told], env={"CODEXRELAY_CONFIG": str(path)})
    assert "s3c" not in result.output + result.stderr
    assert "Traceback" not in result.output


def test_what_follows_a_comma_in_a_url_without_quotes_is_not_repeated() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text("backends: {openai_codex: {proxy: http://me:one,two@h:1}}")
        with pytest.raises(ConfigError) as caught:
            load(config_path=path, environ={}, flags={})
    assert "two" not in str(caught.value)
