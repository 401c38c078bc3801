"""Clients leave in every phase of a turn, over HTTP and over WebSockets, all at random.

Whatever a turn was doing, the backend must be left too, at once, and nothing may stay behind.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import struct
import sys
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import trio

from codexrelay.protocol.raw import dump
from harness.proof import frames
from harness.proof.client import handshake_bytes, request_bytes
from harness.simulator import Simulator
from harness.simulator.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from codexrelay.protocol.raw import JsonObject

#: To fail, never to synchronise.
PATIENCE_S: Final = 60.0
#: Longest stay of a client that leaves after a time and not in a phase.
_LONGEST_STAY_S: Final = 0.2
_RECEIVE_BYTES: Final = 64 * 1024
_PATH: Final = "/v1/responses"
_NUMBER: Final = re.compile(rb"client (\d+)\. ")
_SECOND: Final = "asked behind another"
#: What a client speaks.
WIRES: Final = ("HTTP", "WebSocket")

#: FIN; RST; the end of what the client sends; a close frame, or FIN where there is none.
Way: TypeAlias = Literal["closes", "resets", "stops sending", "says so"]
_WAYS: Final[tuple[Way, ...]] = ("closes", "resets", "stops sending", "says so")


@attrs.frozen(kw_only=True)
class Phase:
    """When a client leaves."""

    name: str
    #: What it says to the simulated backend.
    text: str = "hello"
    #: It leaves when it has read this, or, if empty, when the backend was asked.
    reads: bytes = b""
    #: The backend has not ended its answer then, and must be left.
    leaves_backend: bool = False
    #: Only a client on a WebSocket can be in it.
    only_sockets: bool = False


_HALF_A_HANDSHAKE: Final = Phase(name="in its handshake", only_sockets=True)
_BEFORE: Final = Phase(name="before it asks", only_sockets=True)
_HALF: Final = Phase(name="in its own message")
_QUEUED: Final = Phase(
    name="with a second question in line",
    text="[sim fault=hang]",
    reads=b"output_text.delta",
    leaves_backend=True,
    only_sockets=True,
)
_AFTER: Final = Phase(name="behind its answer", reads=b'"type":"response.completed"')
_SOME_TIME: Final = Phase(name="after some time", text="[sim deltas=100]")
PHASES: Final = (
    _HALF_A_HANDSHAKE,
    _BEFORE,
    _HALF,
    Phase(name="while nothing comes", text="[sim fault=hang_early]", leaves_backend=True),
    Phase(name="before any output", text="[sim fault=hang_first]", leaves_backend=True),
    Phase(
        name="while it is silent",
        text="[sim fault=hang]",
        reads=b"output_text.delta",
        leaves_backend=True,
    ),
    _QUEUED,
    Phase(name="in mid-stream", text="[sim deltas=2000]", reads=b"word 3", leaves_backend=True),
    _AFTER,
    _SOME_TIME,
)


@attrs.frozen(kw_only=True)
class Client:
    """One client, and what it is going to do."""

    number: int
    on_socket: bool
    phase: Phase
    way: Way
    #: How long it stays in `_SOME_TIME`, in seconds.
    stay_s: float

    @property
    def body(self) -> JsonObject:
        """The request."""
        return {
            "model": "gpt-5.5",
            "input": f"client {self.number}. {self.phase.text}",
            "stream": True,
        }

    @property
    def told(self) -> str:
        """It, in a report."""
        return f"client {self.number} ({self.wire}, {self.phase.name}, {self.way})"

    @property
    def wire(self) -> str:
        """One of `WIRES`."""
        return WIRES[self.on_socket]


@attrs.define(kw_only=True)
class Left:
    """What came of it."""

    clients: int = 0
    #: How many left in each phase.
    phases: dict[str, int] = attrs.field(
        factory=lambda: dict.fromkeys((phase.name for phase in PHASES), 0)
    )
    #: From a client's leaving to the backend's notice of it, in seconds, by what the client spoke.
    delays_s: dict[str, list[float]] = attrs.field(factory=lambda: {wire: [] for wire in WIRES})
    #: What must not be; empty when all is well.
    problems: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class Arrivals:
    """Which of the backend's requests is whose."""

    simulator: Simulator
    by_client: dict[int, list[Seen]] = attrs.field(factory=dict)
    #: Of a question that stood in line when its client left: none may arrive.
    unwanted: int = 0
    _read: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Leave out what was asked before."""
        self._read = len(self.simulator.seen)

    def of(self, number: int) -> list[Seen]:
        """Return the requests of a client, in the order of arrival."""
        seen = self.simulator.seen
        while self._read < len(seen):
            one = seen[self._read]
            self._read += 1
            if not one.path.endswith("/responses") or one.is_handshake:
                continue
            said = dump(one.body)
            self.unwanted += _SECOND.encode() in said
            if (found := _NUMBER.search(said)) is not None:
                self.by_client.setdefault(int(found[1]), []).append(one)
        return self.by_client.get(number, [])

    def all(self) -> list[Seen]:
        """Return the requests of all clients."""
        self.of(-1)
        return [one for asked in self.by_client.values() for one in asked]


async def leave(
    url: str,
    simulator: Simulator,
    *,
    clients: int,
    at_once: int,
    rng: Random,
    patience_s: float = PATIENCE_S,
) -> Left:
    """Let clients come and leave, `at_once` at a time, half of them on WebSockets.

    Args:
        url: the relay's, without `/v1`.
        simulator: the backend behind it, which must answer slowly (`pace_s`).
        clients: how many in all.
        at_once: how many at the same time.
        rng: draws who does what.
        patience_s: after which a client that waits gives up, which is a problem.
    """
    left = Left()
    arrivals = Arrivals(simulator)
    first = len(simulator.seen)  # so that no number, and no session, comes twice
    coming = iter([_any_client(first + number, rng) for number in range(clients)])

    async def come() -> None:
        for client in coming:
            visit = _Visit(client, arrivals, patience_s)
            await visit.run(url)
            left.clients += 1
            left.phases[client.phase.name] += 1
            left.problems += visit.problems
            left.delays_s[client.wire] += visit.delays_s

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(come)
    with trio.move_on_after(patience_s):
        await simulator.wait_until(lambda: all(one.ended for one in arrivals.all()))
    left.problems += [
        f"client {number} is still answered"
        for number, asked in arrivals.by_client.items()
        if not all(one.ended for one in asked)
    ]
    if arrivals.unwanted:
        left.problems.append(f"{arrivals.unwanted} questions were asked for clients that had left")
    return left


def _any_client(number: int, rng: Random) -> Client:
    on_socket = rng.random() < 0.5
    phases = [phase for phase in PHASES if on_socket or not phase.only_sockets]
    return Client(
        number=number,
        on_socket=on_socket,
        phase=rng.choice(phases),
        way=rng.choice(_WAYS),
        stay_s=rng.uniform(0.0, _LONGEST_STAY_S),
    )


@attrs.define(eq=False)
class _Visit:
    """A client's connection, from its beginning to its end."""

    client: Client
    arrivals: Arrivals
    patience_s: float
    problems: list[str] = attrs.field(factory=list, init=False)
    delays_s: list[float] = attrs.field(factory=list, init=False)

    async def run(self, url: str) -> None:
        """Come, and leave."""
        client = self.client
        host, port = url.removeprefix("http://").split(":")
        with trio.move_on_after(self.patience_s) as patience:
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                try:
                    await self._until_its_phase(stream)
                except trio.BrokenResourceError:
                    self.problems.append(f"{client.told}: the relay broke its connection")
                left_at_s = trio.current_time()
                await self._go(stream)
            if client.phase.leaves_backend and not self.problems:
                await self._until_backend_is_left(left_at_s)
        if patience.cancelled_caught:
            self.problems.append(f"{client.told}: nothing happened for {self.patience_s} s")

    async def _until_its_phase(self, stream: trio.SocketStream) -> None:
        client, phase = self.client, self.client.phase
        named = {"session_id": f"leaves-{client.number}"}
        if client.on_socket:
            handshake = handshake_bytes(_PATH, **named)
            if phase is _HALF_A_HANDSHAKE:
                await stream.send_all(handshake[:-3])
                return
            await stream.send_all(handshake)
            if not await self._read_until(stream, b"\r\n\r\n") or phase is _BEFORE:
                return
            asked = _message(client.body)
        else:
            asked = request_bytes(_PATH, client.body, **named)
        if phase is _HALF:
            await stream.send_all(asked[:-5])
            return
        await stream.send_all(asked)
        if phase is _QUEUED:
            await stream.send_all(_message(client.body | {"input": _SECOND}))
        if phase is _SOME_TIME:
            await trio.sleep(client.stay_s)
        elif phase.reads:
            await self._read_until(stream, phase.reads)
        else:
            await self.arrivals.simulator.wait_until(lambda: bool(self.arrivals.of(client.number)))

    async def _read_until(self, stream: trio.SocketStream, text: bytes) -> bool:
        """Read until `text` has come; what follows it in the same block is not kept."""
        data = bytearray()
        while text not in data:
            came = await stream.receive_some(_RECEIVE_BYTES)
            if not came:
                self.problems.append(f"{self.client.told}: closed at {bytes(data[-300:])!r}")
                return False
            data += came
        return True

    async def _go(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, OSError):
            match self.client.way:
                case "resets":
                    at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
                    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, at_once)
                case "stops sending":
                    await stream.send_eof()
                    await _read_to_the_end(stream)
                case "says so" if self.client.on_socket and self.client.phase not in (
                    _HALF_A_HANDSHAKE,
                    _HALF,
                ):
                    await stream.send_all(frames.close(1000, masked=True))
                    await _read_to_the_end(stream)

    async def _until_backend_is_left(self, left_at_s: float) -> None:
        client = self.client
        asked = self.arrivals.of(client.number)
        await self.arrivals.simulator.wait_until(lambda: all(one.ended for one in asked))
        if len(asked) != 1:
            self.problems.append(f"{client.told}: the backend was asked {len(asked)} times")
        for one in asked:
            if one.left_at_s is None:
                self.problems.append(f"{client.told}: the backend was not left")
            else:
                self.delays_s.append(max(0.0, one.left_at_s - left_at_s))


def _message(body: JsonObject) -> bytes:
    content = dump({"type": "response.create", **body})
    return frames.frame(frames.TEXT, content, masked=True)


async def _read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some(_RECEIVE_BYTES):
        pass


def median_ms(delays_s: Sequence[float]) -> float:
    """Return the median; 0 of nothing."""
    return statistics.median(delays_s) * 1e3 if delays_s else 0.0


def p99_ms(delays_s: Sequence[float]) -> float:
    """Return what one in a hundred exceeds; 0 of nothing."""
    ordered = sorted(delays_s)
    return ordered[round(0.99 * (len(ordered) - 1))] * 1e3 if ordered else 0.0


def rows_of(left: Left) -> Sequence[tuple[str, object]]:
    """Return the rows of a report."""
    return (
        ("clients", left.clients),
        *((f"  {phase}", count) for phase, count in left.phases.items()),
        *(
            (
                f"backend left by clients on {wire}",
                f"after {median_ms(delays_s):.1f} ms (median), {p99_ms(delays_s):.1f} ms (p99), "
                f"{len(delays_s)} times",
            )
            for wire, delays_s in left.delays_s.items()
        ),
    )
