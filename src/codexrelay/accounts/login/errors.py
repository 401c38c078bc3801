"""Why a sign-in did not come about, told to the person who tries it."""

from __future__ import annotations

import attrs

from codexrelay.errors import CodexRelayError, in_words


@attrs.frozen
class LoginError(CodexRelayError):
    """The sign-in has failed; nothing was stored."""

    #: What happened and what to do now. Holds no token, code or verifier.
    message: str

    def __str__(self) -> str:
        return self.message


def timed_out(after_s: float) -> LoginError:
    """Return what to say when the caller's deadline has ended the sign-in."""
    return LoginError(
        f"nobody has signed in within {in_words(after_s)}. Run the command again; a larger "
        "`--timeout` gives more time, `--device` signs in with a browser on any machine"
    )
