"""The issuer's words, fit to be shown to a person."""

from __future__ import annotations

from typing import Final

_MOST_CHARACTERS: Final = 300


def plain(text: str, *, secrets: tuple[str, ...] = ()) -> str:
    """Return `text` on one line, without control characters, at most 300 characters long.

    A text that repeats one of `secrets` is not shown at all.
    """
    if any(secret and secret in text for secret in secrets):
        return ""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(words)[:_MOST_CHARACTERS]
