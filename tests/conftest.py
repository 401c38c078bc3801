"""How property tests run everywhere."""

from __future__ import annotations

import hypothesis

# How long one example takes says nothing about the code on a machine that is busy otherwise.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")
