"""A whole relay in this process: real sockets on both sides, a simulated backend behind it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import attrs
import h11
import httpx
import trio

from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.settings import (
    BudgetSettings,
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
)
from codexrelay.backends.openai.backend import OpenAIBackend
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.cli import process
from codexrelay.cli.process import Running, World
from codexrelay.compaction.settings import CompactionSettings, CompressionSettings
from codexrelay.config.settings import (
    BackendsSettings,
    ModelsSettings,
    ProfilesSettings,
    ServerSettings,
    Settings,
)
from codexrelay.protocol.model_id import FAMILY
from codexrelay.protocol.raw import dump, parse_object
from codexrelay.server.drain import Drain
from codexrelay.server.journal import find
from codexrelay.server.services import Services
from codexrelay.sessions.settings import SessionsSettings
from harness.simulator import Seen, Simulator
from tests.fakes.live_server import PATIENCE_S, RawClient
from tests.fakes.no_tls import NO_TLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from codexrelay.accounts.standing import Standing
    from codexrelay.protocol.raw import Json, JsonObject
    from harness.openai_api import OpenAISimulator

#: Between two looks at what tells nobody when it changes.
_LOOK_AGAIN_S: Final = 0.005
_SERVER: Final = ServerSettings()
_BUDGETS: Final = BudgetSettings()
_BACKEND: Final = CodexBackendSettings()
_MODELS: Final = ModelsSettings()
_PROFILES: Final = ProfilesSettings()
_COMPACTION: Final = CompactionSettings()
_COMPRESSION: Final = CompressionSettings()


@attrs.frozen(kw_only=True)
class Beside:
    """An instance of the backend beside the first one."""

    #: Local account id -> the simulated account behind it.
    accounts: Mapping[str, str]
    settings: CodexBackendSettings = attrs.field(factory=CodexBackendSettings)


@attrs.define(eq=False)
class OpenTurn:
    """A turn whose client reads when it is told to."""

    stream: trio.SocketStream
    #: The answer's body so far.
    body: bytearray = attrs.field(factory=bytearray)
    status: int | None = None
    #: The body has come to its proper end.
    complete: bool = False
    _http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT))

    def __attrs_post_init__(self) -> None:
        # h11 wants to know of the request that was sent by other means.
        self._http.send(h11.Request(method="POST", target="/", headers=[("host", "localhost")]))
        self._http.send(h11.EndOfMessage())

    async def until(self, text: bytes, *, times: int = 1) -> None:
        """Read until the body has `text` so many times."""
        with trio.fail_after(PATIENCE_S):
            while self.body.count(text) < times:
                assert not self.complete, f"{text!r} did not come, only {bytes(self.body)!r}"
                await self._read()

    async def to_the_end(self) -> bytes:
        """Read the whole body and return it.

        Raises:
            h11.RemoteProtocolError: the server cut it.
        """
        with trio.fail_after(PATIENCE_S):
            while not self.complete:
                await self._read()
        return bytes(self.body)

    def reset(self) -> None:
        """Break the connection off (RST) instead of closing it."""
        at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, at_once)
        self.stream.socket.close()

    async def _read(self) -> None:
        match event := self._http.next_event():
            case h11.NEED_DATA:
                self._http.receive_data(await self.stream.receive_some(65536))
            case h11.Response():
                self.status = event.status_code
            case h11.Data():
                self.body += event.data
            case h11.EndOfMessage():
                self.complete = True
            case _:
                raise AssertionError(f"{event!r} in an answer")


@attrs.frozen(kw_only=True)
class LiveRelay:
    """A relay under test, and both its sides."""

    url: str
    #: Talks to the relay. Keeps no connection, so that none is left behind.
    http: httpx.AsyncClient
    simulator: Simulator
    services: Services
    drain: Drain
    #: Folder of the account files.
    store: Path
    #: Folder of the journal.
    state: Path
    #: Set when the relay has stopped.
    stopped: trio.Event

    @property
    def asked(self) -> list[Seen]:
        """The model requests that the backend has seen, in the order of arrival."""
        return [seen for seen in self.simulator.seen if seen.path.endswith("/responses")]

    @property
    def accounts_asked(self) -> list[str | None]:
        """The simulated accounts that the backend was asked with, in the order of arrival."""
        return [seen.account for seen in self.asked]

    @property
    def mismatched(self) -> list[Seen]:
        """Requests whose bearer and `chatgpt-account-id` are not of one account."""
        ids = {account.name: account.account_id for account in self.simulator.accounts}
        return [
            seen
            for seen in self.simulator.seen
            if seen.account is not None
            and "/oauth/" not in seen.path
            and seen.header("chatgpt-account-id") != ids[seen.account]
        ]

    @property
    def refreshes(self) -> list[Seen]:
        """The token requests that the issuer has seen."""
        return [seen for seen in self.simulator.seen if seen.path.endswith("/oauth/token")]

    async def post(
        self, path: str, body: JsonObject, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a request as an agent does and read the whole answer."""
        return await self.http.post(path, json=body, headers=headers)

    @asynccontextmanager
    async def connect(self, *, receive_buffer_bytes: int | None = None) -> AsyncIterator[RawClient]:
        """Open a raw connection; `receive_buffer_bytes` makes a client that soon takes no more."""
        host, port = self.url.removeprefix("http://").split(":")
        socket = trio.socket.socket()
        if receive_buffer_bytes is not None:
            socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer_bytes)
        await socket.connect((host, int(port)))
        async with trio.SocketStream(socket) as stream:
            yield RawClient(stream)

    @asynccontextmanager
    async def open_turn(
        self, body: JsonObject, *, path: str = "/v1/responses", **more: int
    ) -> AsyncIterator[OpenTurn]:
        """Send a request and leave, at the end of the block, whatever has come by then.

        `more` goes to `connect`.
        """
        async with self.connect(**more) as client:
            await client.send(post_bytes(path, body))
            yield OpenTurn(client.stream)

    @property
    def burden(self) -> dict[str, int]:
        """What turns hold; all of it is 0 when none runs."""
        relay = self.services.relay
        held = {
            "turns": len(relay.active),
            "leases": sum(i.lender.leased for i in relay.instances.members),
            "in line": self.in_line(),
        }
        for instance in relay.instances.members:
            backend = instance.backend
            if isinstance(backend, CodexBackend) and backend.sockets is not None:
                held.setdefault("upstream sockets", 0)
                held["upstream sockets"] += backend.sockets.busy
            if isinstance(backend, CodexBackend) and isinstance(backend.transport, DirectTransport):
                held.setdefault("upstream connections", 0)
                held["upstream connections"] += backend.transport.busy_connections
        for name, other in relay.others.items():
            held[f"leases of {name}"] = other.lender.leased
            assert isinstance(other.backend, OpenAIBackend)
            if isinstance(transport := other.backend.transport, DirectTransport):
                held[f"connections to {name}"] = transport.busy_connections
        return held

    def standing(self, name: str) -> Standing:
        """Return what the relay knows of an account; `name` is its qualified id."""
        for instance in self.services.relay.instances.members:
            if (local := instance.local(name)) in instance.lender.pool._standings:
                return instance.lender.pool._standings[local or ""]
        raise AssertionError(f"no account is called {name}")

    def in_line(self) -> int:
        """Return how many turns wait in line for an account."""
        return sum(len(i.lender.queue) for i in self.services.relay.instances.members)

    async def journal(self, wanted: str, *, state: str = "turn") -> JsonObject:
        """Wait for the line of a turn in the journal whose state begins with `state`."""
        found: list[JsonObject] = []

        def is_there() -> bool:
            found[:] = [line] if (line := find(self.state, wanted)) is not None else []
            return bool(found) and str(found[0]["state"]).startswith(state)

        await eventually(is_there, lambda: found)
        return found[0]

    async def until_at_rest(self, *, within_s: float = PATIENCE_S) -> None:
        """Wait until nothing of any turn is left."""
        await eventually(
            lambda: not any(self.burden.values()), lambda: self.burden, within_s=within_s
        )

    async def until_left(self, seen: Seen, *, within_s: float = PATIENCE_S) -> None:
        """Wait until the backend has noticed that the relay gave `seen` up."""
        with trio.fail_after(within_s):
            await self.simulator.wait_until(lambda: seen.ended)
        assert seen.left_at_s is not None, "the backend was read to the end"

    async def until_asked(self, count: int = 1) -> Seen:
        """Wait until the backend has seen so many model requests; return the last of them."""
        with trio.fail_after(PATIENCE_S):
            await self.simulator.wait_until(lambda: len(self.asked) >= count)
        return self.asked[count - 1]


async def eventually(
    condition: Callable[[], bool],
    told: Callable[[], object] = lambda: "it never came true",
    *,
    within_s: float = PATIENCE_S,
) -> None:
    """Wait for something that tells nobody when it happens; `told` describes what is there."""
    with trio.move_on_after(within_s):
        while True:
            if condition():
                return
            await trio.sleep(_LOOK_AGAIN_S)
    raise AssertionError(told())


@asynccontextmanager
async def relaying(
    folder: Path,
    simulator: Simulator | None = None,
    *,
    server: ServerSettings = _SERVER,
    budgets: BudgetSettings = _BUDGETS,
    backend: CodexBackendSettings = _BACKEND,
    signed_in: bool = True,
    accounts: Mapping[str, str] | None = None,
    beside: Sequence[Beside] = (),
    auth_json: Path | None = None,
    models: ModelsSettings = _MODELS,
    profiles: ProfilesSettings = _PROFILES,
    others: Mapping[str, OpenAISimulator] | None = None,
    compaction: CompactionSettings = _COMPACTION,
    compression: CompressionSettings = _COMPRESSION,
    default_backend: str = FAMILY,
    around: Callable[[World], World] = lambda world: world,
) -> AsyncIterator[LiveRelay]:
    """Run a relay in front of `simulator`, on a free port and with a store below `folder`.

    The store holds every simulated account, or those of `accounts` (see `Beside`); none if not
    `signed_in`. `auth_json` is the folder of Codex CLI's file.

    `others` are backends of other kinds by canonical name, each of the simulator's wire and with
    its key; `budgets` are theirs too. `around` puts something into the relay's seams.

    Addresses in `backend` that are not the defaults are kept. At the end of the block every turn
    must have left nothing behind, no request may have mixed two accounts, and the relay must stop.
    """
    simulator = simulator or Simulator()
    store = folder / "accounts"
    if signed_in:
        _sign_in(simulator, store, accounts)
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        others = others or {}
        blocks = []
        for name, api in others.items():
            await nursery.start(api.serve)
            blocks.append((name, attrs.evolve(block_of(api, name), budgets=budgets)))
        further = []
        for number, one in enumerate(beside, start=2):
            stored = folder / f"accounts.{number}"
            _sign_in(simulator, stored, one.accounts)
            more = attrs.evolve(one.settings, budgets=budgets)
            further.append((f"openai-codex.{number}", _pointed_at(simulator, more, stored)))
        settings = Settings(
            server=attrs.evolve(server, port=0),
            sessions=SessionsSettings(state_path=str(folder / "state")),
            models=models,
            profiles=profiles,
            compaction=compaction,
            dynamic_compression=compression,
            default_backend=default_backend,
            backends=BackendsSettings(
                openai_codex=_pointed_at(simulator, attrs.evolve(backend, budgets=budgets), store),
                further=tuple(further),
                others=tuple(blocks),
            ),
        )
        world = World(
            legacy_folders=lambda _: () if auth_json is None else (auth_json,),
            wall_clock=simulator.wall_clock,
            new_id=lambda: uuid4().hex,
            proxy_for=lambda _: None,
            variable=lambda variable: others[variable].key,
        )
        drain, stopped = Drain(grace_s=server.drain_grace_s), trio.Event()
        running = await nursery.start(partial(_run, settings, around(world), drain, stopped))
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=running.url, trust_env=False, verify=NO_TLS, timeout=PATIENCE_S, limits=limits
        ) as http:
            relay = LiveRelay(
                url=running.url,
                http=http,
                simulator=simulator,
                services=running.services,
                drain=drain,
                store=store,
                state=folder / "state",
                stopped=stopped,
            )
            yield relay
        await relay.until_at_rest()
        assert relay.mismatched == []
        drain.begin()
        with trio.fail_after(PATIENCE_S):
            await stopped.wait()
        nursery.cancel_scope.cancel()


def block_of(api: OpenAISimulator, name: str) -> OpenAIBackendSettings:
    """Return the settings of a backend that is a simulated API; its variable is called as it is."""
    return OpenAIBackendSettings(
        api_base_url=api.api_base_url,
        wire=api.wire,
        api_key_env=None if api.key is None else name,
    )


def _sign_in(simulator: Simulator, store: Path, accounts: Mapping[str, str] | None) -> None:
    if accounts is None:
        simulator.write_store(store)
        return
    apart = store.with_name(f"{store.name}.all")
    simulator.write_store(apart)
    store.mkdir(mode=0o700)
    for local_id, name in accounts.items():
        content = parse_object((apart / f"{name}.json").read_bytes())
        path = store / f"{local_id}.json"
        path.write_bytes(dump(content | {"account_id": local_id}))
        path.chmod(0o600)


async def _run(
    settings: Settings,
    world: World,
    drain: Drain,
    stopped: trio.Event,
    *,
    task_status: trio.TaskStatus[Running],
) -> None:
    await process.run(settings, world, drain, task_status=task_status)
    stopped.set()


def _pointed_at(
    simulator: Simulator, backend: CodexBackendSettings, store: Path
) -> CodexBackendSettings:
    codex, default = backend.extra.codex, _BACKEND.extra.codex
    return attrs.evolve(
        backend,
        api_base_url=simulator.api_base_url
        if backend.api_base_url == _BACKEND.api_base_url
        else backend.api_base_url,
        extra=attrs.evolve(
            backend.extra,
            codex=attrs.evolve(
                codex,
                oauth_issuer=simulator.issuer_url
                if codex.oauth_issuer == default.oauth_issuer
                else codex.oauth_issuer,
                managed_oauth=attrs.evolve(codex.managed_oauth, storage_path=str(store)),
            ),
        ),
    )


def with_accounts(*, weight: int = 1, **managed: object) -> CodexBackendSettings:
    """Return the settings of a backend; `managed` are fields of `ManagedOAuthSettings`."""
    codex = CodexSettings(managed_oauth=ManagedOAuthSettings(**managed))  # type: ignore[arg-type]
    return CodexBackendSettings(weight=weight, extra=ExtraSettings(codex=codex))


def post_bytes(path: str, body: JsonObject, **headers: str) -> bytes:
    """Return a POST as bytes of HTTP/1.1, for a raw client."""
    content = dump(body)
    named = {"host": "localhost", "content-length": str(len(content)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


def ask(text: str = "hello", **more: Json) -> JsonObject:
    """Return the smallest Responses request."""
    body: JsonObject = {"model": "gpt-5.5", "input": text, "stream": True}
    return body | more


def ask_chat(text: str = "hello", **more: Json) -> JsonObject:
    """Return the smallest Chat request."""
    messages: list[Json] = [{"role": "user", "content": text}]
    body: JsonObject = {"model": "gpt-5.5", "messages": messages, "stream": True}
    return body | more
