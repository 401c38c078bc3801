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

#: Commands in a script that calls tools (`exec` of Codex's code mode).
_COMMANDS_OF_SCRIPT: Final = re.compile(
    r"\bcmd[\"']?\s*:\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|`([^`]*)`)"
)
#: What would part commands, were it not in quotes.
_PARTING: Final = re.compile(r"[&|;\n(){}<]")
_BETWEEN_PIPES: Final = re.compile(r"&&|\|\||[;\n]")
_PIPE: Final = re.compile(r"\|&?")
_OPENED: Final = re.compile(r"[\s({!]*")
_READERS: Final = r"(?:\S*/)?(?:cat|tac|head|tail|nl|bat|batcat|less|more|type|gc|get-content)"
#: What puts out (a part of) a file.
_SHOWS_FILE: Final = re.compile(
    rf"""(?:
        {_READERS}(?!\S)(?!\s*[<>])
      | (?:\S*/)?sed\s+(?!-\w*i|--in-place)
      | (?:\S*/)?[gm]?awk\s[^|]*\bNR\b
      | git\s+(?:-C\s+\S+\s+|--no-pager\s+)*(?:show\s+(?:-\S+\s+)*[^\s:-][^\s:]*:\S|cat-file\s)
      | find\s.*\s-exec(?:dir)?\s+(?:{_READERS}|sed)\s
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_XARGS: Final = re.compile(rf"xargs\s+(?:-\S+\s+(?:\d+\s+)?)*(?:{_READERS}|sed)(?!\S)")
#: What lets through some of the lines that it is given, more or less as they are.
_FILTER: Final = re.compile(
    rf"{_READERS}(?!\S)|(?:\S*/)?(?:sed|[gm]?awk|[ef]?grep|rg|cut|tr|sort|uniq|fold|column|expand"
    r"|iconv|rev|tee|wc)(?!\S)",
    re.IGNORECASE,
)
#: Logs are read as files, but are what programs have put out.
_LOG_FILE: Final = re.compile(r"\.(?:log|out|err)(?:\.\d+)?(?![\w.])")


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


def commands_in_script(script: str) -> list[str]:
    """Return the commands that a script gives to tools, as they are written in it."""
    return ["".join(found) for found in _COMMANDS_OF_SCRIPT.findall(script[:READ_CHARACTERS])]


def shows_files(command: str) -> bool:
    """Tell whether (a part of) a file, logs aside, is among what the command puts out.

    It may do more than that: what else it puts out cannot be told from the file.
    """
    seen = command[:READ_CHARACTERS]
    here = _HEREDOC.search(seen)
    if here is not None:
        seen = seen[: here.start()]
    seen = _QUOTED.sub(lambda quoted: _PARTING.sub(" ", quoted[0]), seen)
    return any(map(_shows_file, _BETWEEN_PIPES.split(seen)))


def _shows_file(pipeline: str) -> bool:
    """Tell whether a file comes out at the end of a pipeline, whole or in part."""
    shown = False
    for number, stage in enumerate(_PIPE.split(pipeline)):
        program = _program(stage)
        if _XARGS.match(program) or (number == 0 and _SHOWS_FILE.match(program)):
            shown = True
        elif not _FILTER.match(program):
            shown = False
    return shown and not _LOG_FILE.search(pipeline)


def _program(part: str) -> str:
    """Return a command without what stands before the program that does the work."""
    opened = _OPENED.match(part)
    part = part[opened.end() if opened else 0 :]
    before = _BEFORE.match(part)
    return part[before.end() if before else 0 :]


def _is_test_run(part: str) -> bool:
    before = _BEFORE.match(part)
    return _TEST_RUN.match(part, before.end() if before else 0) is not None
