"""Conversations of clients: how one is recognised, and the actor that owns its state.

The actor decides (`decide` is a pure function) and never streams; turns of one session run in
parallel.
"""
