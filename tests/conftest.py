"""How property tests run everywhere."""

from __future__ import annotations

import os

import hypothesis

# How long one example takes says nothing about the code on a machine that is busy otherwise.
_PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}

# The same examples each time: a change is to blame for a red run, never luck. Look for new examples
# with HYPOTHESIS_PROFILE=search.
hypothesis.settings.register_profile("steady", derandomize=True, **_PATIENT)
hypothesis.settings.register_profile("search", max_examples=500, **_PATIENT)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
