"""A scripted conversation that moves between a local model and Codex: `python -m harness mixed`.

It shows the rule of history compaction where it matters, in the wire logs of both simulated
backends: on while only the local model was asked, off with one warning from the first request to
Codex on, off for good, after a restart of the relay too, and also where it was failover that led to
Codex.

`history` is what the client sends and what of it arrived, `session` plays and judges, `running`
starts and stops what it plays on.
"""
