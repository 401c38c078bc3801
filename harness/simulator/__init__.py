"""A Codex backend on loopback that answers by rules."""
