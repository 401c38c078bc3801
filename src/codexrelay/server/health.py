"""`GET /healthz`: is the relay up, could it serve a turn, and if not, why?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from quart import Response

from codexrelay.accounts.refusal import in_words_of
from codexrelay.errors import KeyUnusableError
from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account
    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.relay.instances import Instance
    from codexrelay.relay.other import Other
    from codexrelay.server.services import Services


async def answer(services: Services) -> Response:
    """Say what stands: accounts by id (never a token), and the turns that run."""
    relay, now_unix_s = services.relay, services.wall_clock()
    instances = relay.instances
    accounts = [_told_of(i, account, now_unix_s=now_unix_s) for i, account in instances.accounts()]
    told: list[Json] = [*accounts]
    body: JsonObject = {
        "status": "draining" if services.drain.draining else "ok",
        "usable": sum(account["why"] is None for account in accounts),
        "accounts": told,
        "problems": [str(problem) for i in instances.members for problem in i.lender.problems()],
        "backends": [
            await _told_of_other(other, now_unix_s=now_unix_s) for other in relay.others.values()
        ],
        "turns": len(relay.active),
        "sessions": len(services.sessions),
    }
    return Response(dump(body), 200, content_type="application/json")


async def _told_of_other(other: Other, *, now_unix_s: float) -> JsonObject:
    """Say how a backend of another kind stands: its key, and what turns have found out."""
    state, why, until_unix_s = _standing(other, now_unix_s=now_unix_s)
    try:
        await other.lender.key.look()
    except KeyUnusableError as error:
        state, why, until_unix_s = "unusable", str(error.problem), None
    return {
        "name": other.name,
        "url": other.url,
        "wire": other.wire,
        "state": state,
        "turns": other.lender.leased,
        "why": why,
        "until_unix_s": until_unix_s,
    }


def _standing(other: Other, *, now_unix_s: float) -> tuple[str, str | None, float | None]:
    standing = other.lender.standing
    if (rest := standing.rest(now_unix_s=now_unix_s)) is not None:
        return "rests", rest.fault.message, rest.until_unix_s
    return "unwell" if standing.is_unwell(now_unix_s=now_unix_s) else "well", None, None


def _told_of(instance: Instance, account: Account, *, now_unix_s: float) -> JsonObject:
    """Say how an account stands, and why and until when it could not take a turn."""
    pool = instance.lender.pool
    known_as = instance.qualified(account.id)
    obstacle = pool.obstacle_of(account, now_unix_s=now_unix_s)
    why = until_unix_s = None
    if obstacle is not None:
        named = attrs.evolve(obstacle, account=attrs.evolve(account, id=known_as))
        why, until_unix_s = in_words_of(named, now_unix_s=now_unix_s), obstacle.until_unix_s
    return {
        "id": known_as,
        "state": pool.state_of(account, now_unix_s=now_unix_s),
        "turns": pool.leases_of(account),
        "why": why,
        "until_unix_s": until_unix_s,
    }
