"""A simulated backend in another process, steered over its control endpoints."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.protocol.raw import get_list, get_number, is_object, parse
from harness.simulator.seen import seen_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator import Seen

#: Between two looks at what was seen.
_LOOK_AGAIN_S: Final = 0.05
_TIMEOUT_S: Final = 30.0
_CONTROL: Final = "/_sim/"


class BackendError(Exception):
    """No simulator of ours answers there; the text says what did."""


@attrs.define(eq=False)
class RemoteBackend:
    """A `python -m harness simulate` that runs."""

    #: Its address, without a path.
    url: str
    _http: httpx.AsyncClient
    #: Names of its accounts, as of the latest reset.
    accounts: tuple[str, ...] = ()
    #: What our clock is ahead of its one.
    _ahead_s: float = 0.0

    async def reset(self, *, pace_s: float = 0.0) -> None:
        """Let it forget all but its accounts and their tokens.

        Raises:
            BackendError: see there.
        """
        asked_at_s = trio.current_time()
        told = await self._post("reset", {"pace_s": pace_s})
        its_now_s = get_number(told, "now_s")
        if its_now_s is None:
            raise BackendError(f"{self.url} is no simulated backend: it does not say its time")
        # It answered somewhere between the two, which on loopback are milliseconds apart.
        self._ahead_s = (asked_at_s + trio.current_time()) / 2 - its_now_s
        self.accounts = tuple(map(str, get_list(told, "accounts")))

    async def queue_faults(self, *names: str) -> None:
        """Spoil the answers to the next main requests, one each."""
        await self._post("faults", list(names))

    async def spend(self, name: str, *, back_in_s: float, turns: int) -> None:
        """Let the account have used all `turns` of a window that ends in `back_in_s`."""
        fields: JsonObject = {"account": name, "after": turns, "used": turns}
        await self._post("limit", fields | {"resets_in_s": back_in_s})

    async def expire(self, name: str) -> None:
        """Let the account's access tokens be over; it can be refreshed."""
        await self._post("expire", {"account": name})

    async def seen(self) -> tuple[Seen, ...]:
        """Return what it was asked since the reset, with times of our clock, secrets masked."""
        told = _parsed(await self._send("GET", "seen"))
        return tuple(
            seen
            for one in (told if isinstance(told, list) else [])
            if is_object(one)
            and _CONTROL not in (seen := seen_from(one, later_s=self._ahead_s)).path
        )

    async def wait_until(self, condition: Callable[[Sequence[Seen]], bool]) -> Sequence[Seen]:
        """Return what was seen once it meets the condition. The deadline is the caller's."""
        while not condition(seen := await self.seen()):  # noqa: ASYNC110  (another process's)
            await trio.sleep(_LOOK_AGAIN_S)
        return seen

    async def _post(self, what: str, body: Json) -> JsonObject:
        told = _parsed(await self._send("POST", what, body=body))
        return told if is_object(told) else {}

    async def _send(self, method: str, what: str, *, body: Json = None) -> httpx.Response:
        try:
            answer = await self._http.request(
                method, f"{self.url}{_CONTROL}{what}", json=None if method == "GET" else body
            )
        except httpx.HTTPError as error:
            raise BackendError(f"{self.url}: {type(error).__name__}: {error}") from None
        if answer.status_code != httpx.codes.OK:
            raise BackendError(f"{self.url}: {answer.status_code} {answer.text[:200]}")
        return answer


@contextlib.asynccontextmanager
async def remote_backend(url: str) -> AsyncIterator[RemoteBackend]:
    """Steer the simulated backend at `url`, which may have a path behind it."""
    parts = httpx.URL(url)
    async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as http:
        yield RemoteBackend(str(parts.copy_with(path="/", query=None)).rstrip("/"), http)


def _parsed(answer: httpx.Response) -> Json:
    try:
        return parse(answer.content)
    except ValueError:
        return None
