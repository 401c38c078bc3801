"""`config.example.yaml` is the reference of all keys, hence drawn from the settings classes."""

from __future__ import annotations

import itertools
from pathlib import Path

from codexrelay.config import load
from codexrelay.config.dropped import DROPPED
from codexrelay.config.example import example
from codexrelay.config.keys import (
    KEYS,
    OTHER_BLOCK,
    OTHER_KEYS,
    SECTIONS,
    VARIABLES,
    Given,
    in_block,
)
from codexrelay.config.yaml_file import read

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
#: The lines of each key's comment, as one text.
COMMENTS: dict[str, str] = {}


def _collect() -> None:
    above: list[str] = []
    path: list[str] = []
    for line in LINES:
        bare = line.strip()
        if bare.startswith("#"):
            above.append(bare.removeprefix("#").strip())
            continue
        if bare:
            depth = (len(line) - len(line.lstrip())) // 2
            path[depth:] = [bare.partition(":")[0]]
            COMMENTS[".".join(path)] = " ".join(above)
        above.clear()


_collect()


def test_the_file_is_what_the_settings_classes_say() -> None:
    assert example() == TEXT, "run `codexrelay config example > config.example.yaml`"


def test_the_example_has_every_key_once_in_the_order_of_the_classes() -> None:
    found = read(EXAMPLE, named_by="--config").found
    assert [given.key.name for given in found if isinstance(given, Given)] == [
        key.name for key in KEYS.values() if not key.is_mapping
    ]
    assert [name for name in COMMENTS if tuple(name.split(".")) in KEYS] == [
        key.name for key in KEYS.values()
    ]


def test_the_example_holds_the_defaults() -> None:
    for given in read(EXAMPLE, named_by="--config").found:
        assert isinstance(given, Given)
        assert given.key.check(given.value) == given.key.default, given.where


def test_the_example_loads_without_a_warning() -> None:
    assert load(config_path=EXAMPLE, environ={}, flags={}).warnings == ()


def test_the_example_explains_every_key_and_every_section_in_a_comment_above_it() -> None:
    for path in (*KEYS, *(section for section in SECTIONS if section)):
        if "*" not in path and path[:2] != OTHER_BLOCK:
            assert len(COMMENTS[".".join(path)]) > 15, path


def test_the_example_says_what_each_key_takes_and_which_need_a_restart() -> None:
    for key in KEYS.values():
        told = COMMENTS[key.name]
        assert f"({key.takes}" in told, key.name
        assert ("restart)" in told) is not key.about.live, key.name


def test_the_example_names_every_variable_at_its_key() -> None:
    for variable, path in VARIABLES.items():
        assert variable in COMMENTS[".".join(path)]


def test_the_example_lists_what_is_refused_with_the_reason() -> None:
    refused = " ".join(line.removeprefix("#").strip() for line in LINES if line.startswith("#"))
    for name, reason in DROPPED.items():
        assert name.removeprefix("backends.openai_codex.") in refused
        assert reason in refused


def test_no_line_of_the_example_is_too_long_to_read() -> None:
    assert max(map(len, LINES)) <= 100


def taken_in(begin: str) -> list[str]:
    """Return the lines of a block that is a comment, as they are without that."""
    shown = itertools.takewhile(
        lambda line: line.startswith("  # "), LINES[LINES.index(f"  # {begin}:") :]
    )
    return [line.replace("# ", "", 1) for line in shown]


def test_the_backend_of_another_kind_that_the_example_shows_has_every_key_at_its_default(
    tmp_path: Path,
) -> None:
    one, other = tmp_path / "shown.yaml", tmp_path / "short.yaml"
    one.write_text("\n".join([*LINES, *taken_in("local")]), encoding="utf-8")
    url = OTHER_KEYS[*OTHER_BLOCK, "api_base_url"].about.needed
    short = f"  local: {{type: openai, api_base_url: '{url}'}}"
    other.write_text("\n".join([*LINES, short]), encoding="utf-8")
    loaded = [load(config_path=path, environ={}, flags={}) for path in (one, other)]
    assert loaded[0].settings == loaded[1].settings
    assert len(loaded[0].settings.backends.others) == 1
    in_file = [name for name, given in loaded[0].found.items() if given.origin.kind == "file"]
    assert [name for name in in_file if name.startswith("backends.local.")] == [
        in_block(key, "local").name for key in OTHER_KEYS.values() if not key.is_mapping
    ]


def test_the_example_explains_every_key_of_another_backend() -> None:
    told = " ".join(line.strip().removeprefix("# ") for line in taken_in("local"))
    for key in OTHER_KEYS.values():
        assert key.about.meaning in told, key.name
        assert f"({key.facts})" in told, key.name


def test_the_further_instance_that_the_example_shows_is_what_an_empty_block_says(
    tmp_path: Path,
) -> None:
    block = taken_in("openai_codex.2")
    assert len(block) > 5
    one, other = tmp_path / "shown.yaml", tmp_path / "empty.yaml"
    one.write_text("\n".join([*LINES, *block]), encoding="utf-8")
    other.write_text("\n".join([*LINES, "  openai_codex.2: {}"]), encoding="utf-8")
    families = [
        load(config_path=path, environ={}, flags={}).settings.backends.family
        for path in (one, other)
    ]
    assert families[0] == families[1]
    assert len(families[0]) == 2
