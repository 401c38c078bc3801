"""The newcomer's first minute: simulator and relay, shown at work."""
