"""The models of a backend of another kind, by its own word."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.wire import RawAnswer, exchange, keep_to
from codexrelay.backends.openai.backend import OpenAIBackend
from codexrelay.backends.openai.headers import request_headers
from codexrelay.errors import KeyUnusableError
from codexrelay.protocol.raw import get_list, get_text, is_object, parse

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json

#: How long a list is good for, and how long an answer that was none keeps others from asking.
GOOD_S: Final = 60.0
FAILED_S: Final = 5.0
#: Somebody waits for it: a client's list of models, or a turn.
ANSWER_S: Final = 2.0
#: Of a name and of a list; what is more is no list of models.
MAX_NAME_CHARACTERS: Final = 256
MAX_MODELS: Final = 5000
MAX_LIST_BYTES: Final = 16 * 1024 * 1024


@attrs.define(eq=False)
class Listing:
    """Asks a backend for its models when somebody wants to know, and remembers what it said."""

    backend: OpenAIBackend
    _models: tuple[str, ...] = attrs.field(default=(), init=False)
    #: trio's clock.
    _good_until_s: float = attrs.field(default=-math.inf, init=False)
    #: Held by who asks: the others wait for the same answer, or take over if that one leaves.
    _asking: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def listed(self) -> tuple[str, ...]:
        """Return the names of its models, in its order; takes 2 s at most, and never fails.

        What it said is good for a minute. While it cannot be asked, what it said last stays; none
        if it never said anything.
        """
        with trio.move_on_after(ANSWER_S) as patience:
            async with self._asking:
                if trio.current_time() >= self._good_until_s:
                    await self._ask()
        if patience.cancelled_caught:
            self._good_until_s = max(self._good_until_s, trio.current_time() + FAILED_S)
        return self._models

    async def _ask(self) -> None:
        models = None
        # Whoever sends a turn there is told why.
        with contextlib.suppress(KeyUnusableError, httpx.RequestError):
            models = models_in(await ask(self.backend))
        if models is not None:
            self._models = models
        self._good_until_s = trio.current_time() + (FAILED_S if models is None else GOOD_S)


async def ask(backend: OpenAIBackend) -> RawAnswer:
    """Ask a backend for its models. The deadline is the caller's.

    Raises:
        KeyUnusableError: its key cannot be sent.
        httpx.RequestError: there is no answer, or it broke off.
    """
    await backend.key.look()
    headers = request_headers(key=backend.key.text, further=backend.further, streams=False)
    request = httpx.Request("GET", backend.url("/models"), headers=headers)
    keep_to(backend.base_url, request)
    return await exchange(backend.transport, request, max_bytes=MAX_LIST_BYTES)


def models_in(answer: RawAnswer) -> tuple[str, ...] | None:
    """Return the models that an answer names, None if it is no list of models."""
    if not 200 <= answer.status < 300:
        return None
    try:
        value = parse(answer.body)
    except ValueError:
        return None
    if not isinstance(value, list):
        if not is_object(value) or not isinstance(value.get("data", value.get("models")), list):
            return None
        value = get_list(value, "data") or get_list(value, "models")
    names = (name for entry in value if (name := _name_of(entry)) is not None)
    return tuple(dict.fromkeys(names))[:MAX_MODELS]


def _name_of(entry: Json) -> str | None:
    if not is_object(entry):
        return None
    name = get_text(entry, "id") or get_text(entry, "name")
    if name is None or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        return None
    return name
