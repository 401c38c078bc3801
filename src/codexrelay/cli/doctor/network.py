"""The way to the backend and to the sign-in service: proxies, TLS, an answer. No token is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.wire import USER_AGENT
from codexrelay.backends.transports import trust
from codexrelay.cli.accounts.instance import Instance
from codexrelay.cli.accounts.running import way_out
from codexrelay.cli.doctor import clock
from codexrelay.cli.doctor.finding import broken, ok, warn
from codexrelay.config.proxies import ways
from codexrelay.config.rules import is_loopback
from codexrelay.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Block, Site

#: For name, connection, TLS and the head of an answer together.
ANSWER_S: Final = 5.0
_CLOSE_S: Final = 1.0
_PROXY_WANTS_LOGIN: Final = 407
_SERVER_AT_FAULT: Final = 500
_CERTIFICATE_VARIABLE: Final = "SSL_CERT_FILE"


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

    @property
    def ca_key(self) -> str:
        """The full path of the key that names further certificates."""
        return f"{self.proxy_key.removesuffix('proxy')}ca_file"

    @property
    def network_mend(self) -> str:
        """What to look at where nobody says what is wrong."""
        return f"check the network, the VPN and the proxy ({self.proxy_key})"


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
    wrong: dict[Finding, None] = {}
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
                wrong[broken("proxy", str(problem), _mend(target, problem))] = None
        else:
            found |= dict.fromkeys(f"{proxy} for {target.origin}" for proxy in proxies.values())
    yield from wrong
    if found or not wrong:
        yield ok("proxy", ", ".join(found) or "none is on the way")


def check_certificates(site: Site) -> Iterator[Finding]:
    """Read what says whose certificates are trusted. Nothing is told of what is in order."""
    targets = targets_of(site)
    for target in targets:
        ca_file = target.instance.codex.ca_file
        why = None if ca_file is None else trust.problem_with(ca_file)
        if why is not None:
            problem = Problem(target.ca_key, why)
            yield broken("certificates", str(problem), _mend(target, problem))
    if not any(_needs_certificates(target) for target in targets):
        return
    try:
        trust.trusting(None)
    except OSError as error:
        told = f"the certificates that it names cannot be read: {error.strerror or error}"
        problem = Problem(_CERTIFICATE_VARIABLE, told)
        yield broken("certificates", str(problem), _mend(targets[0], problem))


def _needs_certificates(target: Target) -> bool:
    codex = target.instance.codex
    return target.url.scheme == "https" or codex.ca_file is not None or codex.transport != "direct"


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
                target.network_mend,
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
    if status >= _SERVER_AT_FAULT:
        told = f"{target.origin} answers ({status}), which means that it is in trouble"
        yield warn(target.about, told, "wait a while, then: codexrelay doctor")
    else:
        yield ok(target.about, f"{target.origin} answers ({status})")
    yield from clock.against(date, told_by=target.origin, now_unix_s=now_unix_s)


def why_not(target: Target, error: Exception) -> Finding:
    """Say why there is no answer, and what mends it."""
    told = str(error) or type(error).__name__
    mend = target.network_mend
    if isinstance(error, ConfigError):
        mend = "; ".join(dict.fromkeys(_mend(target, problem) for problem in error.problems))
    elif "certificate" in told.lower():  # first: a proxy may have one too
        mend = f"{target.ca_key}: FILE.pem, with the certificates of whoever reads along"
    elif isinstance(error, httpx.ProxyError):
        mend = f"correct the proxy, or {target.proxy_key}: none"
    return broken(target.about, f"{target.origin} cannot be reached: {told}", mend)


def _mend(target: Target, problem: Problem) -> str:
    """Return what mends a way that cannot be gone, by the place that is at fault."""
    if problem.where == _CERTIFICATE_VARIABLE:
        return f"unset {_CERTIFICATE_VARIABLE}, or let it name a file of certificates in PEM form"
    if problem.where == target.ca_key:
        return f"{target.ca_key}: FILE.pem, with certificates in PEM form, or leave it out"
    return f"{target.proxy_key}: none, or one that works"
