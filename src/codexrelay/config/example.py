"""`config.example.yaml`: all keys, defaults and meanings, drawn from the settings classes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from codexrelay.accounts.settings import DEFAULT_STORAGE_PATH
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.config.dropped import DROPPED
from codexrelay.config.keys import (
    KEYS,
    OTHER_BLOCK,
    OTHER_KEYS,
    KeyPath,
    is_section,
    parts_of,
)
from codexrelay.config.settings import Settings
from codexrelay.config.yaml_file import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    import attrs

_WIDTH: Final = 100
_IN_BLOCK: Final = "backends.openai_codex."
_HEAD: Final = """\
Every key of codexrelay with its default. Copy what you want to change into a file of your own and
start with `codexrelay serve --config FILE` (or name the file in CODEXRELAY_CONFIG); no file is read
unless it is named. A flag beats the environment, the environment beats this file; `codexrelay
config show` tells what is in force and where it comes from. Unknown keys, keys that stand twice and
values out of range stop the start, all reported together; `codexrelay config check FILE` reports
them too.

In parentheses: what a key takes, the environment variable that gives it (of two, the second wins),
and `restart` where a running relay must be started again for a new value to act. All other keys act
as soon as the file is saved. In a variable or a flag, a list is a JSON array or separated by
commas, a mapping is a JSON object, and null stands for null. Mappings of several sources are merged
key by key.

This file is what `codexrelay config example` prints.
"""
_FURTHER: Final = f"""
  # Further instances of the backend, each with accounts of its own, are blocks beside the first:
  # openai_codex.2, openai_codex.3 and so on. A client asks for one with the model name
  # openai-codex.2:gpt-5.5; one that names no instance is given any, by weight. A key that is not
  # given is what the first block has it at in the end (variables and flags speak of the first
  # block), except these:
  #
  # openai_codex.2:
  #   weight: 1
  #   auth_path: null                   # CODEX_HOME and ~/.codex are the first block's alone
  #   extra:
  #     codex:
  #       managed_oauth:
  #         storage_path: {DEFAULT_STORAGE_PATH}.2   # the first one's and .2
  #         accounts: all
  #         allow_legacy_fallback: false                      # true when auth_path is given
  #
  # No account may serve two instances: the same storage_path with lists of accounts that overlap,
  # or the same auth.json, stops the start.
"""
_OTHER: Final = """\
Backends of other kinds: servers that speak the OpenAI API, here or elsewhere. Each is a block with
a name of your own (letters, digits, ., _ and -, beginning with a letter). A client asks for its
models with that name before theirs, as in local:qwen3; default_backend, models.aliases and
models.routes may name it too. Neither accounts nor instructions of Codex go there.
"""
_REFUSED: Final = """\
Keys that relays of this kind have elsewhere and this one refuses, with the reason. Those of a block
of the backend are named as they stand in it.
"""


def example() -> str:
    """Return the text of the file."""
    return "\n".join(
        (
            *_paragraphs(_HEAD),
            *_section(Settings, ()),
            _FURTHER,
            *_paragraphs(_OTHER, indent="  "),
            "  #",
            *map(_taken_out, _other_block()),
            "",
            *_paragraphs(_REFUSED),
            "#",
            *_refusals(),
            "",
        )
    )


def _section(
    settings: type[attrs.AttrsInstance], path: KeyPath, width: int = _WIDTH
) -> Iterator[str]:
    indent, keys = "  " * len(path), {**KEYS, **OTHER_KEYS}
    for field, wanted, said in parts_of(settings):
        here = (*path, field.name)
        if not path:
            yield ""
        if is_section(wanted):
            of_section = "; ".join(said.variables)
            yield from _comment(said.meaning, of_section, indent, width)
            yield f"{indent}{field.name}:"
            yield from _section(wanted, here, width)
        else:
            yield from _comment(said.meaning, keys[here].facts, indent, width)
            value = keys[here].default if said.needed is None else said.needed
            yield f"{indent}{field.name}: {in_one_line(value)}"


def _other_block() -> Iterator[str]:
    """Yield the block of another backend, as it would stand there."""
    yield "  local:"
    yield from _section(OpenAIBackendSettings, OTHER_BLOCK, _WIDTH - len(_taken_out("")))


def _taken_out(line: str) -> str:
    """Return a line of a block as a comment."""
    return f"{line[:2]}# {line[2:]}"


def _comment(meaning: str, told: str, indent: str, width: int) -> Iterator[str]:
    for line in meaning.splitlines():
        hanging = "  " if line.startswith("- ") else ""
        yield from _wrapped(line, indent, hanging=hanging, width=width)
    if told:
        yield from _wrapped(f"({told})", indent, width=width)


def _wrapped(text: str, indent: str, *, hanging: str = "", width: int = _WIDTH) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# {hanging}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _paragraphs(text: str, *, indent: str = "") -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield f"{indent}#"
        yield from _wrapped(paragraph, indent)


def _refusals() -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for name, reason in DROPPED.items():
        names.setdefault(reason, []).append(name.removeprefix(_IN_BLOCK))
    for reason, together in names.items():
        yield from _wrapped(f"- {', '.join(together)}: {reason}.", "", hanging="  ")
