"""`GET /healthz`: is the relay up, could it serve a turn, and if not, why?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from quart import Response

from codexrelay.accounts.refusal import in_words_of
from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account
    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.relay.instances import Instance
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
        "turns": len(relay.active),
        "sessions": len(services.sessions),
    }
    return Response(dump(body), 200, content_type="application/json")


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
