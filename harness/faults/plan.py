"""Which answer of a replay gets which fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from harness.cassettes.performance import performance_of
from harness.faults.forms import SCOPES
from harness.faults.text import Fault, Scope, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.cassettes.model import Interaction
    from harness.cassettes.performance import Performance

#: The status of a WebSocket.
_SWITCHED: Final = 101


@attrs.define(eq=False)
class Plan:
    """The faults of one replay. It counts the requests that come, so it serves one replay."""

    faults: tuple[Fault, ...] = ()
    #: Scope without its number -> requests of that kind that have come.
    _come: dict[str, int] = attrs.field(factory=dict, init=False)
    #: Place and count of a request -> the faults that it meets.
    _met: dict[tuple[object, ...], Sequence[Fault]] = attrs.field(factory=dict, init=False)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Plan:
        """Return the plan that some texts describe; where several meet an answer, all of them do.

        Raises:
            FaultTextError: one of them cannot be understood.
        """
        return cls(tuple(map(parse, texts)))

    def change(self, interaction: Interaction, count: int = 0) -> Performance:
        """Return how an interaction is to be played now. To be called once for each request.

        `count` is the how-manieth request of its method and path it is, from 1; 0: nobody knows.
        Asked for the same one again, as of a WebSocket that turns out to be another recording, it
        is met by the same faults.
        """
        path = urlsplit(interaction.request.uri).path
        place = (interaction.request.method, path, interaction.response.status == _SWITCHED, count)
        if (met := self._met.get(place)) is None:
            met = self._due(interaction)
            if count:
                self._met[place] = met
        performance = performance_of(interaction)
        for fault in met:
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
