"""What differs between two cassettes, told for somebody who reviews a change.

`command` is what a person calls; `cassettes` pairs what belongs together; `values` compares JSON,
events and texts, with ids equal up to renaming as the replayer sees them.
"""
