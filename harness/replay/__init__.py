"""Replay: serves what a cassette holds, inside a relay or as a backend of its own.

A request is matched without what varies from run to run (`varying`, `matching`), a `ledger` hands
out the recorded answers in recorded order and knows what was missed, `steps` says what is done when
(`pace`), and `transport` or `server` does it. Nothing here ever connects to anybody.
"""
