"""`GET /metrics`: what was counted since the relay began, in the text form of Prometheus.

Names of sessions are the relay's own ids; nothing that a client said is told.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from quart import Response

from codexrelay.sessions.state import NOTHING_SAVED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from codexrelay.relay.turn import Ending
    from codexrelay.server.lightening import Lightened
    from codexrelay.server.services import Services
    from codexrelay.server.turn_log import Counted

#: For turns that no backend has served.
_NOBODY: Final = ""
_KINDS: Final = ("compaction", "compression")


@attrs.define(eq=False)
class Totals:
    """Counts turns as they end. Labels are names of the configuration, so it stays small."""

    #: By backend, protocol of the client, and how it ended.
    turns: Counter[tuple[str, ...]] = attrs.field(factory=Counter)
    #: By backend and direction.
    tokens: Counter[tuple[str, ...]] = attrs.field(factory=Counter)
    #: By what has saved them.
    saved_bytes: Counter[str] = attrs.field(factory=Counter)
    saved_tokens: Counter[str] = attrs.field(factory=Counter)
    #: WebSockets of clients that are open now.
    client_sockets: int = 0

    def count(
        self, ending: Ending, counted: Counted, lightened: Lightened, *, protocol: str
    ) -> None:
        """Count a turn that has ended; for the arguments see `TurnLog.ended`."""
        backend = ending.backend or _NOBODY
        self.turns[backend, protocol, _outcome(ending)] += 1
        self.tokens[backend, "input"] += max(0, counted.input_tokens or 0)
        self.tokens[backend, "output"] += max(0, counted.output_tokens or 0)
        if ending.backend is None:
            return  # what was not sent has saved nothing
        for kind, savings in zip(
            _KINDS, (lightened.compaction, lightened.compression), strict=True
        ):
            if savings is not NOTHING_SAVED:
                self.saved_bytes[kind] += savings.saved_bytes
                self.saved_tokens[kind] += savings.saved_tokens


def _outcome(ending: Ending) -> str:
    if ending.left:
        return "client_left"
    if ending.fault is not None:
        return "failed"
    return "ended" if ending.terminal is None else ending.terminal.name


async def answer(services: Services) -> Response:
    """Serve the figures."""
    return Response(generate_latest(_Figures(services)), 200, content_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    """The figures of one moment."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        totals = self._services.totals
        yield _counters(
            "codexrelay_turns",
            "Turns that have ended.",
            ("backend", "protocol", "outcome"),
            totals.turns,
        )
        yield _counters(
            "codexrelay_tokens",
            "Tokens by the backends' count.",
            ("backend", "kind"),
            totals.tokens,
        )
        by_kind: dict[tuple[str, ...], int]
        by_kind = {(kind,): totals.saved_bytes[kind] for kind in _KINDS}
        yield _counters(
            "codexrelay_saved_bytes", "Bytes that were not sent to backends.", ("by",), by_kind
        )
        by_kind = {(kind,): totals.saved_tokens[kind] for kind in _KINDS}
        yield _counters(
            "codexrelay_saved_tokens",
            "Tokens that were not sent to backends, by an estimate.",
            ("by",),
            by_kind,
        )
        yield from self._now()
        yield from self._of_sessions()

    def _now(self) -> Iterator[Metric]:
        running, sessions = len(self._services.relay.active), len(self._services.sessions)
        yield GaugeMetricFamily("codexrelay_running_turns", "Turns that run now.", value=running)
        yield GaugeMetricFamily("codexrelay_sessions", "Sessions in memory.", value=sessions)
        yield GaugeMetricFamily(
            "codexrelay_client_websockets",
            "WebSockets of clients that are open now.",
            value=self._services.totals.client_sockets,
        )

    def _of_sessions(self) -> Iterator[Metric]:
        """Tell of the sessions in memory that have saved something; the others would be noise."""
        saved_bytes = GaugeMetricFamily(
            "codexrelay_session_saved_bytes",
            "Bytes that were not sent for a session in memory.",
            labels=("session", "by"),
        )
        saved_tokens = GaugeMetricFamily(
            "codexrelay_session_saved_tokens",
            "Tokens that were not sent for a session in memory, by an estimate.",
            labels=("session", "by"),
        )
        for key, counters in self._services.sessions.savings():
            for kind in _KINDS:
                savings = getattr(counters, kind)
                saved_bytes.add_metric((key.cache_key, kind), savings.saved_bytes)
                saved_tokens.add_metric((key.cache_key, kind), savings.saved_tokens)
        yield saved_bytes
        yield saved_tokens


def _counters(
    name: str, meaning: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]
) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family
