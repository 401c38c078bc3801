"""A sign-in that waits for its owner, whichever way the answer comes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, assert_never

import attrs
import trio

from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.redirect import Code, Denied
from codexrelay.accounts.login.signed_in import SignedIn

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.define(eq=False)
class Waiting:
    """The first good answer and what became of it; the listener and pasting share it."""

    #: What the issuer was told to send back.
    state: str = attrs.field(repr=False)
    _answer: Code | LoginError | None = attrs.field(default=None, init=False, repr=False)
    _answered: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _ending: SignedIn | LoginError | None = attrs.field(default=None, init=False, repr=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    #: Browsers that are to be told the ending.
    _browsers: int = attrs.field(default=0, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)

    def offer(self, answer: Code | Denied | LoginError) -> None:
        """Bring an answer. The first one counts, every other is dropped: a code is spent once."""
        if self._answer is not None:
            return
        match answer:
            case Denied():
                answer = LoginError(
                    f"the sign-in service has not let you in ({answer.why}). Run the command again"
                )
            case Code() | LoginError():
                pass
            case _:
                assert_never(answer)
        self._answer = answer
        self._answered.set()

    async def answer(self) -> Code | LoginError:
        """Return the first answer, once there is one."""
        while self._answer is None:
            await self._answered.wait()
        return self._answer

    def end(self, ending: SignedIn | LoginError) -> None:
        """Say how the sign-in has ended."""
        self._ending = ending
        self._ended.set()

    async def ending(self) -> SignedIn | LoginError:
        """Return how the sign-in has ended, once it has."""
        while self._ending is None:
            await self._ended.wait()
        return self._ending

    @contextlib.contextmanager
    def browser(self) -> Iterator[None]:
        """Count a browser that waits for its page, until the block ends."""
        self._browsers += 1
        try:
            yield
        finally:
            self._browsers -= 1
            self._changed.set()
            self._changed = trio.Event()

    async def all_told(self) -> None:
        """Return when no browser waits for its page."""
        while self._browsers:
            await self._changed.wait()
