"""What clients call their models, read once for each name.

A name is read by the configuration and the catalogue alone, and an agent says the same one with
every request.
"""

from __future__ import annotations

from typing import Final

import attrs

from codexrelay.backends.codex.catalogue import Models
from codexrelay.config.settings import Settings
from codexrelay.protocol.model_choice import ModelChoice

#: Real ones have some twenty characters; names are the client's own, and so is their number.
_MAX_CHARACTERS: Final = 200
_MAX_NAMES: Final = 256


@attrs.define(eq=False)
class ModelNames:
    """The names that were read, by one configuration and one catalogue."""

    _settings: Settings | None = None
    _models: Models | None = None
    _read: dict[str, tuple[ModelChoice, ...]] = attrs.field(factory=dict, init=False)

    def by(self, settings: Settings, models: Models) -> ModelNames:
        """Return these names, without those that were read by others than these two."""
        if settings is not self._settings or models is not self._models:
            self._settings, self._models = settings, models
            self._read.clear()
        return self

    def get(self, name: str) -> tuple[ModelChoice, ...] | None:
        """Return what a name means, None if it was not read yet."""
        return self._read.get(name)

    def keep(self, name: str, choices: tuple[ModelChoice, ...]) -> None:
        """Remember what a name means."""
        if len(name) <= _MAX_CHARACTERS:
            if len(self._read) == _MAX_NAMES:
                self._read.clear()
            self._read[name] = choices
