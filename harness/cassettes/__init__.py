"""Cassettes: what was said, byte for byte and moment for moment, in files that vcrpy can load.

`model` says what a cassette is; the other modules write it down, read it and judge it.
"""
