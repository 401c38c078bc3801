"""A relay that is observed from within (`observed.py`), seen from the benchmarks' side."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.relay import start_relay
from benchmarks.subject import MeasurementError, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM: Final = Path(__file__).resolve().parent / "observed.py"
#: It waits for the end of the relay's step only.
_ANSWER_S: Final = 20.0
_POLL_S: Final = 0.01

#: What is observed: every call, or where the relay is, again and again.
CALLS: Final = "calls"
SAMPLES: Final = "samples"


@attrs.frozen
class ObservedRelay:
    """A running relay and the file that it writes."""

    subject: Subject
    file: Path

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        """Observe it in the block; `file` is complete behind it.

        Raises:
            MeasurementError: it does not answer.
        """
        begun = self.file.with_suffix(".begun")
        for path in (begun, self.file):
            path.unlink(missing_ok=True)
        self._tell(signal.SIGUSR1, begun)
        yield
        self._tell(signal.SIGUSR2, self.file)

    def _tell(self, number: signal.Signals, shown_by: Path) -> None:
        assert self.subject.pid is not None
        os.kill(self.subject.pid, number)
        until_s = time.monotonic() + _ANSWER_S
        while not shown_by.exists():
            if time.monotonic() > until_s:
                raise MeasurementError("the observed relay does not answer")
            time.sleep(_POLL_S)


def start_observed(
    stack: contextlib.ExitStack,
    *,
    stub_url: str,
    folder: Path,
    kind: str,
    accounts: int = 1,
    max_sessions: int | None = None,
) -> ObservedRelay:
    """Start a relay that observes itself; `kind` is `CALLS` or `SAMPLES`.

    The rest is as for `start_relay`.

    Raises:
        MeasurementError: it did not start.
    """
    file = folder / kind
    # -P: no module of this folder may take the place of one that the relay imports.
    program = ("-P", str(_PROGRAM), kind, str(file))
    name = f"relay-{kind}"
    relay = start_relay(
        stack,
        stub_url=stub_url,
        folder=folder,
        name=name,
        program=program,
        accounts=accounts,
        max_sessions=max_sessions,
    )
    return ObservedRelay(relay, file)
