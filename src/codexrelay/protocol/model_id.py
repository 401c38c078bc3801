"""Model ids as clients write them: a model, or a backend and a model.

`gpt-5.5` names no backend. `openai-codex:gpt-5.5` asks for the family, any instance of it,
`openai-codex.2:gpt-5.5` for one, and `local:qwen3` for a configured backend of another kind. Names
are the same in any case and with `_` for `-`; a `/` serves as well as the colon. `openai/` is an
older name of the family where no backend is called so, and `openai-codex-v2` one that it has
elsewhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection

#: The family, and the name of its first instance.
FAMILY: Final = "openai-codex"
#: What other relays call it where they speak WebSocket; here it is the same family.
_ELSEWHERE: Final = f"{FAMILY}-v2"
_INSTANCE: Final = re.compile(rf"{re.escape(FAMILY)}(?:\.[1-9][0-9]*)?")
_NAME: Final = re.compile(r"[a-z][a-z0-9.-]*")
_PREFIXED: Final = re.compile(r"([^:/]*)([:/])(.+)", re.DOTALL)


@attrs.frozen
class ModelId:
    """A model id, taken apart."""

    #: Canonical name, such as `openai-codex.2` or `local`; None when the text names none.
    instance: str | None
    #: The rest, as it came.
    slug: str


def instance_named(name: str) -> str | None:
    """Return the canonical name of an instance or of the family, None when `name` names neither."""
    canonical = canonical_name(name)
    return canonical if _INSTANCE.fullmatch(canonical) else None


def other_named(name: str) -> str | None:
    """Return the canonical name of a backend of another kind; None: none may be called so.

    A name has letters, digits, `.`, `_` and `-` and begins with a letter. What an instance of the
    family would be called is no name of another backend, be there such an instance or not.
    """
    canonical = canonical_name(name)
    is_free = canonical not in (FAMILY, _ELSEWHERE) and not canonical.startswith(f"{FAMILY}.")
    return canonical if is_free and _NAME.fullmatch(canonical) else None


def canonical_name(name: str) -> str:
    """Return the one spelling in which names of backends are compared."""
    return name.lower().replace("_", "-")


def read_model_id(text: str, backends: Collection[str] = ()) -> ModelId:
    """Take a model id apart; what has no prefix that we know is a slug as a whole.

    `backends` are the canonical names of the configured backends of other kinds.
    """
    if prefixed := _PREFIXED.fullmatch(text):
        name, separator, slug = prefixed.groups()
        if canonical_name(name) in backends:
            return ModelId(canonical_name(name), slug)
        old_name = separator == "/" and name.lower() == "openai"
        old_name = old_name or canonical_name(name) == _ELSEWHERE
        if instance := FAMILY if old_name else instance_named(name):
            return ModelId(instance, slug)
    return ModelId(None, text)
