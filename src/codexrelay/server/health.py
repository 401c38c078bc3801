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
    pool = relay.lender.pool
    body: JsonObject = {
        "status": "draining" if services.drain.draining else "ok",
        "accounts": [
            {"id": account.id, "state": pool.state_of(account, now_unix_s=now_unix_s)}
            for account in pool.accounts
        ],
        "problems": [str(problem) for problem in relay.lender.problems()],
        "turns": len(relay.active),
        "sessions": len(services.sessions),
    }
    return Response(dump(body), 200, content_type="application/json")
