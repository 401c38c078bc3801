"""How tests run everywhere, whatever they were started from."""

from __future__ import annotations

import os
import signal

import hypothesis

from harness.children import let_children_be_interrupted

# Some tests interrupt a program they have started, and a build may run us in its background.
let_children_be_interrupted()
# Or under `nohup`, which the relay respects, so that no test could hang it up.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long one example takes says nothing about the code on a machine that is busy otherwise.
_PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}

# The same examples each time: a change is to blame for a red run, never luck. Look for new examples
# with HYPOTHESIS_PROFILE=search.
hypothesis.settings.register_profile("steady", derandomize=True, **_PATIENT)
hypothesis.settings.register_profile("search", max_examples=500, **_PATIENT)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
