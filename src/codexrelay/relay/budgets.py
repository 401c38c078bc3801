"""The time allowed to each phase of a turn."""

from __future__ import annotations

import attrs
from attrs import validators as v


@attrs.frozen(kw_only=True)
class Budgets:
    """Seconds allowed to each phase; the error of one that ran out names it.

    The first four count per attempt, `turn_s` over all attempts of a turn and its whole answer.
    """

    #: Until the connection to the backend stands (TCP and TLS).
    connect_s: float = attrs.field(default=10.0, validator=v.gt(0))
    #: From the start of the attempt until the response's headers.
    headers_s: float = attrs.field(default=120.0, validator=v.gt(0))
    #: From the headers until the first whole event; comments do not count.
    first_event_s: float = attrs.field(default=120.0, validator=v.gt(0))
    #: Between two receives while the stream runs. Any bytes count, upstream's keep-alives too.
    silence_s: float = attrs.field(default=120.0, validator=v.gt(0))
    #: The whole turn.
    turn_s: float = attrs.field(default=3600.0, validator=v.gt(0))
    #: Where the configuration has their backend, for who wants to change one.
    block: str = "backends.openai_codex"
