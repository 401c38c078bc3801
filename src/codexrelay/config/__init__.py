"""The only reader of YAML, environment and flags."""
