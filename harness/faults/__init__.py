"""Faults: what goes wrong with an answer, as pure changes of it, named by a short text.

`forms` holds the table of all of them. `plan` says which answer gets which.
"""
