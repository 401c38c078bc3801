"""How a client's requests are treated: seven capabilities, each given in up to seven places.

`protocol`: the conversation that the backend's request is derived from, and is checked as: what
Chat can say, or what Responses can. It defaults to the route's own, which decides how the answer
looks whatever stands here.

`codex_passthrough`: on `/v1/responses`, true sends the body as it came, but for a closed list of
changes (`responses_request`); false builds it from the fields that we know (`typed_view`). Chat is
always translated.

`prompt_mode`: what stands in `instructions`, and where the client's system text goes (`prompt`).

`tool_schema_mode`: whose tools the model is offered: the client's, the built-in ones, or both
(`tool_schema`). It and `prompt_mode` act on Chat, and where `codex_passthrough` is false.

`tool_text_format`: whether tool calls reach the client as calls or as text, and as which.

`bypass_tool_call_reactor`: false lets reactors and adaptations see tool calls before the client
does. Nothing is ever run here.

`include_environment_context`: true tells the model what the request says of its environment
(`environment_context`).

The places, later ones beating earlier ones key by key: the client's profile, the settings
`default_capabilities` and `agent_capabilities`, the model's name, and of the request the header, a
literal `extra_body`, and the top level of the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol.raw import is_object, kind_of, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from codexrelay.protocol.raw import Json

Dialect: TypeAlias = Literal["openai-chat", "openai-responses"]
PromptMode: TypeAlias = Literal["codex_default", "merge_custom", "custom_only"]
ToolSchemaMode: TypeAlias = Literal["custom_only", "merge_custom", "codex_default"]
TextFormat: TypeAlias = Literal["none", "xml", "markdown", "summary"]

#: What one place gives: values are of the words and types that `KEYS` has.
Given: TypeAlias = Mapping[str, str | bool]

#: Key -> the words it takes; none where it takes true and false.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "protocol": get_args(Dialect),
    "codex_passthrough": (),
    "prompt_mode": get_args(PromptMode),
    "tool_schema_mode": get_args(ToolSchemaMode),
    "tool_text_format": (*get_args(TextFormat), "codex_xml", "default", "inherit"),
    "bypass_tool_call_reactor": (),
    "include_environment_context": (),
}
#: Words of `tool_text_format` that mean another one. `default` is the renderer of the settings.
_SAME: Final = {"codex_xml": "xml", "inherit": "default"}
#: Words for true and false where there is no JSON.
_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
#: The request header that gives capabilities, for clients that drop fields they do not know.
HEADER: Final = "x-codexrelay-capabilities"
#: So many characters of what a client wrote stand in a message.
_LONGEST_TOLD: Final = 100


@attrs.frozen(kw_only=True)
class Capabilities:
    """What holds for one request."""

    protocol: Dialect
    codex_passthrough: bool
    prompt_mode: PromptMode = "codex_default"
    tool_schema_mode: ToolSchemaMode = "custom_only"
    tool_text_format: TextFormat = "none"
    bypass_tool_call_reactor: bool = True
    include_environment_context: bool = False

    @cached_property
    def moot(self) -> tuple[str, ...]:
        """What was asked for of a Responses request and cannot act, as `key: value`."""
        if not self.codex_passthrough:
            return ()
        asked = {"prompt_mode": self.prompt_mode, "tool_schema_mode": self.tool_schema_mode}
        usual = attrs.fields_dict(Capabilities)
        return tuple(
            f"{key}: {value}" for key, value in asked.items() if value != usual[key].default
        )


def resolve(
    route: Dialect, layers: Sequence[Given], *, default_text_format: TextFormat = "none"
) -> Capabilities:
    """Return what the layers make together: key by key, a later one beats an earlier one.

    Where no layer gives them, `protocol` is the route's own and `codex_passthrough` is true for
    `openai-responses`. `default_text_format` is what `tool_text_format: default` means.
    """
    given: dict[str, str | bool] = {}
    for layer in layers:
        given |= layer
    protocol = cast("Dialect", given.get("protocol", route))
    text_format = given.get("tool_text_format", "none")
    if text_format == "default":
        text_format = default_text_format
    return Capabilities(
        protocol=protocol,
        codex_passthrough=bool(given.get("codex_passthrough", protocol == "openai-responses")),
        prompt_mode=cast("PromptMode", given.get("prompt_mode", "codex_default")),
        tool_schema_mode=cast("ToolSchemaMode", given.get("tool_schema_mode", "custom_only")),
        tool_text_format=cast("TextFormat", text_format),
        bypass_tool_call_reactor=bool(given.get("bypass_tool_call_reactor", True)),
        include_environment_context=bool(given.get("include_environment_context", False)),
    )


def read_object(value: Json, param: str) -> Given:
    """Return what a JSON object gives; null, for it or for a key of it, gives nothing.

    Raises:
        RequestError: 400, it is no object, or a key or value is unknown; `param` is its path.
    """
    if value is None:
        return {}
    if not is_object(value):
        raise _refused(f"`{param}` must be an object, not {kind_of(value)}", param)
    return {
        key: _read(key, inner, f"{param}.{key}")
        for key, inner in value.items()
        if not (key in KEYS and inner is None)
    }


def read_header(text: str) -> Given:
    """Return what the header gives: a JSON object, or `key=value, key=value`.

    Raises:
        RequestError: 400, it is neither, or a key or value is unknown.
    """
    if text.lstrip().startswith("{"):
        try:
            return read_object(parse(text), HEADER)
        except ValueError:
            raise _refused(f"the header `{HEADER}` is no JSON object", HEADER) from None
    given: dict[str, str | bool] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            told = f"the header `{HEADER}` must be `key=value, key=value`, not {shortened(pair)}"
            raise _refused(told, HEADER)
        given[key] = _read_word(key, value, f"{HEADER}.{key}")
    return given


def read_parameters(pairs: Mapping[str, str]) -> Given:
    """Return what the parameters of a model's name give (`gpt-5.5?prompt_mode=custom_only`).

    Raises:
        RequestError: 400, a key or value is unknown.
    """
    return {key: _read_word(key, value, "model") for key, value in pairs.items()}


def _read_word(key: str, text: str, param: str) -> str | bool:
    value: Json = text
    if KEYS.get(key) == ():
        value = _BOOLEANS.get(text.lower(), text)
    return _read(key, value, param)


def _read(key: str, value: Json, param: str) -> str | bool:
    if key not in KEYS:
        # Of a model's name the path does not say which key it is.
        path = param if shortened(key) == repr(key) else param.removesuffix(f".{key}")
        told = f"`{path}` names no capability ({shortened(key)}); there are: {_list(KEYS)}"
        raise _refused(told, path)
    words = KEYS[key]
    if words and isinstance(value, str) and value in words:
        return _SAME.get(value, value)
    if not words and isinstance(value, bool):
        return value
    told = shortened(value) if isinstance(value, str) else kind_of(value)
    named = f"`{param}`" if param.endswith(key) else f"`{param}` ({key})"
    raise _refused(f"{named} must be {_list(words) or 'true or false'}, not {told}", param)


def shortened(text: str) -> str:
    """Return a client's text in quotes, for a message: of a long one how it begins."""
    return repr(text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}…")


def _list(words: Iterable[str]) -> str:
    *most, last = words if (words := tuple(words)) else ("",)
    return f"{', '.join(most)} or {last}" if most else last


def _refused(message: str, param: str) -> RequestError:
    return RequestError(message=message, param=param, code="invalid_capabilities")
