"""Keeps what was sent to a backend as a secret out of what it says has gone wrong.

Some servers repeat the key that they do not take, and gateways do so inside a stream too. What they
say otherwise stays as it is, whatever is in it: an agent may be at work on the very file that the
key stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.backends.backend import Attempt, Head, Source
from codexrelay.protocol import sse
from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.protocol.faults import Fault, Reached

#: What is shorter is `EMPTY`, `none` or `sk-1`, which is no secret and may be in any text.
_SHORTEST_SECRET: Final = 8
_HIDDEN: Final = b"[hidden]"
#: An event, or a body in one piece, that tells an error: inside a JSON text the keys' quotes are
#: escaped, so that what is found is a key. `error: null` stands in many that tell none.
_TELLS_ERROR: Final = re.compile(
    rb"""
    (?: \A | [\r\n] ) event: \ ? error \b
    | "error" \s*+ : \s*+ ["{]
    | "(?: object | type )" \s*+ : \s*+ "(?: error | response\.failed )"
    """,
    re.VERBOSE,
)
#: How an answer begins: with a field of an event, a comment, an object, or the mark of UTF-8.
_ANSWERS_BEGIN: Final = re.compile(rb"\s*(?:\Z|[:{\xef]|(?:event|data|id|retry):)")


@attrs.frozen
class Secrets:
    """Everything that is sent to one backend and shown to nobody."""

    #: In every form in which it can stand in an answer.
    _written: tuple[bytes, ...] = attrs.field(repr=False)

    @classmethod
    def of(cls, sent: Iterable[str]) -> Secrets:
        """Return the secrets among the values that are sent."""
        secrets = [one for one in sent if len(one) >= _SHORTEST_SECRET]
        written = (form for one in secrets for form in (one.encode("latin-1"), dump(one)[1:-1]))
        return cls(tuple(dict.fromkeys(written)))

    def are_in(self, data: bytes) -> bool:
        """Tell whether one of them stands there."""
        return any(secret in data for secret in self._written)

    def hidden_in(self, data: bytes) -> bytes:
        """Return `data` without them."""
        for secret in self._written:
            data = data.replace(secret, _HIDDEN)
        return data


@attrs.define(eq=False)
class DiscreetAttempt:
    """See `Attempt`: errors in what it receives are told without the secrets."""

    _inside: Attempt
    _secrets: Secrets
    #: Whether the body can be an answer, by its first bytes; None: nothing has come.
    _is_answer: bool | None = attrs.field(default=None, init=False)
    _source: DiscreetSource | None = attrs.field(default=None, init=False)

    @property
    def reached(self) -> Reached:
        """See `Attempt.reached`."""
        return self._inside.reached

    async def send(self) -> Head | Fault:
        """See `Attempt.send`; a refusal is told without the secrets by its backend."""
        return await self._inside.send()

    @property
    def is_whole(self) -> bool:
        """See `Attempt.is_whole`."""
        return self._inside.is_whole

    @property
    def source(self) -> Source | None:
        """See `Attempt.source`."""
        inside = self._inside.source
        if inside is None:
            return None
        if self._source is None:
            self._source = DiscreetSource(inside, self.shown)
        return self._source

    async def receive(self) -> bytes | Fault:
        """See `Attempt.receive`."""
        received = await self._inside.receive()
        return self.shown(received) if isinstance(received, bytes) else received

    def shown(self, received: bytes) -> bytes:
        """Return what was received next as it may be shown."""
        if self._is_answer is None and received.strip():
            self._is_answer = _ANSWERS_BEGIN.match(received) is not None
        if not self._secrets.are_in(received):
            return received
        if not self._is_answer:  # a page
            return self._secrets.hidden_in(received)
        return b"".join(self._told(raw) for raw in sse.split(received))

    def _told(self, raw: bytes) -> bytes:
        return raw if _TELLS_ERROR.search(raw) is None else self._secrets.hidden_in(raw)


@attrs.define(eq=False)
class DiscreetSource:
    """See `Source`: what `DiscreetAttempt` is for `receive`."""

    _inside: Source
    _shown: Callable[[bytes], bytes]

    def fileno(self) -> int:
        """See `Source.fileno`."""
        return self._inside.fileno()

    def receive_now(self) -> bytes | None:
        """See `Source.receive_now`."""
        received = self._inside.receive_now()
        return self._shown(received) if received else received

    @property
    def is_over(self) -> bool:
        """See `Source.is_over`."""
        return self._inside.is_over
