"""Calls of tools: what kind of tool was called, and what its result is a result of."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import attrs
import orjson

from codexrelay.compaction.commands import (
    command_of,
    commands_in_script,
    runs_tests,
    writes_by_patch,
)
from codexrelay.compaction.settings import Category
from codexrelay.compaction.spans import PATH_KEYS, RANGE_KEYS, Span, span_of
from codexrelay.protocol.raw import Json, JsonObject, is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names of tools without `_`, `-` and capitals, by what they do: those of Codex CLI, OpenCode,
#: Droid, pi and of the programs that people write with an SDK.
_NAMES: Final[Mapping[Category, str]] = {
    "file_read": """
        read readfile readfiles readmanyfiles readmultiplefiles readtextfile readlines cat openfile
        getfile getfilecontents filereader
    """,
    "file_write": """
        write writefile writetofile filewriter savefile create createfile edit editfile multiedit
        multieditfile applypatch applypatchcall applydiff patch replace replaceinfile strreplace
        searchreplace searchandreplace insert insertcontent appendfile appendtofile updatefile
        overwritefile notebookedit deletefile removefile movefile renamefile
    """,
    "view_file": "view viewfile viewimage viewrange readimage readmediafile",
    "command_execution": """
        bash shell shellcommand localshell exec execcommand execute executecommand executebash
        executeshell runcommand runshell runshellcommand runbash runterminalcmd runterminalcommand
        runinterminal terminal command powershell writestdin bashoutput
    """,
    "search": """
        grep grepsearch greptool ripgrep rg glob globsearch globtool find findfiles findfile
        findbyname search searchfiles searchfile filesearch searchfilecontent searchcode codesearch
        searchcodebase codebasesearch semanticsearch searchtext websearch webfetch fetch fetchurl
        urlfetch toolsearch connectorsearch
    """,
    "list_directory": """
        ls list listdir listdirectory listfiles listfolder listfolders directorytree tree
        readdirectory readdir viewdirectory
    """,
    "test_execution": "runtest runtests executetests test tests testrunner pytest",
}
_CATEGORIES: Final[Mapping[str, Category]] = {
    name: category for category, names in _NAMES.items() for name in names.split()
}
#: Tools that view or edit, as an argument `command` says.
_EDITORS: Final = frozenset({"strreplaceeditor", "strreplacebasededittool", "texteditor"})

#: Tools of which every answer stands for itself, though they were asked the same: what a process
#: or an agent has said since the last time, and what a person has answered. No later result makes
#: one of them stale.
_EACH_FOR_ITSELF: Final = frozenset(
    {
        "writestdin",
        "wait",
        "waitagent",
        "waitagents",
        "bashoutput",
        "killshell",
        "processoutput",
        "readprocessoutput",
        "readoutput",
        "terminaloutput",
        "getterminaloutput",
        "task",
        "agent",
        "spawnagent",
        "followuptask",
        "interruptagent",
        "sendmessage",
        "sendinput",
        "resumeagent",
        "delegate",
        "requestuserinput",
        "requestuserinputasync",
        "askuser",
        "askuserquestion",
        "askfollowupquestion",
        "question",
    }
)

#: Arguments in which the model tells a person why it calls: they change nothing of what the tool
#: does, and are worded anew each time (Droid's Execute; `description` of older OpenCode's bash;
#: Codex). All others stay in: also a time limit decides what is put out.
_PROSE_OF_COMMANDS: Final = frozenset(
    {"summary", "description", "justification", "explanation", "riskLevel", "riskLevelReason"}
)
_PROSE: Final = frozenset({"explanation"})

_QUERY_KEYS: Final = (
    "pattern",
    "patterns",
    "query",
    "regex",
    "search_term",
    "search",
    "text",
    "glob_pattern",
    "name",
    "url",
)
_FOLDER_KEYS: Final = (
    "directory_path",
    "path",
    "directory",
    "dir_path",
    "dir",
    "target_directory",
    "folder",
    "folder_path",
)
_NAME_CHARACTERS: Final = 64
_DETAIL_CHARACTERS: Final = 120

_PUNCTUATION: Final = re.compile(r"[_\- ]")
#: Whatever would break a line or cannot be written.
_UNPRINTABLE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
#: Tools that a script of Codex's code mode calls.
_TOOLS_OF_SCRIPT: Final = re.compile(r"\btools\s*\.\s*(\w+)")


@attrs.frozen(kw_only=True)
class Call:
    """What a model has called."""

    #: Id by which its result names it; empty if there is none.
    id: str
    #: Name of the tool, as the client gave it; empty: no call is known.
    name: str
    #: The parsed arguments; the text where they are none or no JSON; None if no call is known.
    arguments: Json
    #: In which group of tools the client had it, if in any (`namespace` in Responses).
    namespace: str = ""


@attrs.frozen(kw_only=True)
class Resource:
    """What a result is a result of."""

    #: Equal for two calls only if tool and arguments are equal, as far as they change the result.
    identity: str
    category: Category
    #: Where it is a part of a file that is understood. Two reads are comparable if `reader` is
    #: equal too.
    span: Span | None = None
    reader: str = ""
    _name: str
    _arguments: Json

    @property
    def label(self) -> str:
        """Its name on one short line: tool and path with range, command, query or directory."""
        return _label(self._name, self.category, self._arguments)


def category_of(call: Call) -> Category:
    """Tell what the tool does, by its name and, if it runs commands, by the command.

    A command that reads a file, lists or searches is a command all the same: what else it does
    cannot be told from outside.
    """
    name = _plain(call.name)
    if name in _EDITORS:
        viewing = is_object(call.arguments) and call.arguments.get("command") == "view"
        return "view_file" if viewing else "file_write"
    category = _CATEGORIES.get(name, "other")
    return _of_command(call.arguments) if category == "command_execution" else category


def _of_command(arguments: Json) -> Category:
    if isinstance(arguments, str):
        return _of_script(arguments)
    command = command_of(arguments)
    if command is None:
        return "command_execution"
    if writes_by_patch(command):
        return "file_write"
    return "test_execution" if runs_tests(command) else "command_execution"


def _of_script(script: str) -> Category:
    """Tell what a script does that calls tools (`exec` of Codex's code mode)."""
    called = {_plain(name) for name in _TOOLS_OF_SCRIPT.findall(script)}
    if any(_CATEGORIES.get(name) == "file_write" for name in called):
        return "file_write"
    commands = commands_in_script(script)
    return "test_execution" if any(map(runs_tests, commands)) else "command_execution"


def resource_of(call: Call) -> Resource | None:
    """Tell what the call's result is a result of; None: of nothing that another can replace.

    That is so for edits, for tools whose every answer stands for itself, and for unknown calls.
    """
    name = _plain(call.name)
    if not name or name in _EACH_FOR_ITSELF:
        return None
    category = category_of(call)
    if category == "file_write" or _asks_anew(call.arguments):
        return None
    arguments = _normalised(call.arguments, category)
    identity = _written([call.namespace, call.name, arguments])
    if identity is None:
        return None
    span = None
    if category in ("file_read", "view_file") and is_object(arguments):
        span = span_of(call.name, arguments)
    return Resource(
        identity=identity,
        category=category,
        span=span,
        reader=f"{call.namespace}\0{call.name}\0{span.path}" if span else "",
        name=call.name,
        arguments=arguments,
    )


def _asks_anew(arguments: Json) -> bool:
    """Tell whether a script asks what a process or an agent has said since."""
    if not isinstance(arguments, str):
        return False
    return any(_plain(name) in _EACH_FOR_ITSELF for name in _TOOLS_OF_SCRIPT.findall(arguments))


@lru_cache(maxsize=256)
def _plain(name: str) -> str:
    """Return the name as the tables have it: `mcp__files__read_file` is `readfile`."""
    last = name.rpartition("__")[2].rpartition(".")[2].rpartition("/")[2]
    return _PUNCTUATION.sub("", last).lower()


def _normalised(arguments: Json, category: Category) -> Json:
    """Return the arguments in the form in which equal ones are equal.

    A null is the same as nothing, and 10.0 the same as 10, but only at the top: further inside
    are data of whose meaning nothing is known. Texts stay as they are: a blank may matter.
    """
    if arguments is None or arguments == "":
        return {}
    if not is_object(arguments):
        return arguments
    commands = category in ("command_execution", "test_execution")
    prose = _PROSE_OF_COMMANDS if commands else _PROSE if category != "other" else frozenset[str]()
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in arguments.items()
        if value is not None and key not in prose
    }


def _written(value: Json) -> str | None:
    """Serialise with keys in order; None: it is nested too deeply."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # half a surrogate pair, a number beyond 64 bits, or too deep
        try:
            return json.dumps(value, sort_keys=True, separators=(",", ":"))
        except (ValueError, RecursionError):
            return None


def _label(name: str, category: Category, arguments: Json) -> str:
    detail = _detail(category, arguments)
    called = _on_a_line(name, _NAME_CHARACTERS) or "a tool"
    return f"{called} {_on_a_line(detail, _DETAIL_CHARACTERS)}" if detail else called


def _detail(category: Category, arguments: Json) -> str:
    """Name what was read, run, searched or listed."""
    if not is_object(arguments):
        return arguments if isinstance(arguments, str) else ""
    match category:
        case "file_read" | "view_file":
            detail = _path_with_range(arguments)
        case "command_execution" | "test_execution":
            detail = command_of(arguments)
        case "search":
            detail = _query(arguments)
        case "list_directory":
            detail = _first(arguments, _FOLDER_KEYS)
        case _:
            detail = None
    return detail or (_written(arguments) or "" if arguments else "")


def _path_with_range(arguments: JsonObject) -> str | None:
    path = _first(arguments, PATH_KEYS)
    if path is None:
        return None
    # A long path is cut here, so that the range is not.
    path = _on_a_line(path, _DETAIL_CHARACTERS - 40)
    shown = [f"{key} {_as_text(arguments[key])}" for key in RANGE_KEYS if key in arguments]
    return f"{path} ({', '.join(shown)})" if shown else path


def _query(arguments: JsonObject) -> str | None:
    query, folder = _first(arguments, _QUERY_KEYS), _first(arguments, _FOLDER_KEYS)
    return query if query is None or folder is None else f"{query} in {folder}"


def _first(arguments: JsonObject, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        text = _as_text(arguments.get(key))
        if text:
            return text
    return None


def _as_text(value: Json) -> str:
    """Return a text or number, or the first ones of a list; empty for anything else."""
    values = value[:8] if isinstance(value, list) else [value]
    shown = (str(v) for v in values if isinstance(v, str | int | float) and v is not True)
    return ", ".join(text for text in shown if text and text != "False")


def _on_a_line(text: str, characters: int) -> str:
    """Return the text on one line, cut in its middle where it is too long."""
    line = _UNPRINTABLE.sub(" ", text[: 4 * characters]).strip()
    if len(line) <= characters and len(text) <= 4 * characters:
        return line
    tail = _UNPRINTABLE.sub(" ", text[-characters // 3 :]).strip()
    return f"{line[: characters - len(tail) - 1]}…{tail}"
