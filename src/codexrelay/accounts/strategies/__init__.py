"""Selection strategies, one file each, found by the pool under their name."""
