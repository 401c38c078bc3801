"""One file per agent program: how to install, configure and run it."""
