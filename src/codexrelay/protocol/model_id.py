"""Model ids as clients write them: a model, or an instance of the backend and a model.

`gpt-5.5` names no instance. `openai-codex:gpt-5.5` asks for the family, any instance of it, and
`openai-codex.2:gpt-5.5` for one. Names are the same in any case and with `_` for `-`; a `/` serves
as well as the colon, and `openai/` is an older name of the family.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

#: The family, and the name of its first instance.
FAMILY: Final = "openai-codex"
_INSTANCE: Final = re.compile(rf"{re.escape(FAMILY)}(?:\.[1-9][0-9]*)?")
_PREFIXED: Final = re.compile(r"([^:/]*)([:/])(.+)", re.DOTALL)


@attrs.frozen
class ModelId:
    """A model id, taken apart."""

    #: Canonical name, such as `openai-codex.2`; None when the text names none.
    instance: str | None
    #: The rest, as it came.
    slug: str


def instance_named(name: str) -> str | None:
    """Return the canonical name of an instance or of the family, None when `name` names neither."""
    canonical = name.lower().replace("_", "-")
    return canonical if _INSTANCE.fullmatch(canonical) else None


def read_model_id(text: str) -> ModelId:
    """Take a model id apart; what has no prefix that we know is a slug as a whole."""
    if prefixed := _PREFIXED.fullmatch(text):
        name, separator, slug = prefixed.groups()
        old_name = separator == "/" and name.lower() == "openai"
        if instance := FAMILY if old_name else instance_named(name):
            return ModelId(instance, slug)
    return ModelId(None, text)
