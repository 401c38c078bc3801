"""Backends of other kinds: any OpenAI-compatible API, Chat or Responses, with at most one key.

Nouns: the *place* of a backend is what messages call it and its keys; its *key* comes from a
variable or a file; its *standing* is whether it rests or is unwell; its *lender* stands where the
family has one, with a single account of no tokens. Nothing of the client's headers and no token of
an account ever goes to such a backend.
"""
