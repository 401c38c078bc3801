"""Commands in the arguments of shell tools: what is run, and whether it runs tests."""

from __future__ import annotations

import re
from typing import Final

from codexrelay.protocol.raw import Json, is_object

#: Where the tools of the clients have their command, as a text or as a list of words.
_COMMAND_KEYS: Final = ("command", "cmd", "commandLine", "CommandLine", "shell_command", "script")
#: So much of a command or script tells what it is; what follows is mostly text for a program.
READ_CHARACTERS: Final = 4000

_SHELL: Final = re.compile(r"(?:\S*[/\\])?(?:ba|z|da|k|fi)?sh(?:\.exe)?|(?:\S*[/\\])?pwsh\S*")
_SHELL_FLAG: Final = re.compile(r"-\w*c|-Command", re.ASCII)
#: `bash -lc "…"`, written as one text.
_WRAPPED: Final = re.compile(
    r"\s*(?:\S*/)?(?:ba|z|da|k)?sh\s+-\w*c\s+(['\"])(?P<inner>.*)\1\s*", re.ASCII | re.DOTALL
)
_HEREDOC: Final = re.compile(r"<<-?\s*['\"]?\w")
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_SEPARATORS: Final = re.compile(r"&&|\|\|?|[;&\n(){}]")
_PATCH: Final = re.compile(r"\s*(?:cd\s+\S+\s*&&\s*)?(?:apply_patch|applypatch)\b")

#: What stands before the program that does the work.
_BEFORE: Final = re.compile(
    r"""\s*(?:
        \w+=\S*\s+
      | (?:sudo|env|time|nice|nohup|command|exec|xvfb-run|npx|bunx|then|do)\s+(?:-\S+\s+)*
      | timeout\s+(?:-\S+\s+)*[\d.]+[smhd]?\s+
      | (?:uv|poetry|pipenv|hatch|pdm|rye)\s+run\s+(?:-\S+\s+)*
      | (?:pnpm|npm|yarn)\s+(?:exec|dlx)\s+(?:--\s+)?
      | yarn\s+(?=jest|vitest|mocha)
      | bundle\s+exec\s+
      | coverage\s+run\s+(?:-\S+\s+)*?(?=-m\s)
    )*""",
    re.VERBOSE,
)
_TEST_RUN: Final = re.compile(
    r"""(?:
        (?:\S*/)?(?:pytest|py\.test|tox|nox|jest|vitest|mocha|rspec|phpunit|ctest|nosetests|nose2
                   |karma|cypress|behave|bats|busted)
      | (?:(?:\S*/)?python[\d.]*\s+(?:-[WX]\s+[^-\s]\S*\s+|-\S+\s+)*?)?
        -m\s+(?:pytest|unittest|tox|nox|nose2)
      | (?:\S*/)?python[\d.]*\s+(?:\S*/)?manage\.py\s+test
      | (?:npm|pnpm|yarn|bun)\s+(?:(?:run|run-script)\s+)?(?:-\S+\s+)*(?:t|tests?(?::\S+)?)
      | cargo\s+(?:\+\S+\s+)?(?:t|test|nextest)
      | (?:go|deno|dotnet|mix|swift|flutter|dart|zig|sbt|lein|stack|cabal|bazel|playwright|forge)
        \s+(?:build\s+)?test
      | (?:make|just|task|rake|ninja)\s+(?:-\S+\s+)*(?:tests?|check|spec)
      | (?:\S*/)?(?:mvnw?|gradlew?)\s+(?:\S+\s+)*?(?::?[\w:]*[tT]est|verify|check)
      | node\s+(?:-\S+\s+)*?--test
    )(?![\w.-]*\w)""",
    re.VERBOSE,
)


def command_of(arguments: Json) -> str | None:
    """Return the command that a shell tool was called with, without the shell around it.

    A list of words becomes one text; None: there is no command.
    """
    if not is_object(arguments):
        return None
    for key in _COMMAND_KEYS:
        command = arguments.get(key)
        if isinstance(command, str):
            return _unwrapped(command)
        if isinstance(command, list):
            return _joined([word for word in command if isinstance(word, str)])
    several = arguments.get("commands")
    if isinstance(several, list):
        return "\n".join(command for command in several if isinstance(command, str))
    return None


def _joined(words: list[str]) -> str:
    """Return the command of a list of words; `bash -lc TEXT` is TEXT."""
    if len(words) > 2 and _SHELL.fullmatch(words[0]) and _SHELL_FLAG.fullmatch(words[1]):
        return words[2]
    return " ".join(words)


def _unwrapped(command: str) -> str:
    wrapped = _WRAPPED.fullmatch(command)
    return wrapped["inner"] if wrapped else command


def writes_by_patch(command: str) -> bool:
    """Tell whether the command is Codex's `apply_patch`, which is no program but an edit."""
    return _PATCH.match(command) is not None


def runs_tests(command: str) -> bool:
    """Tell whether one of the programs in the command is a test runner.

    A name of one that is only an argument (`grep pytest`) or stands in quotes does not count.
    """
    seen = command[:READ_CHARACTERS]
    here = _HEREDOC.search(seen)
    if here is not None:
        seen = seen[: here.start()]
    return any(map(_is_test_run, _SEPARATORS.split(_QUOTED.sub("''", seen))))


def _is_test_run(part: str) -> bool:
    before = _BEFORE.match(part)
    return _TEST_RUN.match(part, before.end() if before else 0) is not None
