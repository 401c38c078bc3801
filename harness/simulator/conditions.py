"""What an account can be in until somebody lifts it: all its requests are answered that way.

A fault spoils one answer; a condition stands. Its bodies are those of the faults of the same kind.

| condition | what the account's requests get |
| --- | --- |
| `no_codex` | model requests: 429 `usage_not_included` |
| `deactivated` | every request: 402 `deactivated_workspace` |
| `overloaded` | model requests: 503 |
| `throttled` | model requests: 429 `rate_limit_exceeded`, with the seconds that were asked for |
| `unauthorized` | every request: 401, whatever the bearer; refreshing goes on working |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from attrs import validators as v

from harness.simulator.faults import DEACTIVATED, DEFAULT_WAIT_S, INSTEAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.faults import Situation
    from harness.simulator.steps import Answer

#: Conditions in which the account is refused everything -> status and body.
_REFUSED: Final[Mapping[str, tuple[int, JsonObject]]] = {
    "deactivated": DEACTIVATED,
    "unauthorized": (401, {"detail": "Unauthorized"}),
}
#: Conditions in which only the model is refused -> the fault that answers in its place.
_MODEL_REFUSED: Final[Mapping[str, str]] = {
    "no_codex": "no_codex",
    "overloaded": "503",
    "throttled": "429plain",
}
CONDITIONS: Final = frozenset(_REFUSED) | frozenset(_MODEL_REFUSED)


@attrs.frozen
class Condition:
    """One condition of one account."""

    name: str = attrs.field()
    #: For `throttled`: how long the client is told to wait, in seconds.
    wait_s: float = attrs.field(default=DEFAULT_WAIT_S, kw_only=True, validator=v.ge(0))

    @name.validator
    def _must_be_known(self, _attribute: object, name: str) -> None:
        if name not in CONDITIONS:
            known = ", ".join(sorted(CONDITIONS))
            raise ValueError(f"no condition is called {name!r}; known: {known}")

    @property
    def refusal(self) -> tuple[int, JsonObject] | None:
        """Status and body of the answer to any request; None if only the model is refused."""
        return _REFUSED.get(self.name)

    def answer(self, situation: Situation) -> Answer:
        """Return the answer to a model request that was not refused by then."""
        return INSTEAD[_MODEL_REFUSED[self.name]](attrs.evolve(situation, wait_s=self.wait_s))
