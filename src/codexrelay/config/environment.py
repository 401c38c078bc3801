"""The environment as a source."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.config.keys import Given, Reading, key_named
from codexrelay.config.values import from_text
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_BACKEND: Final = "backends.openai_codex"
_MANAGED: Final = f"{_BACKEND}.extra.codex.managed_oauth"
_PREFIX: Final = "OPENAI_CODEX_"

#: Variable -> full key path. Every key of managed accounts has one.
VARIABLES: Final[Mapping[str, str]] = {
    "OPENAI_API_BASE_URL": f"{_BACKEND}.api_base_url",
    "OPENAI_CODEX_PATH": f"{_BACKEND}.auth_path",
    **{
        f"{_PREFIX}MANAGED_OAUTH_{field.name.upper()}": f"{_MANAGED}.{field.name}"
        for field in attrs.fields(ManagedOAuthSettings)
    },
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
