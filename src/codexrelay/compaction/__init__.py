"""Shortening of histories (compaction) and of tool outputs (compression). Pure functions.

A *call* (`calls.py`, `commands.py`, `spans.py`) is what a model asked of a tool; its *result*
(`results.py`) is what came back, in a Chat or a Responses history. A result is *stale* (`stale.py`)
if a later one is of the same *resource*; above a number of tokens (`estimate.py`) stale results
become *stubs* (`history.py`). Compression shortens single results, stale or not.
"""
