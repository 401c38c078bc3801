"""The environment as a source."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from codexrelay.config.dropped import why_variable_dropped
from codexrelay.config.keys import VARIABLES, Entry, Given, Origin, Reading, from_outside
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREFIX: Final = "OPENAI_CODEX_"
#: A variable that is another program's too. Empty it is as good as not set, as that one takes it.
_SHARED: Final = frozenset({"CODEX_CA_CERTIFICATE"})


def read(environ: Mapping[str, str]) -> Reading:
    """Read the variables that are keys, and warn of those that look as if they were.

    A variable of ours that is set and empty counts as given: to ignore it would be a guess.
    """
    return Reading(
        found=tuple(
            found
            for variable in VARIABLES
            if variable in environ and not (variable in _SHARED and environ[variable] == "")
            for found in _found(variable, environ[variable])
        ),
        warnings=tuple(
            Problem(variable, _unknown(variable))
            for variable in sorted(environ)
            if variable not in VARIABLES
            and (variable.startswith(_PREFIX) or why_variable_dropped(variable))
        ),
    )


def _found(variable: str, text: str) -> Iterator[Given | Problem | Entry]:
    origin = Origin("variable", variable)
    return from_outside(VARIABLES[variable], text, place=variable, origin=origin)


def _unknown(variable: str) -> str:
    if reason := why_variable_dropped(variable):
        return f"ignored, not supported: {reason}"
    alike = difflib.get_close_matches(variable, VARIABLES, n=1)
    return "no such setting, ignored" + (f"; did you mean {alike[0]}?" if alike else "")
