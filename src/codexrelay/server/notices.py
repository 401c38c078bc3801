"""What is said once for each session, however many turns it has."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import attrs

#: So many are remembered; a session that was quiet while so many others spoke is told again.
MAX_REMEMBERED: Final = 2_000


@attrs.define(eq=False)
class Notices:
    """Remembers what was said of which session."""

    #: Least recently asked about first.
    _said: OrderedDict[tuple[str, str], None] = attrs.field(factory=OrderedDict)

    def first(self, session: str, what: str) -> bool:
        """Tell whether `what` is to be said of the session now, for the first time."""
        known = (session, what) in self._said
        self._said[session, what] = None
        self._said.move_to_end((session, what))
        if len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)
        return not known
