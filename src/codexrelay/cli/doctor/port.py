"""The port of the relay: free, or taken, and if so by whom."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import httpx
import trio

from codexrelay.cli.client_config.address import address_of, unnamed_host
from codexrelay.cli.client_config.programs.program import quoted
from codexrelay.cli.doctor.finding import broken, ok, warn
from codexrelay.protocol.raw import get_list, get_number, get_object, get_text, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Site
    from codexrelay.config.settings import ServerSettings
    from codexrelay.protocol.raw import JsonObject

_ABOUT: Final = "port"
#: What whoever holds the port is given to say who it is.
ANSWER_S: Final = 5.0
_OTHER_HOST: Final = "set server.host to an address of this machine, such as 127.0.0.1"
#: EACCES, and what Windows calls it of a socket (WSAEACCES).
_FORBIDDEN: Final = (errno.EACCES, 10013)
#: Up to here a port is for programs of the system.
_LAST_OF_ROOT: Final = 1023
_LIST: Final = "codexrelay accounts list"
_OTHER_PORT: Final = "stop that program, or set server.port to another port"
#: What a relay speaks of that does not answer us: it wants a key, another name, or stops.
_OF_A_RELAY: Final = ("codexrelay", "server.client_keys")


def check_name(site: Site) -> Iterator[Finding]:
    """Find an address that the relay listens on and does not answer to."""
    server = site.settings.server
    if server.port and (host := unnamed_host(address_of(server), server)) is not None:
        allowed = ", ".join(map(quoted, (*server.allowed_hosts, host)))
        yield warn(
            "host",
            f"clients that call the relay {host} are refused (403), since server.allowed_hosts "
            "does not name it",
            f"server.allowed_hosts: [{allowed}]",
        )


async def check(site: Site) -> list[Finding]:
    """Try to listen; ask who does if that fails."""
    server = site.settings.server
    if server.port == 0:
        return [ok(_ABOUT, "server.port is 0: the relay takes a free one")]
    try:
        listeners = await trio.open_tcp_listeners(server.port, host=server.host)
    except OSError as error:
        return list(await why_not(server, error, listing=site.command("list", None)))
    except UnicodeError:  # no name could be looked up, as none is spelt so
        return [broken(_ABOUT, f"server.host {server.host} can be no name", _OTHER_HOST)]
    for listener in listeners:
        await listener.aclose()
    return [ok(_ABOUT, f"{server.port} on {server.host} is free: no relay runs there")]


async def why_not(
    server: ServerSettings, error: OSError, *, listing: str = _LIST
) -> Iterator[Finding]:
    """Say why the relay could not listen; where the port is taken, ask by whom.

    Args:
        server: where it would.
        error: what trying to said.
        listing: the command that lists the accounts.
    """
    place = f"{server.port} on {server.host}"
    match error.errno:
        case errno.EADDRINUSE:
            return who_answers(await _ask(server), place=place, listing=listing)
        case code if code in _FORBIDDEN and server.port > _LAST_OF_ROOT:
            # Windows: somebody has it for himself, or the system keeps it.
            if (answer := await _ask(server)) is not None:
                return who_answers(answer, place=place, listing=listing)
            return iter(
                [
                    broken(
                        _ABOUT,
                        f"{place} is kept by another program, or by the system",
                        f"{_OTHER_PORT} (netsh interface ipv4 show excludedportrange tcp lists "
                        "those that Windows keeps)",
                    )
                ]
            )
        case code if code in _FORBIDDEN:
            return iter(
                [
                    broken(
                        _ABOUT,
                        f"this user may not listen on {place}",
                        "set server.port to one above 1023",
                    )
                ]
            )
        case _:
            told = f"cannot listen on {place} ({error.strerror or error})"
            return iter([broken(_ABOUT, told, _OTHER_HOST)])


async def _ask(server: ServerSettings) -> httpx.Response | None:
    """Ask whoever listens how it is, without any key; None: it says nothing that is HTTP."""
    with trio.move_on_after(ANSWER_S):
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
                return await http.get(f"{address_of(server)}/healthz")
        except httpx.HTTPError:
            return None
    return None


def who_answers(
    answer: httpx.Response | None, *, place: str, listing: str = _LIST
) -> Iterator[Finding]:
    """Yield what the answer to `GET /healthz` says of who has the port."""
    body = _body(answer)
    message = get_text(get_object(body, "error"), "message") or ""
    usable, accounts = get_number(body, "usable"), get_list(body, "accounts")
    if usable is not None and get_text(body, "status") is not None and "accounts" in body:
        told = f"a relay runs on {place}: {get_text(body, 'status')}"
        told += f", {usable:.0f} of {len(accounts)} accounts can take a turn"
        if usable or not accounts:
            yield ok(_ABOUT, told)
        else:
            yield warn(_ABOUT, told, listing)
    elif any(word in message for word in _OF_A_RELAY):
        yield ok(_ABOUT, f"a relay runs on {place}; it says no more than: {message}")
    else:
        yield broken(_ABOUT, f"{place} is taken by another program", _OTHER_PORT)


def _body(answer: httpx.Response | None) -> JsonObject:
    try:
        return {} if answer is None else parse_object(answer.content)
    except ValueError:
        return {}
