"""Measures other relays by the means that measure codexrelay, and prints them side by side.

Each peer is a pinned version from the package index, in front of a simulated backend of its own,
on loopback. Nothing of it is changed but the addresses where its backend and its sign-in service
are.
"""
