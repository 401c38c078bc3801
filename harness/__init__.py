"""The relay's proving ground: simulated backends, the demo, real servers, and real agent programs.

`python -m harness` with

- `simulate`, `simulate-openai`: a Codex backend and an OpenAI-compatible one on loopback;
- `demo`, `mixed`: what the relay does, shown and checked;
- `compat`, `servers`, `stress`: the real programs, the real servers, and many relays at once.

It may use the relay; the relay never imports it.
"""
