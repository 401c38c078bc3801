"""What a point is measured on: programs started for it alone, so that no point inherits traces."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.load import LoadGenerator
from benchmarks.observing import CALLS, ObservedRelay, start_observed
from benchmarks.relay import start_relay
from benchmarks.stub import check_reaches_stub
from benchmarks.subject import BARE_TRIO, CODEXRELAY, Subject
from benchmarks.yardsticks import start_script
from codexrelay.sessions.settings import SessionsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


#: A core's third for bare trio, and more than half of one for a relay with a task for each stream.
EVENTS_PER_S: Final = 10_000


@attrs.frozen
class Kind:
    """Something that can be started, again and again."""

    name: str
    #: It is told how many sessions to keep; otherwise it keeps as many as it does by itself.
    keeps_all_sessions: bool = False


RELAY = Kind(CODEXRELAY, keeps_all_sessions=True)
#: With the relay's own bound on sessions in memory.
RELAY_AS_IS = Kind(f"{CODEXRELAY}, keeping {SessionsSettings().max_sessions:,}")
TRIO = Kind(BARE_TRIO)


@attrs.frozen
class Ground:
    """The stub and the load generator of a run, and what starts between them."""

    stub: Subject
    load: LoadGenerator
    #: Of all streams together, at every point: each does the same work.
    events_per_s: int = EVENTS_PER_S

    @contextlib.contextmanager
    def started(
        self, kind: Kind, *, accounts: int = 1, max_sessions: int | None = None
    ) -> Iterator[Subject]:
        """Start one of a kind, and end it with the block. It has answered one request.

        Raises:
            MeasurementError: it did not start, or does not ask the stub.
        """
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
            if kind == TRIO:
                subject = start_script(
                    stack, TRIO.name, "bare_trio.py", upstream_url=self.stub.url, folder=folder
                )
            else:
                subject = start_relay(
                    stack,
                    stub_url=self.stub.url,
                    folder=folder,
                    accounts=accounts,
                    max_sessions=max_sessions if kind.keeps_all_sessions else None,
                )
            check_reaches_stub(subject, self.stub, ())
            yield subject

    @contextlib.contextmanager
    def observed(
        self, *, accounts: int = 1, max_sessions: int | None = None
    ) -> Iterator[ObservedRelay]:
        """Start a relay whose calls can be counted, and end it with the block.

        Raises:
            MeasurementError: it did not start.
        """
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
            yield start_observed(
                stack,
                stub_url=self.stub.url,
                folder=folder,
                kind=CALLS,
                accounts=accounts,
                max_sessions=max_sessions,
            )
