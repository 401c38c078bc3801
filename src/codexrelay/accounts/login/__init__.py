"""Signing in: from nothing to the tokens of one account.

Two ways. `browser`: the owner signs in at the issuer's page, which sends the browser back to a
listener here (`callback`) with a code; or the owner pastes where the browser was sent. `device`:
the owner types a short code at the issuer's page, on any machine. Either way `exchange` turns a
code into tokens, and `signed_in` reads from them whose they are. Nothing here knows where accounts
are kept: that is `accounts/enrol.py`.

Source: wire notes 1.1, 1.4 (measured, Codex CLI 0.169).
"""
