"""Micro-benchmarks: what single functions of the hot paths cost, each by itself."""
