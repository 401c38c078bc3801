"""Shortening of histories (compaction) and of tool outputs (compression). Still empty."""
