"""Secrets: what they are, where they hide, and what stands in their place.

`secrets` knows exact values, `shapes` what tokens and addresses look like. `views` undoes escapes
and encodings, so that `search` sees both in whatever form they are written. `redaction` replaces
what is found by `stand_ins` of the same length; `scanning` only tells where it is. `texts` puts
filler in the place of texts that are somebody's work.
"""
