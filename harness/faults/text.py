"""A fault as a short text: `[SCOPE:]TERM[+TERM]…`, the terms applied from left to right.

| text | what goes wrong |
| --- | --- |
| `cut@1234+rst` | every turn's answer is reset after 1234 bytes of its body |
| `2:cut@e3` | only the second turn's: the connection is closed behind its third event |
| `delay@0=2.5s+split` | the answers begin 2.5 seconds late and come byte by byte |
| `refresh:cut@40+rst` | token refreshes: the sign-in service resets in the middle of its answer |
| `any:1:status=503` | the very first request, whatever it asks for |

The scope names the requests that are hit: `turn` (model requests, the default), `refresh` (at the
sign-in service) or `any`, and the how-manieth of them; without a number it is each of them.
The operators stand in `harness/faults/forms.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from harness.faults.forms import SCOPES, listing, read
from harness.faults.operators import Operator
from harness.faults.terms import FaultTextError

if TYPE_CHECKING:
    from harness.cassettes.model import Interaction
    from harness.cassettes.performance import Performance

_SCOPE: Final = re.compile(
    rf"(?:(?P<what>{'|'.join(SCOPES)}):)?(?:(?P<number>[0-9]{{1,9}}):)?(?P<terms>.*)", re.DOTALL
)
_TURNS: Final = ("/responses", "/responses/compact", "/chat/completions")
_REFRESHES: Final = "/oauth/token"
_SWITCHED: Final = 101

__all__ = ["Fault", "FaultTextError", "Scope", "listing", "parse"]


@attrs.frozen
class Scope:
    """Which answers a fault meets."""

    #: One of `SCOPES`.
    what: str = "turn"
    #: The how-manieth of them, from 1; None: each.
    number: int | None = None

    def __str__(self) -> str:
        what = "" if self.what == "turn" else f"{self.what}:"
        return what if self.number is None else f"{what}{self.number}:"

    def covers(self, interaction: Interaction) -> bool:
        """Tell whether a request is of the kind that is hit."""
        if self.what == "any":
            return True
        request = interaction.request
        path = urlsplit(request.uri).path.rstrip("/")
        if self.what == "refresh":
            return path.endswith(_REFRESHES)
        # A GET is a turn if it became a WebSocket, which is one however many messages it carries.
        asks = request.method == "POST" or interaction.response.status == _SWITCHED
        return asks and path.endswith(_TURNS)


@attrs.frozen
class Fault:
    """Some operators, one after the other, and which answers they meet."""

    operators: tuple[Operator, ...]
    scope: Scope = Scope()

    def __str__(self) -> str:
        return f"{self.scope}{'+'.join(map(str, self.operators))}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with everything done to it. Its scope is not asked."""
        for operator in self.operators:
            performance = operator.apply(performance)
        return performance


def parse(text: str) -> Fault:
    """Return the fault that a text describes; `str` of it is the text in its usual form.

    Raises:
        FaultTextError: it describes none; the message names the term and what is allowed.
    """
    match = _SCOPE.fullmatch(text)
    if match is None or not match["terms"]:
        raise FaultTextError(f"{text!r} names no fault: [SCOPE:]TERM[+TERM], as in 2:cut@e3+rst")
    number = None if match["number"] is None else int(match["number"])
    if number == 0:
        raise FaultTextError(f"{text!r}: requests are counted from 1")
    terms = match["terms"].split("+")
    if not all(terms):
        raise FaultTextError(f"{text!r}: a term is empty; a plus sign in a value is written %2B")
    operators = tuple(map(read, terms))
    return Fault(operators, Scope(match["what"] or "turn", number))
