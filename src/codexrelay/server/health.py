"""`GET /healthz`: is the relay up, and could it serve a turn?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Response

from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from codexrelay.server.services import Services


async def answer(services: Services) -> Response:
    """Say what stands: accounts by id (never a token), and the turns that run."""
    relay, now_unix_s = services.relay, services.wall_clock()
    instances = relay.instances
    body: JsonObject = {
        "status": "draining" if services.drain.draining else "ok",
        "accounts": [
            {
                "id": instance.qualified(account.id),
                "state": instance.lender.pool.state_of(account, now_unix_s=now_unix_s),
                "turns": instance.lender.pool.leases_of(account),
            }
            for instance, account in instances.accounts()
        ],
        "problems": [str(problem) for i in instances.members for problem in i.lender.problems()],
        "turns": len(relay.active),
        "sessions": len(services.sessions),
    }
    return Response(dump(body), 200, content_type="application/json")
