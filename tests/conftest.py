"""How tests run everywhere, whatever they were started from."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog

from harness.children import let_children_be_interrupted

if TYPE_CHECKING:
    from collections.abc import Generator

# Some tests interrupt a program they have started, and a build may run us in its background.
let_children_be_interrupted()
# Or under `nohup`, which the relay respects, so that no test could hang it up.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long one example takes says nothing about the code on a machine that is busy otherwise.
_PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}

# The same examples each time: a change is to blame for a red run, never luck. Look for new examples
# with HYPOTHESIS_PROFILE=search. The same ones find nothing new, so half as many as usual will do.
hypothesis.settings.register_profile("steady", derandomize=True, max_examples=50, **_PATIENT)
hypothesis.settings.register_profile("search", max_examples=500, **_PATIENT)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# structlog would draw each traceback with the values of all variables, which takes seconds.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what stays: modules, their rewritten asserts, thousands of tests.

    It is a third of the time that collecting tests takes. Afterwards garbage is looked for seldom,
    and never among those.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(10_000)
