"""The relay's proving ground: a simulated Codex backend, the demo, and runs of real agent programs.

`python -m harness simulate|demo|compat`. It may use the relay; the relay never imports it.
"""
