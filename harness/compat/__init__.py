"""Real agent programs, run through relay and simulator."""
