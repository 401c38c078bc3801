"""`config.example.yaml` is the reference of all keys, hence must be true."""

from __future__ import annotations

import itertools
from pathlib import Path

from codexrelay.config import load
from codexrelay.config.environment import VARIABLES
from codexrelay.config.keys import KEYS, Given
from codexrelay.config.yaml_file import read

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
LINES = EXAMPLE.read_text(encoding="utf-8").splitlines()


def test_the_example_has_every_key_once_in_the_order_of_the_classes() -> None:
    found = read(EXAMPLE, named_by="--config").found
    assert [given.key.name for given in found if isinstance(given, Given)] == [
        key.name for key in KEYS.values()
    ]


def test_the_example_holds_the_defaults() -> None:
    for given in read(EXAMPLE, named_by="--config").found:
        assert isinstance(given, Given)
        assert given.key.check(given.value) == given.key.field.default, given.where


def test_the_example_loads_without_a_warning() -> None:
    assert load(config_path=EXAMPLE, environ={}, flags={}).warnings == ()


def test_the_example_explains_every_key_in_a_comment_above_it() -> None:
    keys = {key.path[-1] for key in KEYS.values()}
    for above, line in itertools.pairwise(LINES):
        name, _, _ = line.strip().partition(":")
        if name in keys:
            assert above.strip().startswith("# "), line


def test_the_further_instance_that_the_example_shows_is_what_an_empty_block_says(
    tmp_path: Path,
) -> None:
    begin = LINES.index("  # openai_codex.2:")
    shown = itertools.takewhile(lambda line: line != "  #", LINES[begin:])
    block = [line.replace("# ", "", 1) for line in shown]
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


def test_the_example_names_every_variable() -> None:
    text = "\n".join(LINES)
    prefix = "OPENAI_CODEX_MANAGED_OAUTH_"
    assert prefix in text
    for variable, name in VARIABLES.items():
        if variable.startswith(prefix):  # said once for all of them
            assert variable == prefix + name.rpartition(".")[2].upper()
        else:
            assert f"({variable})" in text
