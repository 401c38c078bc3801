"""Listening, serving and stopping: what `hypercorn.trio.serve` does, with our connections."""

from __future__ import annotations

import contextlib
import errno
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.utils import repr_socket_addr

from codexrelay.errors import ConfigError, Problem
from codexrelay.server.heads import OwnHeaders
from codexrelay.server.tcp import ClientConnection, Patience, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import (
        AppWrapper,
        ASGIFramework,
        ASGIReceiveCallable,
        ASGISendCallable,
        LifespanState,
        Scope,
    )

    from codexrelay.server.drain import Drain

#: Connections that may wait to be accepted while the process is busy.
_BACKLOG: Final = 1024
#: Of a request's line and headers. Clients put whole descriptions of their workspace into one.
_HEAD_BYTES: Final = 65536


@attrs.frozen(kw_only=True)
class Bound:
    """Where connections come from."""

    #: What clients are told (`http://127.0.0.1:8080`).
    url: str
    #: Closed when serving ends.
    listeners: list[trio.abc.Listener[trio.SocketStream]]


#: Takes host and port.
Bind: TypeAlias = "Callable[[str, int], Awaitable[Bound]]"


async def bind_tcp(host: str, port: int) -> Bound:
    """Listen on a TCP port; 0 takes a free one.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError((_problem(host, port, error),)) from error
    return Bound(url=_url(listeners[0]), listeners=[*listeners])


async def serve(
    app: ASGIFramework,
    *,
    host: str,
    port: int,
    drain: Drain,
    patience: Patience = Patience(),  # noqa: B008 - frozen
    bind: Bind = bind_tcp,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` over HTTP/1.1 until the drain is over.

    Reports the bound URL (`http://127.0.0.1:8080`) through `task_status` once connections are
    accepted; port 0 takes a free one. A cancel closes everything at once.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    config = server_config()
    state: LifespanState = {}
    service = Service(
        app=_straight(app),
        config=config,
        drain=drain,
        state=state,
        patience=patience,
        own=OwnHeaders(config),
    )

    # Not `async`, as each coroutine between trio and the reading costs something for each receive.
    def serve_connection(stream: trio.SocketStream) -> Awaitable[None]:
        return ClientConnection(service, stream).run()

    async with contextlib.AsyncExitStack() as open_listeners:
        bound = await bind(host, port)
        for listener in bound.listeners:
            await open_listeners.enter_async_context(listener)
        lifespan = Lifespan(ASGIWrapper(app), config, state)
        async with trio.open_nursery() as owner:
            await owner.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            owner.start_soon(drain.see_out)
            async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(
                        trio.serve_listeners,
                        serve_connection,
                        bound.listeners,
                        handler_nursery=connections,
                    )
                )
                task_status.started(bound.url)
                await drain.begun.wait()
                accepting.cancel_scope.cancel()
            await lifespan.wait_for_shutdown()
            owner.cancel_scope.cancel()
    drain.ended.set()


def _straight(app: ASGIFramework) -> AppWrapper:
    """Return what hypercorn's `ASGIWrapper` is, without a coroutine of its own around each run."""

    def run(
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        _sync_spawn: object,
        _call_soon: object,
    ) -> Awaitable[None]:
        return app(scope, receive, send)

    return cast("AppWrapper", run)


def server_config() -> Config:
    """Return what of hypercorn's configuration differs from its defaults."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger(__name__)
    config.include_server_header = False
    config.h11_max_incomplete_size = _HEAD_BYTES
    return config


def _problem(host: str, port: int, error: OSError) -> Problem:
    match error.errno:
        case errno.EADDRINUSE:
            return Problem(
                "server.port",
                f"port {port} on {host} is in use by another program (another codexrelay?): "
                "stop that one, or set another port",
            )
        case errno.EACCES:
            return Problem(
                "server.port",
                f"this user may not listen on port {port}: set one above 1023",
            )
        case _:
            return Problem(
                "server.host",
                f"cannot listen on {host!r} ({error.strerror or error}): set an address of this "
                "machine; 127.0.0.1 serves this machine alone",
            )


def _url(listener: trio.SocketListener) -> str:
    bound = listener.socket
    return f"http://{repr_socket_addr(bound.family, bound.getsockname())}"
