"""The backend of the proof: plays bytes, and notes who asked, what was sent and who left.

An answer can be played in two forms: over HTTP, and in frames of a WebSocket (`upstream_socket`).
Which of them it is, the relay says, by the way on which it asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio

from harness.proof.asked import Asked, is_upgrade, next_request, perform
from harness.proof.plays import Play, play_of_steps, refusing
from harness.proof.talk import SocketTalk
from harness.simulator import Simulator
from harness.simulator.arrival import HttpRequest, RefusedError, arrived

#: Behind a whole answer, where connections are not kept: nobody waits for it to know the end.
_CLOSES_AFTER_S: Final = 0.05


@attrs.define(eq=False)
class Upstream:
    """Serves the relay's connections: model requests from a script, all else by the simulator."""

    simulator: Simulator
    #: For the model requests to come, in order; once it is empty, `otherwise` is played.
    script: deque[Play] = attrs.field(factory=deque)
    otherwise: Play = attrs.field(factory=lambda: Play(pieces=(), end="fin"))
    #: For the token requests to come: changes the play of the issuer's answer, which it has given.
    refreshing: deque[Callable[[Play], Play]] = attrs.field(factory=deque)
    asked: list[Asked] = attrs.field(factory=list)
    #: Connections are kept for the next request. If not, they are closed behind a whole answer.
    keeps: bool = False
    #: Connections that are open at this end.
    open: int = 0
    #: Connections that there ever were.
    connections: int = 0
    #: WebSockets that are open at this end.
    sockets: set[SocketTalk] = attrs.field(factory=set)
    #: What relays must not do on a WebSocket.
    breaches: list[str] = attrs.field(factory=list)

    @property
    def turns(self) -> list[Asked]:
        """Return the model requests, in the order in which they came."""
        return [one for one in self.asked if one.is_turn]

    @property
    def handshakes(self) -> list[Asked]:
        """Return the requests for WebSockets, in the order in which they came."""
        return [one for one in self.asked if one.way == "handshake"]

    def hang_up(self) -> None:
        """Close the WebSockets that are open, whatever goes on there."""
        for talk in self.sockets:
            talk.scope.cancel()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until either side closes it."""
        self.open += 1
        self.connections += 1
        number = self.connections
        try:
            while (request := await next_request(stream)) is not None:
                if is_upgrade(request):
                    await SocketTalk(self, stream, request, number).run()
                    return
                asked, play = self._decide(request)
                asked.connection = number
                self.asked.append(asked)
                try:
                    going_on = await perform(stream, play, asked, unread=len(request.body) > 0)
                finally:
                    asked.over_at_s = trio.current_time()
                if going_on and not self.keeps:
                    await trio.sleep(_CLOSES_AFTER_S)
                if not (going_on and self.keeps):
                    return
        except trio.BrokenResourceError:
            return  # the relay is gone
        finally:
            await trio.aclose_forcefully(stream)
            self.open -= 1

    def _decide(self, request: HttpRequest) -> tuple[Asked, Play]:
        asked = Asked(path=request.path, body=request.body, account=None, at_s=trio.current_time())
        if not asked.is_turn:
            _, answer = self.simulator.answer_to(request)
            play = play_of_steps(answer)
            if request.path.endswith("/oauth/token") and self.refreshing:
                play = self.refreshing.popleft()(play)
            return asked, play
        refused = self.admit(request, asked)
        play = refused or self.next_play()
        asked.label = play.label
        return asked, play

    def admit(self, request: HttpRequest, asked: Asked) -> Play | None:
        """Note whose bearer a request carries; return how it is turned away if that is no good."""
        arrival = arrived(request, now_unix_s=self.simulator.wall_clock())
        try:
            account = self.simulator.issuer.account_of(
                arrival.bearer, now_unix_s=arrival.now_unix_s
            )
        except RefusedError as refused:
            return refusing(refused.status, dict(refused.body))
        asked.account = account.name
        return None

    def next_play(self) -> Play:
        """Take what is to be played next."""
        return self.script.popleft() if self.script else self.otherwise

    def refusal_of_handshake(self, answer: bytes) -> Play | None:
        """Take what is to be played in answer to a handshake, None for `answer`."""
        play = self.script[0] if self.script else self.otherwise
        if play.over_socket is None or play.over_socket.handshake is None:
            return None
        if self.script:
            self.script.popleft()
        return attrs.evolve(play.over_socket.handshake(answer), label=play.label)
