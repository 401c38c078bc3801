"""Lets a relay of today answer the requests of a cassette, in virtual time, and notes its answers.

The relay is a whole one, from its connections to its transport; its upstream is the cassette's
other track, at the recorded times. What a recorded program waited for before it asked is waited for
here too.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import h11
import structlog.testing
import trio
import zstandard

from codexrelay.cli import process
from codexrelay.cli.process import World
from codexrelay.config.loading import load
from codexrelay.server.drain import Drain
from codexrelay.server.listen import Bound
from harness.cassettes.model import Headers, Interaction, Request, Response, Stream
from harness.compat.cell import ACCOUNTS, other_backends, settings_for
from harness.compat.scenarios import SCENARIOS, Scenario
from harness.golden.websocket import talk
from harness.proof import virtual
from harness.proof.wires import Door
from harness.replay.dial import ReplayDial
from harness.replay.inside import websocket_mode
from harness.replay.ledger import Ledger
from harness.replay.matching import is_upgrade, key_of_interaction
from harness.replay.transport import ReplayTransport
from harness.simulator import Simulator
from harness.simulator.accounts import SimulatedAccount

if TYPE_CHECKING:
    import httpx

    from codexrelay.config.settings import Settings
    from harness.cassettes.model import Cassette, End
    from harness.golden.websocket import Said
    from harness.proof.virtual import Clocks

#: Where backends are looked for that nothing was recorded of; nobody is there.
_NOBODY: Final = "http://openai-codex"
_TURN: Final = "/responses"
#: Names the account in an answer of the relay.
_ACCOUNT: Final = "x-codexrelay-account"
#: Names it in a request to the backend.
_USED: Final = "chatgpt-account-id"
#: What an account of the simulator may be called; one of another name is called as ours.
_ACCOUNT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: Made anew for the connection at hand.
_OF_THE_CONNECTION: Final = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "content-encoding"),
        *("expect", "sec-websocket-key", "sec-websocket-extensions"),
    }
)
#: The key of a handshake is no secret, but it looks like one and is not kept.
_HANDSHAKE_KEY: Final = ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
_SWITCHED: Final = 101
_RECEIVE_BYTES: Final = 256 * 1024
#: How long after its last byte a client leaves that left in the middle of an answer, in seconds.
_LEAVES_AFTER_S: Final = 0.5


@attrs.frozen(kw_only=True)
class Again:
    """What a relay of today made of the requests of a cassette."""

    #: By the number of the recorded interaction: its request, and the answer of today.
    answers: Mapping[int, Interaction]
    #: What was asked of the upstream otherwise than recorded; see `Ledger.problems`.
    problems: tuple[str, ...]


def answer_again(cassette: Cassette, *, settings_file: Path | None = None) -> Again:
    """Let a relay of today answer the client's track of `cassette`.

    It is configured as in the scenario that the cassette names, or by `settings_file`, or by
    default.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="codexrelay-golden-") as name:
        return virtual.run(
            partial(_act, cassette=cassette, folder=Path(name), settings_file=settings_file),
            epoch_unix_s=cassette.about.began_unix_s or virtual.EPOCH_UNIX_S,
        )


async def _act(
    clocks: Clocks, *, cassette: Cassette, folder: Path, settings_file: Path | None
) -> Again:
    scenario = next((one for one in SCENARIOS if one.name == cassette.about.scenario), None)
    simulator = Simulator(accounts=_accounts(cassette, scenario), wall_clock=clocks.wall, seed=0)
    store = folder / "accounts"
    simulator.write_store(store)
    settings = _settings(cassette, scenario, store=store, folder=folder, file=settings_file)
    ledger = Ledger.of({"the cassette": cassette}, tracks=("upstream",))
    door, drain, ids = Door(), Drain(grace_s=0.0), iter(range(1, 1 << 60))

    def upstream(_backend: str, _connections: httpx.AsyncBaseTransport) -> ReplayTransport:
        return ReplayTransport(ledger)

    async def bind(_host: str, _port: int) -> Bound:
        await trio.lowlevel.checkpoint()
        return Bound(url="http://localhost", listeners=[door])

    world = World(
        legacy_folders=lambda _: (),
        wall_clock=clocks.wall,
        new_id=lambda: f"{next(ids):032x}",
        proxy_for=lambda _: None,
        rng=random.Random(0),
        bind=bind,
        around_transport=upstream,
        around_dial=lambda _backend, _dial: ReplayDial(ledger),
    )
    with structlog.testing.capture_logs():
        async with trio.open_nursery() as nursery:
            await nursery.start(process.run, settings, world, drain)
            clients = _Clients(door, cassette.track("client"))
            await clients.ask()
            drain.begin()
    return Again(answers=clients.answers, problems=ledger.problems())


def _accounts(cassette: Cassette, scenario: Scenario | None) -> Sequence[SimulatedAccount]:
    """Return accounts that stand for those of the recording.

    Its answers tell their names; if tokens were renewed before anything else, theirs have run out.
    """
    if scenario is not None:
        return [attrs.evolve(account, expired=scenario.expired) for account in ACCOUNTS]
    told = dict.fromkeys(
        value
        for one in cassette.track("client")
        for name, value in one.response.headers
        if name == _ACCOUNT and _ACCOUNT_NAME.fullmatch(value)
    )
    upstream = sorted(cassette.track("upstream"), key=lambda one: one.number)
    expired = bool(upstream) and key_of_interaction(upstream[0]).is_refresh
    # A WebSocket's answers name none: then there are as many as were used.
    used = {value for one in upstream for name, value in one.request.headers if name == _USED}
    named = [SimulatedAccount(name) for name in told] or ACCOUNTS[: len(used) or None]
    return [attrs.evolve(account, expired=expired) for account in named]


def _settings(
    cassette: Cassette,
    scenario: Scenario | None,
    *,
    store: Path,
    folder: Path,
    file: Path | None,
) -> Settings:
    upstream = [one.request for one in cassette.track("upstream")]
    api_base_url = _base_of(upstream) or f"{_NOBODY}/backend-api/codex"
    issuer_url = _NOBODY
    flags: dict[str, object] = {
        "sessions.state_path": str(folder / "state"),
        "server.port": "0",
        "backends.openai_codex.extra.codex.managed_oauth.storage_path": str(store),
        "backends.openai_codex.extra.codex.managed_oauth.allow_legacy_fallback": "false",
    }
    if file is None:
        if (mode := websocket_mode(cassette.interactions)) is not None:
            flags["backends.openai_codex.websocket"] = mode
        file = folder / "config.yaml"
        said = (
            {}
            if scenario is None
            else settings_for(
                scenario,
                api_base_url=api_base_url,
                issuer_url=issuer_url,
                store=store,
                others=other_backends(scenario, "http://local/v1", folder),
            )
        )
        file.write_text(json.dumps(said), "utf-8")
    flags["backends.openai_codex.api_base_url"] = api_base_url
    flags["backends.openai_codex.extra.codex.oauth_issuer"] = issuer_url
    if not any(urlsplit(one.uri).path.endswith("/models") for one in upstream):
        flags["backends.openai_codex.extra.codex.model_catalog.discovery_enabled"] = "false"
    return load(config_path=file, environ={}, flags=flags, starts=True).settings


def _base_of(upstream: Sequence[Request]) -> str | None:
    """Return the address of the Codex backend that was asked; None if none was."""
    for request in upstream:
        split = urlsplit(request.uri)
        asks = request.method == "POST" or is_upgrade(request.headers)
        if asks and "/backend-api/" in split.path:
            base, _, _ = split.path.partition(_TURN)
            return f"{split.scheme}://{split.netloc}{base}"
    return None


# --- the clients


@attrs.define(eq=False)
class _Clients:
    """The programs of a cassette: each request at its time, once what it waited for has ended."""

    _door: Door
    _recorded: Sequence[Interaction]
    answers: dict[int, Interaction] = attrs.field(factory=dict, init=False)
    _over: dict[int, trio.Event] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._over = {one.number: trio.Event() for one in self._recorded}

    async def ask(self) -> None:
        """Make all requests; return when all answers have ended."""
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for one in self._recorded:
                nursery.start_soon(self._ask, one, began_s)

    async def _ask(self, one: Interaction, began_s: float) -> None:
        first_s = self._recorded[0].began_at_s
        await trio.sleep_until(began_s + one.began_at_s - first_s)
        for other in self._recorded:
            if other is not one and _ended_at_s(other) <= one.began_at_s:
                await self._over[other.number].wait()
        asked_at_s = trio.current_time()
        async with self._door.connect() as stream:
            answer = await _answer(stream, one)
        self.answers[one.number] = attrs.evolve(
            one, began_at_s=asked_at_s - began_s + first_s, response=answer
        )
        self._over[one.number].set()


def _ended_at_s(one: Interaction) -> float:
    stream = one.response.stream
    if stream.frames:
        return one.began_at_s + stream.frames[-1].at_s
    last_s = stream.at_s[-1] if stream.at_s else one.response.head_at_s or 0.0
    return one.began_at_s + last_s


async def _answer(stream: trio.SocketStream, one: Interaction) -> Response:
    """Make a recorded request on a new connection; return what is answered."""
    http = h11.Connection(h11.CLIENT)
    body = _encoded(one.request.body, one.request.coding)
    request = h11.Request(
        method=one.request.method, target=_target(one.request.uri), headers=_headers(one, body)
    )
    at_s = trio.current_time()
    await stream.send_all(
        http.send(request) + http.send(h11.Data(body)) + http.send(h11.EndOfMessage())
    )
    notes = _Notes(began_s=at_s)
    recorded = one.response.stream
    leaves = recorded.end == "closed-by-relay" and one.response.status != _SWITCHED
    while True:
        if leaves and notes.size_bytes >= len(one.response.body):
            await trio.sleep(_LEAVES_AFTER_S)
            return notes.response("closed-by-relay", complete=recorded.complete)
        try:
            event = http.next_event()
        except h11.RemoteProtocolError:
            return notes.response("reset", complete=False)
        if event is h11.NEED_DATA:
            try:
                http.receive_data(await stream.receive_some(_RECEIVE_BYTES))
            except trio.BrokenResourceError:
                return notes.response("reset", complete=False)
        elif isinstance(event, h11.Response):
            notes.head(event)
        elif isinstance(event, h11.InformationalResponse) and event.status_code == _SWITCHED:
            notes.head(event)
            early, _ = http.trailing_data
            said = await talk(stream, early, one, began_s=at_s, leaves_s=_LEAVES_AFTER_S)
            return notes.switched(said, complete=recorded.complete)
        elif isinstance(event, h11.Data):
            notes.data(event)
        elif isinstance(event, h11.EndOfMessage):
            return notes.response("eof", complete=recorded.complete)


@attrs.define(eq=False, kw_only=True)
class _Notes:
    """An answer as it comes."""

    began_s: float
    status: int | None = None
    reason: str = ""
    headers: Headers = ()
    head_at_s: float | None = None
    body: bytearray = attrs.field(factory=bytearray)
    at_s: list[float] = attrs.field(factory=list)
    ends: list[int] = attrs.field(factory=list)

    @property
    def size_bytes(self) -> int:
        """How much of the body has come."""
        return len(self.body)

    def head(self, event: h11.Response | h11.InformationalResponse) -> None:
        """Take note of the head."""
        self.status, self.reason = event.status_code, event.reason.decode("latin-1")
        self.head_at_s = trio.current_time() - self.began_s
        self.headers = tuple((n.decode("ascii"), v.decode("latin-1")) for n, v in event.headers)

    def data(self, event: h11.Data) -> None:
        """Take note of a piece of the body; pieces of one chunk are one."""
        self.body += event.data
        if event.chunk_start or not self.ends:
            self.at_s.append(trio.current_time() - self.began_s)
            self.ends.append(len(self.body))
        else:
            self.ends[-1] = len(self.body)

    def switched(self, said: Said, *, complete: bool) -> Response:
        """Return the answer that was a WebSocket."""
        response = self.response(said.end, complete=complete)
        return attrs.evolve(response, stream=attrs.evolve(response.stream, frames=said.frames))

    def response(self, end: End, *, complete: bool) -> Response:
        """Return the answer, which has ended."""
        return Response(
            status=self.status,
            reason=self.reason,
            headers=self.headers,
            body=bytes(self.body),
            head_at_s=self.head_at_s,
            stream=Stream(at_s=tuple(self.at_s), ends=tuple(self.ends), complete=complete, end=end),
        )


def _target(uri: str) -> str:
    split = urlsplit(uri)
    return f"{split.path or '/'}{'?' if split.query else ''}{split.query}"


def _headers(one: Interaction, body: bytes) -> list[tuple[str, str]]:
    kept = [pair for pair in one.request.headers if pair[0] not in _OF_THE_CONNECTION]
    upgrades = any(name == "upgrade" for name, _ in kept)
    made = [("host", "localhost"), ("connection", "upgrade" if upgrades else "close")]
    if body or one.request.method == "POST":
        made.append(("content-length", str(len(body))))
    if upgrades:
        made.append(_HANDSHAKE_KEY)
    if one.request.coding is not None:
        made.append(("content-encoding", one.request.coding))
    return [*made, *kept]


def _encoded(body: bytes, coding: str | None) -> bytes:
    match coding:
        case "zstd":
            return zstandard.ZstdCompressor().compress(body)
        case "gzip":
            return gzip.compress(body, mtime=0)
        case "deflate":
            return zlib.compress(body)
        case _:
            return body
