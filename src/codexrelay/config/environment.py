"""The environment as a source."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from codexrelay.config.keys import Given, Reading, key_named
from codexrelay.config.values import from_text
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_BACKEND: Final = "backends.openai_codex"
_MANAGED: Final = f"{_BACKEND}.extra.codex.managed_oauth"
_PREFIX: Final = "OPENAI_CODEX_"

#: Variable -> full key path.
VARIABLES: Final[Mapping[str, str]] = {
    "OPENAI_API_BASE_URL": f"{_BACKEND}.api_base_url",
    "OPENAI_CODEX_PATH": f"{_BACKEND}.auth_path",
    "OPENAI_CODEX_MANAGED_OAUTH_ENABLED": f"{_MANAGED}.enabled",
    "OPENAI_CODEX_MANAGED_OAUTH_STORAGE_PATH": f"{_MANAGED}.storage_path",
    "OPENAI_CODEX_MANAGED_OAUTH_ACCOUNTS": f"{_MANAGED}.accounts",
    "OPENAI_CODEX_MANAGED_OAUTH_SELECTION_STRATEGY": f"{_MANAGED}.selection_strategy",
    "OPENAI_CODEX_MANAGED_OAUTH_REFRESH_BUFFER_SECONDS": f"{_MANAGED}.refresh_buffer_seconds",
    "OPENAI_CODEX_MANAGED_OAUTH_ALLOW_LEGACY_FALLBACK": f"{_MANAGED}.allow_legacy_fallback",
}


def read(environ: Mapping[str, str]) -> Reading:
    """Read the variables that are keys, and warn of those that look as if they were.

    A variable that is set and empty counts as given: to ignore it would be a guess.
    """
    return Reading(
        found=tuple(
            _given(variable, environ[variable]) for variable in VARIABLES if variable in environ
        ),
        warnings=tuple(
            Problem(variable, _unknown(variable))
            for variable in sorted(environ)
            if variable.startswith(_PREFIX) and variable not in VARIABLES
        ),
    )


def _given(variable: str, text: str) -> Given:
    key = key_named(VARIABLES[variable])
    return Given(key=key, value=from_text(text, key.wanted), where=variable)


def _unknown(variable: str) -> str:
    alike = difflib.get_close_matches(variable, VARIABLES, n=1)
    return "no such setting, ignored" + (f"; did you mean {alike[0]}?" if alike else "")
