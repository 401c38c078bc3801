"""The way to the backend and to the sign-in service: proxies, TLS, an answer. No token is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.wire import USER_AGENT
from codexrelay.cli.accounts.instance import Instance
from codexrelay.cli.accounts.running import way_out
from codexrelay.cli.doctor import clock
from codexrelay.cli.doctor.finding import broken, ok
from codexrelay.config.proxies import ways
from codexrelay.config.rules import is_loopback
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Block, Site

#: For name, connection, TLS and the head of an answer together.
ANSWER_S: Final = 5.0
_CLOSE_S: Final = 1.0
_PROXY_WANTS_LOGIN: Final = 407


@attrs.frozen(kw_only=True)
class Target:
    """A server that gets tokens."""

    about: str
    url: httpx.URL
    instance: Instance
    #: The full path of the key that names it.
    key: str

    @property
    def origin(self) -> str:
        """Return scheme, host and port, without a login."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

    @property
    def proxy_key(self) -> str:
        """The full path of the key that names the proxy on the way to it."""
        return f"backends.{self.instance.name.replace('-', '_')}.proxy"


def targets_of(site: Site) -> tuple[Target, ...]:
    """Return the servers that the relay would talk to; what several blocks share is there once."""
    found: dict[tuple[object, ...], Target] = {}
    for block in site.blocks:
        for purpose, target in enumerate(_targets(block)):
            codex = target.instance.codex
            way = (purpose, target.origin, codex.transport, codex.proxy, codex.ca_file)
            found.setdefault(way, target)
    return tuple(found.values())


def _targets(block: Block) -> Iterator[Target]:
    instance = block.instance
    place = f"backends.{instance.name.replace('-', '_')}"
    for about, url, key in (
        ("backend", instance.codex.api_base_url, "api_base_url"),
        ("sign-in service", instance.issuer_url, "extra.codex.oauth_issuer"),
    ):
        yield Target(
            about=f"{block.about}{about}",
            url=httpx.URL(url),
            instance=instance,
            key=f"{place}.{key}",
        )


def check_ways(site: Site) -> Iterator[Finding]:
    """Say which proxies are on the way, and where tokens would travel unencrypted."""
    for target in targets_of(site):
        if target.url.scheme == "http" and not is_loopback(target.url.host):
            yield broken(
                target.about,
                f"tokens would go to {target.origin} without encryption",
                f"{target.key}: https://…",
            )
    found: dict[str, None] = {}
    for target in targets_of(site):
        try:
            proxies = ways(
                (str(target.url),),
                target.instance.codex.proxy,
                key=target.proxy_key,
                proxy_for=site.call.world.proxy_for,
            )
        except ConfigError as error:
            for problem in error.problems:
                yield broken("proxy", str(problem), f"{target.proxy_key}: none, or one that works")
        else:
            found |= dict.fromkeys(f"{proxy} for {target.origin}" for proxy in proxies.values())
    yield ok("proxy", ", ".join(found) or "none is on the way")


async def check(target: Target, site: Site) -> list[Finding]:
    """Ask the server for its first page, as the relay would go there."""
    answer: httpx.Response | None = None
    request = httpx.Request(
        "GET",
        target.url.copy_with(path="/", query=None, fragment=None, username=None, password=None),
        headers={"accept": "*/*", "connection": "close", "user-agent": USER_AGENT},
    )
    with trio.move_on_after(ANSWER_S):
        try:
            async with way_out(site.call, target.instance) as transport:
                answer = await transport.handle_async_request(request)
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await answer.aclose()
        except (ConfigError, httpx.TransportError, OSError) as error:
            return [why_not(target, error)]
    if answer is None:
        return [
            broken(
                target.about,
                f"{target.origin} gives no answer within {ANSWER_S:.0f} s",
                "check the network, the VPN and the proxy",
            )
        ]
    return list(
        answered(
            target,
            answer.status_code,
            answer.headers.get("date"),
            now_unix_s=site.call.now_unix_s(),
        )
    )


def answered(
    target: Target, status: int, date: str | None, *, now_unix_s: float
) -> Iterator[Finding]:
    """Say what an answer means; any at all means that the server can be reached."""
    if status == _PROXY_WANTS_LOGIN:
        yield broken(
            target.about,
            f"the proxy on the way to {target.origin} wants a user and a password",
            f"{target.proxy_key}: http://user:password@host:port",
        )
        return
    yield ok(target.about, f"{target.origin} answers ({status})")
    yield from clock.against(date, told_by=target.origin, now_unix_s=now_unix_s)


def why_not(target: Target, error: Exception) -> Finding:
    """Say why there is no answer, and what mends it."""
    told = str(error) or type(error).__name__
    mend = "check the network, the VPN and the proxy"
    if isinstance(error, httpx.ProxyError):
        mend = f"correct the proxy, or {target.proxy_key}: none"
    elif isinstance(error, ConfigError):
        mend = f"correct {target.proxy_key}"
    elif "certificate" in told.lower():
        place = target.proxy_key.removesuffix("proxy")
        mend = f"{place}ca_file: FILE.pem, with the certificates of whoever reads along"
    return broken(target.about, f"{target.origin} cannot be reached: {told}", mend)
