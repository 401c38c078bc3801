"""Signing in with a short code that the owner types at the issuer's page, on any machine.

Source: wire notes 1.4 (measured, Codex CLI 0.169).
"""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio

from codexrelay.accounts.issuer import CLIENT_ID
from codexrelay.accounts.login.call import post_json
from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.exchange import Exchange
from codexrelay.errors import in_words
from codexrelay.protocol.raw import get_number, get_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from codexrelay.accounts.login.call import Reply
    from codexrelay.accounts.login.signed_in import SignedIn
    from codexrelay.protocol.raw import JsonObject

_T = TypeVar("_T")

#: How long a code is good when the issuer does not say.
CODE_LIFE_S: Final = 900.0
#: Between two questions when the issuer does not say.
_INTERVAL_S: Final = 5.0
_SHORTEST_INTERVAL_S: Final = 0.1
_LONGEST_INTERVAL_S: Final = 60.0
#: Added to the interval each time the issuer asks for it (RFC 8628, 3.5).
_SLOWER_S: Final = 5.0
#: A stated end outside these is the fault of a clock that is off, and does not count.
_SHORTEST_LIFE_S: Final = 60.0
_LONGEST_LIFE_S: Final = 3600.0
_STILL_WAITING: Final = frozenset({403, 404})
#: Questions in a row that may fail by the network's or the issuer's fault.
_MOST_TROUBLES: Final = 5


@attrs.frozen(kw_only=True)
class DevicePrompt:
    """What the owner must do: open the address, type the code."""

    url: str
    user_code: str
    expires_in_s: float


@attrs.frozen(kw_only=True)
class _Started:
    """A sign-in that the issuer knows of."""

    device_auth_id: str = attrs.field(repr=False)
    user_code: str
    interval_s: float
    life_s: float


async def device_login(
    *,
    issuer_url: str,
    transport: httpx.AsyncBaseTransport,
    wall_clock: Callable[[], float],
    show: Callable[[DevicePrompt], None],
    tell: Callable[[str], None],
) -> SignedIn:
    """Show the code, wait until the owner has typed it, and return what that brought.

    Ends by itself when the code has run out, after 15 minutes unless the issuer says otherwise.

    Args:
        issuer_url: the sign-in service.
        transport: for the calls to it; the caller's to close.
        wall_clock: Unix seconds.
        show: given what the owner must do, once.
        tell: given lines for the person.

    Raises:
        LoginError: there are no tokens; says why and what to do.
    """
    issuer_url = issuer_url.rstrip("/")
    reply = await post_json(
        transport, f"{issuer_url}/api/accounts/deviceauth/usercode", {"client_id": CLIENT_ID}
    )
    started = _started(_value(reply), now_unix_s=wall_clock())
    show(
        DevicePrompt(
            url=f"{issuer_url}/codex/device",
            user_code=started.user_code,
            expires_in_s=started.life_s,
        )
    )
    approved: Reply | None = None
    with trio.move_on_after(started.life_s):
        approved = await _approved(started, issuer_url, transport=transport, tell=tell)
    if approved is None:
        raise LoginError(
            f"nobody has typed the code within {in_words(started.life_s)}, and it has run out. "
            "Run the command again"
        )
    exchange = _exchange(approved.body, redirect_uri=f"{issuer_url}/deviceauth/callback")
    return _value(await exchange.perform(transport, issuer_url, now_unix_s=wall_clock()))


async def _approved(
    started: _Started,
    issuer_url: str,
    *,
    transport: httpx.AsyncBaseTransport,
    tell: Callable[[str], None],
) -> Reply:
    """Ask until the owner has typed the code.

    Raises:
        LoginError: the issuer refuses, or cannot be asked.
    """
    interval_s, troubles = started.interval_s, 0
    question: JsonObject = {
        "device_auth_id": started.device_auth_id,
        "user_code": started.user_code,
    }
    while True:
        await trio.sleep(interval_s)
        reply = await post_json(transport, f"{issuer_url}/api/accounts/deviceauth/token", question)
        if isinstance(reply, LoginError) or reply.status >= 500:
            troubles += 1
            if troubles == _MOST_TROUBLES:
                raise _in_trouble(reply)
            if troubles == 1:
                tell("The sign-in service does not answer at the moment; it is asked again.")
            continue
        troubles = 0
        if reply.is_success:
            return reply
        if reply.code == "slow_down" or reply.status == 429:
            interval_s = min(interval_s + _SLOWER_S, _LONGEST_INTERVAL_S)
        elif reply.status not in _STILL_WAITING:
            raise _refused(reply, started)


def _started(reply: Reply, *, now_unix_s: float) -> _Started:
    """Read the issuer's answer to the wish for a code.

    Raises:
        LoginError: it has given none.
    """
    if reply.status == 404:
        raise LoginError(
            "this sign-in service does not do device codes (404). Sign in with a browser: run the "
            "command with neither `--device`, or with `--no-browser` where there is no display"
        )
    device_auth_id = get_text(reply.body, "device_auth_id")
    user_code = get_text(reply.body, "user_code") or get_text(reply.body, "usercode")
    if not reply.is_success or not device_auth_id or not user_code:
        told = ", ".join(filter(None, (str(reply.status), reply.code, reply.words(secrets=()))))
        raise LoginError(
            f"the sign-in service has given no device code ({told}). Run the command again, or "
            "sign in with a browser (`--no-browser` where there is no display)"
        )
    interval_s = get_number(reply.body, "interval")
    if interval_s is None or not math.isfinite(interval_s) or interval_s <= 0:
        interval_s = _INTERVAL_S
    return _Started(
        device_auth_id=device_auth_id,
        user_code=user_code,
        interval_s=min(max(interval_s, _SHORTEST_INTERVAL_S), _LONGEST_INTERVAL_S),
        life_s=_life_s(reply.body, now_unix_s=now_unix_s),
    )


def _life_s(body: JsonObject, *, now_unix_s: float) -> float:
    """Return how long the code is good, in seconds."""
    try:
        ends = datetime.datetime.fromisoformat(get_text(body, "expires_at") or "")
    except ValueError:
        return CODE_LIFE_S
    if ends.tzinfo is None:
        ends = ends.replace(tzinfo=datetime.UTC)
    life_s = ends.timestamp() - now_unix_s
    return life_s if _SHORTEST_LIFE_S <= life_s <= _LONGEST_LIFE_S else CODE_LIFE_S


def _exchange(body: JsonObject, *, redirect_uri: str) -> Exchange:
    """Return the exchange for the code that the issuer has made, together with its PKCE pair.

    Raises:
        LoginError: a part is missing.
    """
    code, verifier = get_text(body, "authorization_code"), get_text(body, "code_verifier")
    if not code or not verifier:
        raise LoginError(
            "the code was typed, but the sign-in service's answer is incomplete. Run the command "
            "again, or sign in with a browser"
        )
    return Exchange(code=code, verifier=verifier, redirect_uri=redirect_uri)


def _value(result: _T | LoginError) -> _T:
    """Return what came of a call.

    Raises:
        LoginError: nothing did.
    """
    if isinstance(result, LoginError):
        raise result
    return result


def _in_trouble(reply: Reply | LoginError) -> LoginError:
    if isinstance(reply, LoginError):
        return reply
    return LoginError(
        f"the sign-in service is in trouble ({reply.status}). Run the command again in a while"
    )


def _refused(reply: Reply, started: _Started) -> LoginError:
    words = reply.words(secrets=(started.device_auth_id,))
    told = ", ".join(part for part in (str(reply.status), reply.code, words) if part)
    return LoginError(
        f"the sign-in service has refused the device code ({told}). Run the command again, or "
        "sign in with a browser (`--no-browser` where there is no display)"
    )
