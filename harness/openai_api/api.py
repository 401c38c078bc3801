"""What the simulated API knows: its wire, its key, its models, and the faults that wait."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import attrs
from attrs import validators as v

from harness.openai_api.faults import FAULTS
from harness.simulator.ids import Ids
from harness.simulator.seen import Seen

Wire: TypeAlias = Literal["chat", "responses"]
WIRES: Final[tuple[Wire, ...]] = get_args(Wire)
#: The key that it wants unless it is told otherwise; no secret.
KEY: Final = "simulated-key-4711"
MODEL: Final = "local-model"


@attrs.define(eq=False, repr=False, kw_only=True)
class SimulatedApi:
    """The state behind the endpoints, and the switches that tests and `/_sim` turn."""

    wire: Wire = attrs.field(default="chat", validator=v.in_(WIRES))
    #: What every request must carry as its bearer; None: no request may carry one.
    key: str | None = KEY
    models: tuple[str, ...] = (MODEL,)
    #: Seconds between two deltas; 0 sends an answer in one burst.
    pace_s: float = 0.0
    wall_clock: Callable[[], float] = time.time
    #: Source of ids.
    seed: int = 0
    #: What was asked, in the order of arrival.
    seen: list[Seen] = attrs.field(factory=list, init=False)
    ids: Ids = attrs.field(init=False)
    _faults: deque[str] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self.ids = Ids(random.Random(self.seed))

    def queue_faults(self, *names: str) -> None:
        """Spoil the answers to the next main model requests, one each, in this order.

        Raises:
            ValueError: a name is not in `FAULTS`; none is queued.
        """
        for name in names:
            if name not in FAULTS:
                raise ValueError(f"no fault is called {name!r}; known: {', '.join(sorted(FAULTS))}")
        self._faults.extend(names)

    def forget_faults(self) -> None:
        """Let the next requests be answered well."""
        self._faults.clear()

    def next_fault(self) -> str | None:
        """Take the fault that waits for the next main request, None if none does."""
        return self._faults.popleft() if self._faults else None

    @property
    def turns(self) -> list[Seen]:
        """Return the model requests, in the order of arrival."""
        return [seen for seen in self.seen if seen.method == "POST" and "/_sim/" not in seen.path]
