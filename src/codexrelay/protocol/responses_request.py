"""A client's Responses request, made fit for the Codex backend: a closed list of changes.

Raw stays raw: whatever is not named here goes out as it was received, unknown fields, item types
and tool types included. With `codex_passthrough: false` only known fields go out, and texts and
tools are those of their modes. Every change that was made is named in `ShapedRequest.changes`.

Source: wire notes 2.3; the 400 texts of the backend; captured requests of Codex CLI 0.169, OpenCode
1.18, Droid 0.225, pi 0.73 and the openai SDK 3.54.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol import environment_context, prompt, tool_schema, typed_view
from codexrelay.protocol.made_ids import is_made
from codexrelay.protocol.raw import Json, JsonObject, get_list, get_text, is_object, kind_of
from codexrelay.protocol.shaping import RESPONSES, Shaping
from codexrelay.protocol.tool_text import read_back
from codexrelay.protocol.web_search import renamed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Fields that the backend answers with 400 `Unsupported parameter`.
_UNSUPPORTED: Final = (
    "max_output_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_retention",
    "truncation",
    "context_management",
    # Names of sessions, for the relay; and of a conversation that no backend here keeps.
    "session_id",
    "conversation_id",
    "conversation",
    # Inferred: of the same kind, and sent by nobody who uses this backend.
    "stop",
    "logprobs",
    "top_logprobs",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
)
#: All fields that are removed, in the order in which that is told.
_DROPPED: Final = (*_UNSUPPORTED, "background", "previous_response_id")
_ANY_DROPPED: Final = frozenset(_DROPPED)
#: Item type -> how the backend's ids of such items begin.
_ID_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "message": ("msg_",),
    "reasoning": ("rs_",),
    "function_call": ("fc_",),
    "function_call_output": ("fco_", "fc_"),
    "custom_tool_call": ("ctc_",),
    "custom_tool_call_output": ("ctco_", "ctc_"),
    "additional_tools": ("at_",),
    "web_search_call": ("ws_",),
    "image_generation_call": ("ig_",),
    "compaction": ("cmp_",),
}
#: Prefixes of other things that agents have been seen to put into an item's id.
_NO_ITEMS: Final = ("call_", "resp_")
_KNOWN_PREFIXES: Final = (*(p for own in _ID_PREFIXES.values() for p in own), *_NO_ITEMS)
_MAX_ID_CHARACTERS: Final = 64

#: Item types that are of no use without a `call_id`.
_CALLS: Final = frozenset(
    {
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
    }
)

_ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"

#: Field -> its JSON types besides null. `model` and `input` are looked at by themselves.
_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "stream": (bool, "a boolean"),
    "store": (bool, "a boolean"),
    "background": (bool, "a boolean"),
    "instructions": (str, "a string"),
    "tools": (list, "an array"),
    "include": (list, "an array"),
}


@attrs.frozen(kw_only=True)
class ShapedRequest:
    """A request as the backend gets it, and what the relay must know of the one that came."""

    body: JsonObject
    #: As the client named it.
    model: str
    #: Whether the client asked for a stream; upstream always streams.
    stream: bool
    #: Every change, as `PATH: WHAT`. A path counts items as the client sent them, but for calls
    #: and results that were read back from its texts.
    changes: tuple[str, ...]
    #: Names of the client's tools that its `tool_schema_mode` leaves out.
    dropped_tools: tuple[str, ...] = ()


def is_codex_shaped(body: JsonObject, *, from_codex: bool) -> bool:
    """Tell whether a request was written by Codex CLI (or for it), whose bodies need no help.

    `from_codex`: its profile is that of Codex CLI. What other programs write in its shape is known
    by the first item, `additional_tools`, which it sends to lite models (measured: 0.169);
    `client_metadata` says nothing, any SDK can send that.
    """
    if from_codex:
        return True
    first = next(iter(get_list(body, "input")), None)
    return is_object(first) and first.get("type") == "additional_tools"


def shape(
    body: Json,
    *,
    session_cache_key: str | None,
    codex_shaped: bool,
    shaping: Shaping = RESPONSES,
) -> ShapedRequest:
    """Return the request that goes upstream. `body` itself is not changed.

    Args:
        body: the client's decoded body.
        session_cache_key: `prompt_cache_key` for a client that sends none; None adds none.
        codex_shaped: see `is_codex_shaped`.
        shaping: what was asked of this request; the default is what nobody has configured.

    Raises:
        RequestError: the request cannot be sent, and why.
    """
    return shape_checked(
        checked(body)[0],
        session_cache_key=session_cache_key,
        codex_shaped=codex_shaped,
        shaping=shaping,
    )


def shape_checked(
    given: JsonObject, *, session_cache_key: str | None, codex_shaped: bool, shaping: Shaping
) -> ShapedRequest:
    """Return the request that goes upstream, of a body that `checked` has let pass; see `shape`.

    Raises:
        RequestError: nothing of it is left that can be sent.
    """
    changes = _Changes(dict(given), [*shaping.said.changes])
    _drop_fields(changes)
    passes = shaping.capabilities.codex_passthrough
    if not passes:
        _keep_known(changes, shaping)
    _shape_input(changes, shaping, codex_shaped=codex_shaped)
    _rename_web_search(changes)
    dropped: tuple[str, ...] = ()
    if passes:
        _fill_instructions(changes, codex_shaped=codex_shaped)
        changes.lead("codex_system_prompt", shaping.said.system_prompt)
    else:
        dropped = _arrange_tools(changes, shaping, codex_shaped=codex_shaped)
        _place_prompt(changes, shaping, codex_shaped=codex_shaped)
    _tell_environment(changes, shaping)
    _fill(changes, session_cache_key=session_cache_key)
    return ShapedRequest(
        body=changes.body,
        model=get_text(given, "model") or "",
        stream=given.get("stream") is True,
        changes=tuple(changes.named),
        dropped_tools=dropped,
    )


def fit_items(body: JsonObject, shaping: Shaping) -> list[Json]:
    """Return the `input` of a checked body as items that the backend takes and can resolve.

    Raises:
        RequestError: no item is left.
    """
    changes = _Changes({"input": body["input"]})
    _shape_input(changes, shaping, codex_shaped=False)
    return get_list(changes.body, "input")


# --- what is refused


def checked(body: Json) -> tuple[JsonObject, str]:
    """Return the body and its model.

    Raises:
        RequestError: the body has not the form of a Responses request, or wants the backend to keep
            something.
    """
    body, model = check_form(body)
    check_nothing_is_kept(body)
    return body, model


def check_nothing_is_kept(body: JsonObject) -> None:
    """Make sure that a request of the right form does not want the backend to keep anything.

    Raises:
        RequestError: it does.
    """
    if body.get("background"):
        raise RequestError(
            message="`background` responses are not available: the backend keeps no responses",
            param="background",
            code="unsupported_parameter",
        )
    if "previous_response_id" in body and body["previous_response_id"] is not None:
        # Taken away silently, the model would answer without its history. The code is upstream's
        # own, at which clients send everything again (wire notes 2.4).
        raise RequestError(
            message=(
                f"Previous response {body['previous_response_id']!r} not found: the backend keeps "
                "no responses. Send the whole conversation as `input`, with `store` false"
            ),
            param="previous_response_id",
            code="previous_response_not_found",
        )


def check_form(body: Json) -> tuple[JsonObject, str]:
    """Return the body and its model, whatever it asks for.

    Raises:
        RequestError: the body has not the form of a Responses request.
    """
    if not is_object(body):
        raise _wrong_type("the body", body, "an object", param=None)
    model = body.get("model")
    if model is None or model == "":
        raise _missing("model")
    if not isinstance(model, str):
        raise _wrong_type("`model`", model, "a string", param="model")
    for field, (expected, name) in _TYPES.items():
        if field not in body:
            continue
        value = body[field]
        if value is not None and not isinstance(value, expected):
            raise _wrong_type(f"`{field}`", value, name, param=field)
    _check_input(body.get("input"))
    return body, model


def _check_input(items: Json) -> None:
    if items is None:
        raise _missing("input")
    if isinstance(items, str):
        return
    if not isinstance(items, list):
        raise _wrong_type("`input`", items, "a string or an array", param="input")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise _wrong_type(f"`input[{index}]`", item, "an object", param=f"input[{index}]")


def _missing(field: str) -> RequestError:
    return RequestError(
        message=f"the request has no `{field}`", param=field, code="missing_required_parameter"
    )


def _wrong_type(what: str, value: Json, expected: str, *, param: str | None) -> RequestError:
    return RequestError(
        message=f"{what} must be {expected}, not {kind_of(value)}", param=param, code="invalid_type"
    )


# --- what is changed


@attrs.define(eq=False)
class _Changes:
    """A request while it is shaped, and the names of what was changed."""

    #: A copy of the client's object; what is inside it is still the client's own.
    body: JsonObject
    named: list[str] = attrs.field(factory=list)

    def name(self, path: str, what: str) -> None:
        self.named.append(f"{path}: {what}")

    def set(self, field: str, what: str, *, value: Json) -> None:
        self.body[field] = value
        self.name(field, what)

    def lead(self, what: str, sections: Sequence[str]) -> None:
        """Put client text at the head of the input."""
        if sections:
            items = prompt.led_by(sections, get_list(self.body, "input"))
            self.set("input", f"with {what}", value=items)


def _drop_fields(changes: _Changes) -> None:
    """Remove what the backend refuses, and what says nothing."""
    if _ANY_DROPPED.isdisjoint(changes.body):
        return
    for field in _DROPPED:
        if field in changes.body:
            del changes.body[field]
            changes.name(field, "removed")


def _keep_known(changes: _Changes, shaping: Shaping) -> None:
    """Leave out the fields that nobody here knows."""
    protocol = shaping.capabilities.protocol
    changes.body, unknown = typed_view.known_fields(changes.body, protocol)
    for field in unknown:
        changes.name(field, f"removed, {protocol} has no such field")


def _shape_input(changes: _Changes, shaping: Shaping, *, codex_shaped: bool) -> None:
    """Make `input` a list of items that the backend takes and can resolve.

    Raises:
        RequestError: no item is left, or one is not of the conversation that it has to be.
    """
    given = changes.body["input"]
    if isinstance(given, str):
        changes.set("input", "a list with one user message", value=[user_message(given)])
        return
    items = get_list(changes.body, "input")
    if shaping.capabilities.tool_text_format == "xml" and (back := read_back(items)) != items:
        changes.set("input", "tool text as calls and results", value=back)
        items = back
    kept: list[tuple[int, Json]] = []
    dropped: list[str] = []
    for index, item in enumerate(items):
        if not is_object(item):
            kept.append((index, item))
        elif (why := _why_dropped(item)) is None:
            kept.append((index, _shape_item(changes, index, item, codex_shaped=codex_shaped)))
        else:
            changes.name(_path(index), f"removed, {why}")
            dropped.append(f"{_path(index)}: {why}")
    if dropped and not kept:
        raise RequestError(message=f"nothing of `input` can be sent ({dropped[0]})", param="input")
    if shaping.capabilities.protocol == "openai-chat":
        rebuilt = not shaping.capabilities.codex_passthrough
        with_paths = ((_path(index), item) for index, item in kept)
        read = typed_view.conversation(with_paths, rebuilt=rebuilt, codex_shaped=codex_shaped)
        changes.body["input"] = read.items
        for path, kind in read.passed:
            changes.name(path, f"{kind} as it is, no Chat conversation has it")
    else:
        shaped = [item for _, item in kept]
        # The client's own list goes on if nothing in it was changed: see `long_input`.
        if len(shaped) != len(items) or any(map(operator.is_not, shaped, items)):
            items = shaped
        changes.body["input"] = items


def _path(index: int) -> str:
    return f"input[{index}]"


def user_message(text: str) -> JsonObject:
    """Return the item that `input` means which is a text."""
    content: list[Json] = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content}


def _why_dropped(item: JsonObject) -> str | None:
    """Return why the backend cannot take `item`, None if it can."""
    kind = item.get("type")
    if kind == "item_reference":
        return "a reference needs a stored response"
    # Codex CLI's own always has it (measured), so this is of another backend that its session was
    # with meanwhile.
    if kind == "reasoning" and not item.get("encrypted_content"):
        return "reasoning without encrypted_content cannot be read again"
    # Agents replay fragments of calls that were cut short; the backend answers `empty_string`.
    if kind in _CALLS and not item.get("call_id"):
        return "a call needs a call_id"
    return None


def _shape_item(
    changes: _Changes, index: int, item: JsonObject, *, codex_shaped: bool
) -> JsonObject:
    if item.get("role") == "system" and item.get("type", "message") == "message":
        item = item | {"role": "developer"}
        changes.name(f"{_path(index)}.role", "developer instead of system")
    if "id" in item and (why := _why_foreign(item, codex_shaped=codex_shaped)) is not None:
        item = {key: value for key, value in item.items() if key != "id"}
        changes.name(f"{_path(index)}.id", f"removed, {why}")
    return item


def _why_foreign(item: JsonObject, *, codex_shaped: bool) -> str | None:
    """Return why the backend would refuse the id of `item`, None if nothing says so."""
    id_ = get_text(item, "id")
    if not id_:
        return "it is no text"
    if len(id_) > _MAX_ID_CHARACTERS:
        return f"it is longer than {_MAX_ID_CHARACTERS} characters"
    if is_made(id_):
        return "another backend's answer got it here"
    own = _ID_PREFIXES.get(get_text(item, "type") or "message")
    # Codex CLI knows its own ids better than this table does, unless they are of another kind.
    if (
        own is not None
        and not id_.startswith(own)
        and (not codex_shaped or id_.startswith(_KNOWN_PREFIXES))
    ):
        return f"it does not begin with {own[0]}"
    return None


def _rename_web_search(changes: _Changes) -> None:
    """Say `web_search` for its older name, in the tools and where one of them is chosen."""
    if "tools" not in changes.body and "tool_choice" not in changes.body:
        return
    tools = list(get_list(changes.body, "tools"))
    for index, tool in enumerate(tools):
        if is_object(tool) and (new := renamed(tool)) is not tool:
            tools[index] = new
            changes.body["tools"] = tools
            changes.name(f"tools[{index}].type", "web_search")
    choice = changes.body.get("tool_choice")
    if is_object(choice) and (new := renamed(choice)) is not choice:
        changes.set("tool_choice", "web_search", value=new)


def _fill(changes: _Changes, *, session_cache_key: str | None) -> None:
    """Set the fields without which the backend refuses, forgets or misses its cache."""
    body = changes.body
    if body.get("store") is not False:
        changes.set("store", "false", value=False)
    if body.get("stream") is not True:
        changes.set("stream", "true", value=True)
    include = get_list(body, "include")
    if _ENCRYPTED_REASONING not in include:
        value = [*include, _ENCRYPTED_REASONING]
        changes.set("include", f"with {_ENCRYPTED_REASONING}", value=value)
    if session_cache_key is not None and not body.get("prompt_cache_key"):
        changes.set("prompt_cache_key", "the session's", value=session_cache_key)


def _fill_instructions(changes: _Changes, *, codex_shaped: bool) -> None:
    """Codex CLI 0.169 sends none, and its lite models want none."""
    none_given = changes.body.get("instructions") is None
    if none_given and ("instructions" in changes.body or not codex_shaped):
        changes.set("instructions", "empty", value="")


# --- what was asked of the relay


def _arrange_tools(changes: _Changes, shaping: Shaping, *, codex_shaped: bool) -> tuple[str, ...]:
    """Offer the tools of the mode; return the names of the client's that are left out."""
    arranged = tool_schema.arrange(
        changes.body,
        shaping.capabilities.tool_schema_mode,
        shaping.tool_schema,
        absent_stays_absent=codex_shaped,
    )
    changes.body = arranged.body
    changes.named += arranged.changes
    return arranged.dropped


def _place_prompt(changes: _Changes, shaping: Shaping, *, codex_shaped: bool) -> None:
    """Put the system texts where the mode wants them."""
    given = get_text(changes.body, "instructions")
    client = (*([given] if given else []), *shaping.said.system_prompt)
    if codex_shaped and not client:
        return  # its prompt is in its input: absent stays absent
    mode = shaping.capabilities.prompt_mode
    placed = prompt.place(mode, shaping.prompt, client)
    if placed.instructions != given:
        changes.set("instructions", f"prompt_mode {mode}", value=placed.instructions)
    changes.lead("the client's system text", placed.at_head)


def _tell_environment(changes: _Changes, shaping: Shaping) -> None:
    if shaping.capabilities.include_environment_context:
        items = get_list(changes.body, "input")
        told = environment_context.with_message(items, shaping.said)
        if told is not items:
            changes.set("input", "with the environment", value=told)
