"""The seam of a client profile: one file beside this one, exposing one `PROFILE`.

Here stand also the adaptations that more than one program can use.
"""

from __future__ import annotations

import enum
import math
import operator
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import attrs

from codexrelay.protocol.call_filter import Rename, ToolCall
from codexrelay.protocol.capabilities import Given
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    dump,
    get_list,
    get_number,
    get_object,
    get_text,
    is_object,
    parse_object,
)

#: Header in which a user may name the session himself, in any program that lets him set headers.
CHOSEN: Final = "x-session-id"
#: Where a program of which nothing is known may name its sessions.
ANY_HEADERS: Final = (
    CHOSEN,
    "x-session-affinity",
    "session-id",
    "session_id",
    "thread-id",
    "x-opencode-session",
)
ANY_FIELDS: Final = ("prompt_cache_key", "session_id", "conversation_id")

#: What becomes of a tool call, given the request's tools in any form; None leaves it alone.
Adapt: TypeAlias = Callable[[ToolCall, Sequence[Json]], Rename | None]


class Kind(enum.Enum):
    """How much of a program a profile knows: what is first here is asked first."""

    #: One program.
    PROGRAM = "program"
    #: A library that many programs are built on.
    LIBRARY = "library"
    #: Whatever speaks the protocol.
    ANY = "any"


@attrs.frozen(kw_only=True)
class Armed:
    """Tools that give a program away when its headers do not name it."""

    #: Its tools have all these names, among others.
    names: frozenset[str]
    #: How its `user-agent` begins, in lower case, where that can be known.
    user_agent: str = ""

    def fits(self, headers: Mapping[str, str], names: frozenset[str]) -> bool:
        """Tell whether a request with tools of these `names` fits."""
        return self.names <= names and user_agent(headers).startswith(self.user_agent)


@attrs.frozen(kw_only=True)
class Adaptation:
    """Something that may be done about a program's tool calls, if its user wants it."""

    #: What it does, in one sentence.
    description: str
    adapt: Adapt


def _no_hints(headers: Mapping[str, str], body: JsonObject) -> tuple[str, ...]:  # noqa: ARG001
    return ()


@attrs.frozen(kw_only=True)
class Profile:
    """What the package finds in each of its modules."""

    #: As in `agent_capabilities.<name>`, and before the dot in `profiles.adaptations`.
    name: str
    #: Whether a request's headers (lower-case names) name the program.
    named: Callable[[Mapping[str, str]], bool]
    armed: tuple[Armed, ...] = ()
    kind: Kind = Kind.PROGRAM
    #: Where the program names its sessions: headers first, then fields of the body, in order.
    session_headers: tuple[str, ...]
    session_fields: tuple[str, ...] = ()
    #: Without such a name the conversation's opening has to do. Whether the program puts words of
    #: its own in front of the user's, as further messages of the user that are alike for all, and
    #: not always in tags.
    speaks_as_user: bool = False
    #: Capabilities that it needs to work; whatever its user configures wins over them.
    capabilities: Given = attrs.field(factory=dict)
    #: By name; none of them acts unless it is switched on.
    adaptations: Mapping[str, Adaptation] = attrs.field(factory=dict)
    #: Sentences that the program's user should read, given a request's headers and body.
    hints: Callable[[Mapping[str, str], JsonObject], tuple[str, ...]] = _no_hints


def user_agent(headers: Mapping[str, str]) -> str:
    """Return the program's own words about itself, in lower case."""
    return headers.get("user-agent", "").lower()


# --- a request's tools, in the form of either protocol


def tool_names(body: JsonObject) -> frozenset[str]:
    """Return the names of the tools that the client declared, those of namespaces included."""
    return frozenset(name for tool in _declared(body) if (name := get_text(tool, "name")))


def _declared(body: JsonObject) -> Iterator[JsonObject]:
    """Yield the tools in their flat form. Lite models are given theirs in the first input item."""
    tools = get_list(body, "tools")
    if not tools and (items := get_list(body, "input")) and is_object(first := items[0]):
        tools = get_list(first, "tools")
    for tool in flat(tools):
        if tool.get("type") == "namespace":
            yield from flat(get_list(tool, "tools"))
        else:
            yield tool


def flat(tools: Sequence[Json]) -> Iterator[JsonObject]:
    """Yield tools as Responses has them; Chat's stand one object deeper."""
    for tool in tools:
        if is_object(tool):
            yield get_object(tool, "function") or get_object(tool, "custom") or tool


# --- adaptation: a call of `shell` for a client that has `bash`

#: Keywords of JSON schema that are understood here, and those that restrict nothing.
_BOUNDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "minimum": operator.ge,
    "exclusiveMinimum": operator.gt,
    "maximum": operator.le,
    "exclusiveMaximum": operator.lt,
}
_IDLE: Final = frozenset({"$schema", "description", "title", "default", "examples"})
_OF_A_VALUE: Final = frozenset({"type", "enum", *_BOUNDS, *_IDLE})
_OF_AN_OBJECT: Final = frozenset({"type", "properties", "required", "additionalProperties", *_IDLE})
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_LOGIN_SHELL: Final = ("bash", "-lc")
#: What belongs to a shell's grammar, zsh's too: a client's `bash` may run its user's own shell.
_GRAMMAR: Final = (
    "! [[ ]] { } case coproc do done elif else end esac fi for foreach function if in nocorrect "
    "noglob repeat select then time until while"
)
#: A shell's own commands that are no programs, or mean something else as programs.
_COMMANDS: Final = (
    ". : alias autoload bg bind break builtin caller cd command compgen complete compopt continue "
    "declare dirs disown enable eval exec exit export fc fg getopts hash help history integer jobs "
    "let local logout mapfile popd print pushd read readarray readonly rehash return set setopt "
    "shift shopt source suspend times trap type typeset ulimit umask unalias unfunction unset "
    "unsetopt wait whence"
)
_OF_THE_SHELL: Final = frozenset(f"{_GRAMMAR} {_COMMANDS}".split())
_MS_PER_S: Final = 1000


def shell_as_bash(call: ToolCall, tools: Sequence[Json]) -> Rename | None:
    """Turn a call of `shell`, which the client does not have, into one of its `bash`.

    Models that know Codex CLI's older tools call `shell` with `command` (a list of words, or a
    text), `workdir` and `timeout_ms`. The arguments become those of the client's own `bash`, as the
    request's schema has them: the words joined with quotes, of `["bash", "-lc", SCRIPT]` the script
    alone, `workdir` as a property of that name or else as a `cd` before the command (a script is
    then quoted as a whole, for a shell of its own), `timeout_ms` in the unit that the description
    of `timeout` names. A call with any other argument, whose arguments the schema would not take,
    or whose words a shell would not run as a program, is left alone.
    """
    declared = {get_text(tool, "name"): tool for tool in flat(tools)}
    schema = get_object(declared.get("bash", {}), "parameters")
    if call.name != "shell" or call.custom or call.namespace is not None:
        return None
    if "shell" in declared or not schema:
        return None
    try:
        given = parse_object(call.arguments)
    except ValueError:
        return None
    said = _for_bash(given, get_object(schema, "properties"))
    accepted = None if said is None else _accepted(schema, said)
    return None if accepted is None else Rename("bash", dump(accepted).decode())


def _for_bash(given: JsonObject, properties: JsonObject) -> JsonObject | None:
    """Return the arguments in the words of `bash`, None where it has no word for one of them."""
    rest = {name: value for name, value in given.items() if value is not None}
    command = _command(rest.pop("command", None))
    workdir, timeout_ms = rest.pop("workdir", None), rest.pop("timeout_ms", None)
    if rest or command is None:
        return None
    arguments: JsonObject = {
        "command": command if isinstance(command, str) else shlex.join(command)
    }
    if workdir is not None and "workdir" in properties:
        arguments["workdir"] = workdir
    elif isinstance(workdir, str) and workdir and "\0" not in workdir:
        words = (*_LOGIN_SHELL, command) if isinstance(command, str) else command
        # Otherwise `-` is the folder before, and others are looked for in CDPATH.
        folder = workdir if workdir.startswith("/") else f"./{workdir}"
        arguments["command"] = f"cd -- {shlex.quote(folder)} && {shlex.join(words)}"
    elif workdir is not None:
        return None
    if timeout_ms is not None:
        timeout = _timeout(timeout_ms, get_object(properties, "timeout"))
        if timeout is None:
            return None
        arguments["timeout"] = timeout
    return arguments


def _command(command: Json) -> str | tuple[str, ...] | None:
    """Return the script that a shell is to run, or the words of one program to run.

    None if `command` says nothing, or if a shell would not run that program.
    """
    if isinstance(command, str):
        return command if command.strip() and "\0" not in command else None
    listed = command if isinstance(command, list) else []
    words = tuple(word for word in listed if isinstance(word, str))
    if not words or len(words) < len(listed):
        return None
    if words[:-1] == _LOGIN_SHELL:
        return _command(words[-1])
    first = words[0]
    # A shell takes one with `=` for an assignment, and one with `%` for a job.
    is_program = first and first not in _OF_THE_SHELL and "=" not in first and first[0] != "%"
    return words if is_program and not any("\0" in word for word in words) else None


def _timeout(timeout_ms: Json, schema: JsonObject) -> Json:
    """Return the timeout in the unit that the client's own description names, None if none is."""
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float):
        return None
    if not math.isfinite(timeout_ms):
        return None
    told = (get_text(schema, "description") or "").lower()
    if "second" not in told:
        return None
    timeout = timeout_ms / (1 if "millisecond" in told else _MS_PER_S)
    return int(timeout) if timeout.is_integer() else timeout


def _accepted(schema: JsonObject, arguments: JsonObject) -> JsonObject | None:
    """Return the arguments as the schema takes them, None if it does not, or may not.

    A strict schema requires every property: those that may be null are filled in.
    """
    if not set(schema) <= _OF_AN_OBJECT:
        return None
    properties = get_object(schema, "properties")
    required = [name for name in get_list(schema, "required") if isinstance(name, str)]
    missing = dict.fromkeys((name for name in required if name not in arguments), None)
    whole: JsonObject = {**arguments, **missing}
    takes = all(_takes(get_object(properties, name), value) for name, value in whole.items())
    return whole if takes else None


def _takes(schema: JsonObject, value: Json) -> bool:
    """Tell whether the schema of a property takes `value`; what it may not, it does not."""
    types = schema.get("type")
    named = types if isinstance(types, list) else [types]
    fitting = any(
        isinstance(name, str) and isinstance(value, _TYPES.get(name, ())) for name in named
    )
    if not fitting or isinstance(value, bool) or not set(schema) <= _OF_A_VALUE:
        return False
    if "enum" in schema and value not in get_list(schema, "enum"):
        return False
    return not isinstance(value, int | float) or all(
        holds(value, bound)
        for keyword, holds in _BOUNDS.items()
        if (bound := get_number(schema, keyword)) is not None
    )


SHELL_AS_BASH: Final = Adaptation(
    description="A call of `shell`, which the client does not have, becomes one of its `bash`.",
    adapt=shell_as_bash,
)
