"""Refreshing, and being left, under stress: `python -m harness stress`.

Nouns: a *door* stands before the sign-in service, one for each program that calls it, and sees and
delays each call; the *books* say which token is whose and what became of each call; a *participant*
is a program that shares accounts with others; its *turn* is to use them once. An *expiry* makes the
backend reject every access token of an account. A pair of tokens is *lost* if the issuer has made
it and no file holds it.

`sharing`: three relays and a fourth program share accounts, and after each expiry exactly one of
them may refresh. `killing`: relays are killed (SIGKILL) at random points of a refresh, and no more
may be lost than the protocol takes. `leaving`: clients leave a relay in every phase of a turn, over
HTTP and WebSockets, and `holding` sees that nothing stays behind. `codex_like` and `account_user`
are the fourth programs; they run by themselves and import nothing of the harness.
"""
