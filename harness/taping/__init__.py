"""Records whole conversations of the real programs, for `cassettes`."""
