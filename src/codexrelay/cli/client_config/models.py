"""Which model a client is told to use."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol.model_choice import choose
from codexrelay.protocol.models_list import is_listed
from codexrelay.protocol.raw import get_number
from codexrelay.server.models import read_known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.config.settings import Settings
    from codexrelay.protocol.raw import JsonObject

#: An alias that Droid takes for nobody's, and that nobody has to have.
SPARE_ALIAS: Final = "relay-model"
#: What a model can read of which the catalogue does not say it.
_CONTEXT_TOKENS: Final = 272_000
#: Names that Droid takes for OpenAI's (read in 0.225.2).
_LIKE_OPENAI: Final = re.compile(r"\bgpt[-_.]?\d|codex|\bo[1-9](?:[-_.]|$)", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Named:
    """A model by the name that a client is to use."""

    name: str
    context_tokens: int
    #: What the name must be made an alias of, in the relay's configuration, before it is one.
    alias_of: str | None = None
    #: Whether the relay's list has the model; else the backend may know it.
    is_known: bool = True


def models_of(settings: Settings) -> Mapping[str, JsonObject]:
    """Return the models that a relay of this configuration knows before it asks the backend."""
    return read_known(settings, lambda _: None).models.by_slug


def name_for(
    wanted: str | None,
    models: Mapping[str, JsonObject],
    *,
    aliases: Mapping[str, str],
    openai_like: bool,
) -> Named:
    """Return the model of this name, else the first of the list.

    Args:
        wanted: a name that the relay understands; None: any that it has.
        models: entries of the catalogue by name, the best first.
        aliases: those of the configuration.
        openai_like: the name may look like one of OpenAI's. If not, an alias stands for it.

    Raises:
        RequestError: the relay would refuse the name for its parameters, or there is none to take.
    """
    listed = (slug for slug, entry in models.items() if is_listed(entry))
    model = wanted or next(listed, None)
    if model is None:
        raise RequestError(message="the relay's list has no model to take: name one")
    named = _named(model, models, aliases)
    if openai_like or not _LIKE_OPENAI.search(model):
        return named
    for alias, target in aliases.items():
        if not _LIKE_OPENAI.search(alias) and wanted in (None, target):
            return _named(alias, models, aliases)
    return attrs.evolve(named, name=_spare(aliases, models), alias_of=model)


def _spare(aliases: Mapping[str, str], models: Mapping[str, JsonObject]) -> str:
    """Return a name that means nothing yet: `relay-model`, else `relay-model-2` and so on."""
    taken = {name.lower() for name in (*aliases, *models)}
    names = (SPARE_ALIAS if n == 1 else f"{SPARE_ALIAS}-{n}" for n in count(1))
    return next(name for name in names if name not in taken)


def _named(name: str, models: Mapping[str, JsonObject], aliases: Mapping[str, str]) -> Named:
    entry = models.get(choose(name, aliases=aliases, known=models.keys()).slug)
    context_tokens = None if entry is None else get_number(entry, "context_window")
    return Named(
        name=name,
        context_tokens=int(context_tokens or _CONTEXT_TOKENS),
        is_known=entry is not None,
    )
