"""`websocket` of a Codex backend: three words, two of which YAML reads as booleans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.config import load
from codexrelay.config.keys import KEYS
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.config.settings import Settings

KEY = "backends.openai_codex.websocket"


def loaded(path: Path, text: str, **environ: str) -> Settings:
    path.write_text(text)
    return load(config_path=path, environ=environ, flags={}).settings


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("auto", "auto"),
        ("on", "on"),
        ("off", "off"),
        ("'on'", "on"),
        ('"off"', "off"),
        ("true", "on"),
        ("no", "off"),
    ],
)
def test_bare_words_count_although_yaml_reads_booleans(
    written: str, expected: str, tmp_path: Path
) -> None:
    text = f"backends: {{openai_codex: {{websocket: {written}}}}}"
    assert loaded(tmp_path / "c.yaml", text).backends.openai_codex.websocket == expected


@pytest.mark.parametrize("written", ["maybe", "1", "null", "[on]", "'true'"])
def test_anything_else_stops_the_start_with_the_path_and_the_values(
    written: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path / "c.yaml", f"backends: {{openai_codex: {{websocket: {written}}}}}")
    told = str(caught.value)
    assert told.startswith(f"{KEY} ({tmp_path}")
    assert "must be one of auto, on, off, not " in told


def test_each_instance_has_its_own_and_else_that_of_the_first(tmp_path: Path) -> None:
    text = """
        backends:
          openai_codex: {websocket: on}
          openai_codex.2: {websocket: off}
          openai_codex.3: {weight: 2}
    """
    family = dict(loaded(tmp_path / "c.yaml", text).backends.family)
    assert [codex.websocket for codex in family.values()] == ["on", "off", "on"]


def test_a_wrong_one_of_another_instance_is_named_as_it_stands(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"backends\.openai_codex\.2\.websocket .* must be one of"
    ):
        loaded(tmp_path / "c.yaml", "backends: {openai_codex.2: {websocket: 7}}")


@pytest.mark.parametrize(("said", "expected"), [("on", "on"), ("OFF", "off"), ("auto", "auto")])
def test_a_variable_says_it_too(said: str, expected: str, tmp_path: Path) -> None:
    settings = loaded(tmp_path / "c.yaml", "{}", OPENAI_CODEX_WEBSOCKET=said)
    assert settings.backends.openai_codex.websocket == expected


def test_it_acts_without_a_restart_and_is_auto_by_default() -> None:
    key = KEYS[tuple(KEY.split("."))]
    assert (key.about.live, key.default) == (True, "auto")
