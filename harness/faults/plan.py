"""Which answer of a replay gets which fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from harness.cassettes.performance import performance_of
from harness.faults.forms import SCOPES
from harness.faults.text import Fault, Scope, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.cassettes.model import Interaction
    from harness.cassettes.performance import Performance


@attrs.define(eq=False)
class Plan:
    """The faults of one replay. It counts the requests that come, so it serves one replay."""

    faults: tuple[Fault, ...] = ()
    #: Scope without its number -> requests of that kind that have come.
    _come: dict[str, int] = attrs.field(factory=dict, init=False)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Plan:
        """Return the plan that some texts describe; where several meet an answer, all of them do.

        Raises:
            FaultTextError: one of them cannot be understood.
        """
        return cls(tuple(map(parse, texts)))

    def change(self, interaction: Interaction, count: int = 0) -> Performance:  # noqa: ARG002
        """Return how an interaction is to be played now. To be called once for each request.

        `count`, which replay counts by interaction, is not used: a scope counts requests of a kind.
        """
        performance = performance_of(interaction)
        for fault in self._due(interaction):
            performance = fault.apply(performance)
        return performance

    def _due(self, interaction: Interaction) -> list[Fault]:
        for what in SCOPES:
            if Scope(what).covers(interaction):
                self._come[what] = self._come.get(what, 0) + 1
        return [
            fault
            for fault in self.faults
            if fault.scope.covers(interaction)
            and fault.scope.number in (None, self._come[fault.scope.what])
        ]
