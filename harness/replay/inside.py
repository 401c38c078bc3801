"""A whole relay whose upstream is a cassette, so that any client can be pointed at it."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import click

from codexrelay.backends.codex.settings import DEFAULT_API_BASE_URL
from codexrelay.cli import serve
from codexrelay.errors import ConfigError, Problem
from codexrelay.server import listen
from harness.replay.dial import ReplayDial
from harness.replay.matching import is_upgrade, key_of_interaction
from harness.replay.transport import ReplayTransport
from harness.simulator.accounts import some_accounts
from harness.simulator.backend import SimulatedBackend
from harness.simulator.wire import SWITCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import httpx

    from codexrelay.config.live import Live
    from codexrelay.config.settings import Settings
    from harness.cassettes.model import Interaction
    from harness.replay.ledger import Ledger
    from harness.replay.pace import Pace
    from harness.replay.server import Change
    from harness.simulator.accounts import SimulatedAccount

_CODEX: Final = "backends.openai_codex."
_MANAGED: Final = f"{_CODEX}extra.codex.managed_oauth."
_ORIGIN: Final = DEFAULT_API_BASE_URL.partition("/backend-api")[0]
#: Ends the path of a model request, below the address of its backend.
_TURN: Final = "/responses"
_MODELS: Final = "/models"
#: Names the account in a request to the backend.
_ACCOUNT: Final = "chatgpt-account-id"


def serve_relay(
    ledger: Ledger,
    *,
    pace: Pace,
    change: Change,
    port: int,
    config_path: Path | None,
    began_unix_s: float | None,
    websocket: str | None,
) -> None:
    """Serve until a signal ends it; with made-up accounts, and nothing kept of them.

    The relay takes `began_unix_s` for the time at its start, so that the moments in recorded
    answers, such as the end of a usage limit, are as far away as they were; None: the real time.
    `websocket` is how it uses WebSockets, see `websocket_mode`.

    A configuration that cannot be used ends the process with status 2.
    """
    ahead_s = 0.0 if began_unix_s is None else began_unix_s - time.time()

    def wall_clock() -> float:
        return time.time() + ahead_s

    with tempfile.TemporaryDirectory(prefix="codexrelay-replay-") as name:
        folder = Path(name)
        store = folder / "accounts"
        upstream = [recording.interaction for recording in ledger.recordings]
        accounts = accounts_for(upstream)
        SimulatedBackend(accounts=accounts, wall_clock=wall_clock).write_store(store)
        plays = functools.partial(ReplayTransport, ledger, pace=pace, change=change)
        dials = functools.partial(ReplayDial, ledger, pace=pace, change=change)
        serve.run(
            config_path,
            flags_for(upstream, folder=folder, store=store, port=port, websocket=websocket),
            functools.partial(_serve, plays=plays, dials=dials, store=store, wall_clock=wall_clock),
        )


def accounts_for(upstream: Iterable[Interaction]) -> tuple[SimulatedAccount, ...]:
    """Return as many accounts as were used, so that there is one to change to.

    If tokens were renewed before anything else, theirs have run out.
    """
    asked = sorted(upstream, key=lambda one: one.number)
    used = {value for one in asked for name, value in one.request.headers if name == _ACCOUNT}
    expired = bool(asked) and key_of_interaction(asked[0]).is_refresh
    return tuple(attrs.evolve(one, expired=expired) for one in some_accounts(len(used) or 1))


def flags_for(
    upstream: Iterable[Interaction],
    *,
    folder: Path,
    store: Path,
    port: int,
    websocket: str | None = None,
) -> dict[str, str | None]:
    """Return the settings of the relay, as full key paths: they beat file and environment.

    Its backend is at the address that was recorded, and it asks for models if that was recorded.
    """
    asked = list(upstream)
    flags: dict[str, str | None] = {
        "server.port": str(port),
        "sessions.state_path": str(folder / "state"),
        f"{_MANAGED}enabled": "true",
        f"{_MANAGED}storage_path": str(store),
        f"{_MANAGED}accounts": "all",
        f"{_MANAGED}allow_legacy_fallback": "false",
    }
    if websocket is not None:
        flags[f"{_CODEX}websocket"] = websocket
    path = next((found for one in asked if (found := _path_of(one)) is not None), None)
    if path is not None:
        # Nobody goes there, and only the path is compared; of other hosts the relay would warn.
        flags[f"{_CODEX}api_base_url"] = f"{_ORIGIN}{path}"
    paths = [urlsplit(one.request.uri).path for one in asked]
    if not any(path.endswith(_MODELS) for path in paths):
        flags[f"{_CODEX}extra.codex.model_catalog.discovery_enabled"] = "false"
    return flags


def _path_of(interaction: Interaction) -> str | None:
    """Return the path of the Codex backend that was asked, None for any other request."""
    request = interaction.request
    split = urlsplit(request.uri)
    asks = request.method == "POST" or is_upgrade(request.headers)
    if not asks or not split.path.endswith(_TURN):
        return None
    return split.path.removesuffix(_TURN)


def websocket_mode(interactions: Iterable[Interaction]) -> str | None:
    """Return how the relay that was recorded used WebSockets, as its setting says it.

    None: as is the default, or nobody knows.
    """
    upstream = client = False
    for one in interactions:
        if one.track == "upstream":
            upstream = upstream or is_upgrade(one.request.headers)
        else:
            client = client or one.response.status == SWITCHED
    if upstream is client:
        return None
    return "on" if upstream else "off"


async def _serve(
    live: Live,
    *,
    plays: Callable[..., ReplayTransport],
    dials: Callable[..., ReplayDial],
    store: Path,
    wall_clock: Callable[[], float],
) -> None:
    _keep_away_from_real_accounts(live.settings, store)

    def cassette(_backend: str, _connections: httpx.AsyncBaseTransport) -> ReplayTransport:
        return plays(on_miss=say_miss)

    world = attrs.evolve(
        serve.world_of(live.settings),
        wall_clock=wall_clock,
        legacy_folders=lambda _: (),
        proxy_for=lambda _: None,
        bind=_bind_and_say,
        around_transport=cassette,
        around_dial=lambda _backend, _dial: dials(on_miss=say_miss),
    )
    await serve.serve_live(live, world=world)


def _keep_away_from_real_accounts(settings: Settings, store: Path) -> None:
    """See to it that no recorded answer is written into an account that somebody uses.

    Raises:
        ConfigError: a backend's accounts are elsewhere.
    """
    problems = [
        Problem(f"backends.{name}", "has accounts of its own: leave it out for a replay")
        for name, codex in settings.backends.family
        if Path(codex.extra.codex.managed_oauth.storage_path) != store
    ]
    if problems:
        raise ConfigError(tuple(problems))


async def _bind_and_say(host: str, port: int) -> listen.Bound:
    bound = await listen.bind_tcp(host, port)
    click.echo(f"harness listening on {bound.url}", err=True)
    return bound


def say_miss(text: str) -> None:
    """Tell of a request that nobody has recorded."""
    click.echo(f"harness replay: {text}", err=True)
