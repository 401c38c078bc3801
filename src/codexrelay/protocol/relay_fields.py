"""The fields of a request that speak to the relay, and never leave it.

They stand at the top level of the body, or inside a literal `extra_body`: SDKs put what their user
calls `extra_body` at the top level, the literal one is written by hand. It is read as an SDK means
it: what else it holds is put at the top level too, object into object. The top level wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol.capabilities import Given, read_object
from codexrelay.protocol.raw import Json, JsonObject, get_object, is_object, kind_of

_CAPABILITIES: Final = "codex_capabilities"
_SYSTEM_PROMPT: Final = "codex_system_prompt"
_EXTRA: Final = "extra_body"
#: What a client may say of its environment, in the order in which the model is told.
ENVIRONMENT: Final = (
    "project_dir",
    "cwd",
    "approval_policy",
    "sandbox_mode",
    "network_access",
    "shell",
)
#: Said instead of those.
ENVIRONMENT_BLOCK: Final = "codex_environment_context"
_ENVIRONMENT: Final = (*ENVIRONMENT, ENVIRONMENT_BLOCK)

NAMES: Final = frozenset({_CAPABILITIES, _EXTRA, _SYSTEM_PROMPT, *_ENVIRONMENT})


@attrs.frozen(kw_only=True)
class RelayFields:
    """What a request says to the relay."""

    #: Later beats earlier.
    capabilities: tuple[Given, ...] = ()
    #: System text, section by section.
    system_prompt: tuple[str, ...] = ()
    #: What it says of its environment, as it came; see `ENVIRONMENT` and `ENVIRONMENT_BLOCK`.
    environment: JsonObject = attrs.field(factory=dict)
    #: Paths of that part of it that stood in a literal `extra_body`.
    paths: Mapping[str, str] = attrs.field(factory=dict)
    #: The fields of the body that a literal `extra_body` gave, in whole or in part.
    merged: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """What was done to the body, as `PATH: WHAT`."""
        return tuple(f"{name}: with that of {_EXTRA}" for name in self.merged)


NOTHING_SAID: Final = RelayFields()


def split(body: JsonObject) -> tuple[JsonObject, RelayFields]:
    """Return the body without the relay's fields, and what they say. `body` is not changed.

    The same object comes back if it has none. Fields that a literal `extra_body` has beside them
    stand in the body that comes back.

    Raises:
        RequestError: 400, one of them is malformed; `param` is its path.
    """
    if NAMES.isdisjoint(body):
        return body, NOTHING_SAID
    extra = body.get(_EXTRA)
    if extra is not None and not is_object(extra):
        raise _refused(f"`{_EXTRA}` must be an object, not {kind_of(extra)}", _EXTRA)
    inner = get_object(body, _EXTRA)
    _check_block(body, ENVIRONMENT_BLOCK)
    _check_block(inner, f"{_EXTRA}.{ENVIRONMENT_BLOCK}")
    said = RelayFields(
        capabilities=(
            read_object(inner.get(_CAPABILITIES), f"{_EXTRA}.{_CAPABILITIES}"),
            read_object(body.get(_CAPABILITIES), _CAPABILITIES),
        ),
        system_prompt=_system_prompt(body) or _system_prompt(inner, f"{_EXTRA}."),
        environment={
            name: value
            for name in _ENVIRONMENT
            if (value := _first(body.get(name), inner.get(name))) is not None
        },
        paths={name: f"{_EXTRA}.{name}" for name in _ENVIRONMENT if body.get(name) is None},
        merged=tuple(
            name
            for name, value in inner.items()
            if name not in NAMES and _merged(body.get(name), value) != body.get(name)
        ),
    )
    rest = {key: value for key, value in body.items() if key not in NAMES}
    return rest | {name: _merged(rest.get(name), inner[name]) for name in said.merged}, said


def _first(value: Json, other: Json) -> Json:
    return other if value is None else value


def _merged(top: Json, extra: Json) -> Json:
    """Return both; where both say something, `top` wins."""
    if is_object(top) and is_object(extra):
        return top | {key: _merged(top.get(key), value) for key, value in extra.items()}
    return _first(top, extra)


def _check_block(fields: JsonObject, param: str) -> None:
    value = fields.get(ENVIRONMENT_BLOCK)
    if not isinstance(value, str | None):
        raise _refused(f"`{param}` must be a string, not {kind_of(value)}", param)


def _system_prompt(fields: JsonObject, prefix: str = "") -> tuple[str, ...]:
    value, param = fields.get(_SYSTEM_PROMPT), prefix + _SYSTEM_PROMPT
    if value is None:
        return ()
    sections = value if isinstance(value, list) else [value]
    for section in sections:
        if not isinstance(section, str):
            told = f"`{param}` must be text or an array of texts"
            found = kind_of(section)
            found = f"an array with {found} in it" if isinstance(value, list) else found
            raise _refused(f"{told}, not {found}", param)
    return tuple(section for section in sections if isinstance(section, str) and section)


def _refused(message: str, param: str) -> RequestError:
    return RequestError(message=message, param=param, code="invalid_type")
