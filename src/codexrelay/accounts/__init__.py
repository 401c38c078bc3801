"""The owner's accounts.

`pool` and `strategies` decide and are pure; `store` and `legacy` are files; `refresh` talks to the
issuer; `lender` is the one that turns ask, and puts the others together. This file stays a
docstring: an import here would drag I/O in with the pure modules.
"""
