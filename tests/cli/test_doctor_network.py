"""`codexrelay doctor` and what it asks: the port, the backend and the sign-in service."""

from __future__ import annotations

import email.utils
import errno
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio

from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.world import World
from codexrelay.cli.doctor import clock, network, port
from codexrelay.cli.doctor.finding import Level
from codexrelay.cli.doctor.site import Site
from codexrelay.config.loading import load
from codexrelay.config.proxies import Named
from codexrelay.config.settings import ServerSettings
from codexrelay.errors import ConfigError, Problem
from codexrelay.protocol.raw import JsonObject, dump
from harness.simulator import Simulator
from tests.cli.test_doctor import Patient
from tests.fakes.account_commands import secrets_in
from tests.fakes.certificates import make_certificate
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.relay import ask, relaying
from tests.fakes.scripted_server import Caller, always_answering, serving
from tests.fakes.simulated import simulated
from tests.fakes.wall_clock import NOW_UNIX_S as NOW
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NETWORK: Final = "check the network, the VPN and the proxy (backends.openai_codex.proxy)"
BLOCK: Final = "backends.openai_codex"
CERTIFICATES: Final = f"{BLOCK}.ca_file: FILE.pem, with the certificates of whoever reads along"
IN_PEM: Final = f"{BLOCK}.ca_file: FILE.pem, with certificates in PEM form, or leave it out"
NO_PROXY: Final = f"{BLOCK}.proxy: none, or one that works"
UNSET: Final = "unset SSL_CERT_FILE, or let it name a file of certificates in PEM form"
KEY: Final = "a-client-key-for-nobody-else"


def plain(status: str = "200 OK", *, date: str | None = None, body: bytes = b"") -> bytes:
    """Return an answer as bytes."""
    dated = "" if date is None else f"date: {date}\r\n"
    head = f"HTTP/1.1 {status}\r\n{dated}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def silent(caller: Caller) -> None:
    """Take a request and never say anything."""
    await caller.request()
    await caller.left()


async def rude(caller: Caller) -> None:
    """Leave as soon as somebody asks."""
    await caller.request()


def both_at(url: str, **more: object) -> JsonObject:
    """Return a configuration whose backend and sign-in service are one server."""
    first: JsonObject = {
        "api_base_url": f"{url}/backend-api/codex",
        "extra": {"codex": {"oauth_issuer": url}},
        **more,  # type: ignore[dict-item]
    }
    return {"backends": {"openai_codex": first}}


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    patient = Patient(folder=tmp_path)
    patient.add()
    return patient


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port on which somebody listens and nobody answers; it is not read from."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        yield listener.getsockname()[1]


@pytest.fixture
def free() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# The port.


def test_a_free_port_is_told(free: int, patient: Patient) -> None:
    patient.config = {"server": {"port": free}}
    assert patient.about("port") == [
        ("ok", f"{free} on 127.0.0.1 is free: no relay runs there", None)
    ]


@pytest.mark.parametrize("signed_in", [True, False], ids=["with accounts", "without"])
async def test_a_relay_that_runs_is_recognised(
    signed_in: bool, patient: Patient, tmp_path: Path
) -> None:
    async with relaying(tmp_path / "relay", Simulator(), signed_in=signed_in) as relay:
        number = int(relay.url.rpartition(":")[2])
        patient.config = {"server": {"port": number}}
        found = await patient.ask("port")
        count = len(relay.simulator.accounts) if signed_in else 0
    told = f"a relay runs on {number} on 127.0.0.1: ok, {count} of {count} accounts can take a turn"
    assert found == [("ok", told, None)]


async def test_a_relay_whose_accounts_are_all_of_no_use_is_told(
    patient: Patient, tmp_path: Path
) -> None:
    async with relaying(tmp_path / "relay", Simulator()) as relay:
        for account in relay.simulator.accounts:
            relay.simulator.limit(account.name, resets_in_s=3600)
        assert (await relay.post("/v1/responses", ask())).status_code == 429
        number = int(relay.url.rpartition(":")[2])
        patient.config = {"server": {"port": number}}
        found = await patient.ask("port")
        count = len(relay.simulator.accounts)
    told = f"a relay runs on {number} on 127.0.0.1: ok, 0 of {count} accounts can take a turn"
    assert found == [("warn", told, patient.command("list"))]


async def test_a_relay_that_wants_a_key_is_recognised_and_not_given_one(
    patient: Patient, tmp_path: Path
) -> None:
    keys = ServerSettings(client_keys=(KEY,))
    async with relaying(tmp_path / "relay", Simulator(), server=keys) as relay:
        number = int(relay.url.rpartition(":")[2])
        patient.config = {"server": {"port": number, "client_keys": [KEY]}}
        ((level, what, _),) = await patient.ask("port")
    assert level == "ok"
    assert what.startswith(f"a relay runs on {number} on 127.0.0.1; it says no more than: a client")


@pytest.mark.parametrize(
    "script",
    [always_answering(plain("404 Not Found")), always_answering(plain(body=b"{}")), rude],
    ids=["of another kind", "with JSON", "rude"],
)
async def test_another_program_on_the_port_is_broken(script: object, patient: Patient) -> None:
    async with serving(script) as server:  # type: ignore[arg-type]
        number = int(server.url.rpartition(":")[2])
        patient.config = {"server": {"port": number}}
        found = await patient.ask("port")
    assert found == [
        (
            "broken",
            f"{number} on 127.0.0.1 is taken by another program",
            "stop that program, or set server.port to another port",
        )
    ]


async def test_a_program_that_holds_the_port_and_is_silent_is_waited_for_5_s(
    taken: int, patient: Patient, autojump_clock: trio.testing.MockClock
) -> None:
    patient.config = {"server": {"port": taken}}
    (found,) = await port.check(site_of(patient))
    assert (found.level, trio.current_time()) == (Level.BROKEN, pytest.approx(5.0))


def test_an_address_of_another_machine_is_broken(patient: Patient) -> None:
    # A documentation address: nothing is sent, binding to it fails.
    patient.config = {"server": {"host": "192.0.2.1", "port": 8787, "client_keys": [KEY]}}
    ((level, what, mend),) = patient.about("port")
    assert level == "broken"
    assert what.startswith("cannot listen on 8787 on 192.0.2.1 (")
    assert mend == "set server.host to an address of this machine, such as 127.0.0.1"


async def test_a_port_that_only_root_may_take_is_broken() -> None:
    refused = OSError(errno.EACCES, "Permission denied")
    (found,) = await port.why_not(ServerSettings(port=80), refused)
    assert (found.level, found.mend) == (Level.BROKEN, "set server.port to one above 1023")


@pytest.mark.parametrize("code", [errno.EACCES, 10013], ids=["EACCES", "WSAEACCES"])
async def test_a_port_that_windows_keeps_is_no_matter_of_root(code: int, free: int) -> None:
    refused = OSError(code, "forbidden")
    (found,) = await port.why_not(ServerSettings(port=free), refused)
    assert found.what == f"{free} on 127.0.0.1 is kept by another program, or by the system"
    assert (found.mend or "").startswith("stop that program, or set server.port to another port")


async def test_a_port_that_another_relay_holds_for_itself_is_told(tmp_path: Path) -> None:
    async with relaying(tmp_path, Simulator()) as relay:
        number = int(relay.url.rpartition(":")[2])
        refused = OSError(errno.EACCES, "forbidden")
        (found,) = await port.why_not(ServerSettings(port=number), refused)
    assert found.what.startswith(f"a relay runs on {number}")


def test_a_host_that_can_be_no_name_is_broken(patient: Patient) -> None:
    patient.config = {"server": {"host": "a..b", "port": 8787, "client_keys": [KEY]}}
    assert patient.about("port") == [
        (
            "broken",
            "server.host a..b can be no name",
            "set server.host to an address of this machine, such as 127.0.0.1",
        )
    ]


@pytest.mark.parametrize(
    ("host", "allowed", "told"),
    [
        ("192.0.2.1", [], '["192.0.2.1"]'),
        ("relay.example", ["other"], '["other", "relay.example"]'),
        ("relay.example", ["relay.example"], None),
        ("2001:db8::1", [], '["[2001:db8::1]"]'),
        ("0.0.0.0", [], None),
        ("127.0.0.1", [], None),
    ],
)
def test_an_address_that_the_relay_does_not_answer_to_is_told(
    host: str, allowed: list[str], told: str | None, patient: Patient
) -> None:
    server: JsonObject = {"host": host, "port": 8787, "client_keys": [KEY]}
    patient.config = {"server": server | {"allowed_hosts": [*allowed]}}
    site = site_of(patient)
    found = [(one.level, one.mend) for one in port.check_name(site)]
    assert found == ([] if told is None else [(Level.WARN, f"server.allowed_hosts: {told}")])


# The backend and the sign-in service.


def site_of(patient: Patient) -> Site:
    """Return what the checks look at, for those that are called by themselves."""
    world = World(
        environ={"HOME": str(patient.folder)},
        wall_clock=WallClock(),
        proxy_for=lambda _: patient.proxy,
    )
    call = Call(world=world, config_path=patient.write_config())
    settings = load(config_path=call.config_path, environ=world.environ, flags={}).settings
    return Site.at(call, settings)


@pytest.mark.parametrize("transport", ["direct", "httpx"])
async def test_servers_that_answer_are_reached_and_sent_no_token(
    transport: str, patient: Patient
) -> None:
    async with simulated(Simulator()) as client:
        simulator = client.simulator
        simulator.write_store(patient.folder / "more")
        patient.config = both_at(simulator.base_url, transport=transport)
        backend = await patient.ask("backend")
        service = await patient.ask("sign-in service")
    assert [level for level, _, _ in backend + service] == ["ok", "ok"]
    assert backend[0][1].startswith(f"{simulator.base_url} answers (")
    assert [seen.header("authorization") for seen in simulator.seen] == [None] * 4
    assert {seen.path for seen in simulator.seen} == {"/"}
    for secret in secrets_in(simulator):
        assert secret not in patient.said


async def test_offline_nobody_is_asked(patient: Patient) -> None:
    async with simulated(Simulator()) as client:
        patient.config = both_at(client.simulator.base_url)
        found = await trio.to_thread.run_sync(patient.findings, "--offline")
    assert {about for _, about, _, _ in found}.isdisjoint({"backend", "sign-in service"})
    assert client.simulator.seen == []


async def test_a_server_that_serves_both_or_several_blocks_is_asked_once_for_each_purpose(
    patient: Patient,
) -> None:
    async with serving(always_answering(plain())) as server:
        config = both_at(server.url)
        config["backends"]["openai_codex.2"] = {}  # type: ignore[index, call-overload]
        patient.config = config
        site = site_of(patient)
        assert [target.about for target in network.targets_of(site)] == [
            "backend",
            "sign-in service",
        ]


async def test_nobody_there_is_broken(free: int, patient: Patient) -> None:
    patient.config = both_at(f"http://127.0.0.1:{free}")
    ((level, what, mend),) = await patient.ask("backend")
    assert level == "broken"
    assert what.startswith(f"http://127.0.0.1:{free} cannot be reached: ")
    assert mend == NETWORK


async def test_a_silent_server_is_waited_for_5_s(
    patient: Patient, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(silent) as server:
        patient.config = both_at(server.url)
        site = site_of(patient)
        (found,) = await network.check(network.targets_of(site)[0], site)
    assert (found.level, trio.current_time()) == (Level.BROKEN, pytest.approx(5.0))
    assert found.what == f"{server.url} gives no answer within 5 s"


@pytest.mark.parametrize("transport", ["direct", "httpx"])
async def test_a_certificate_that_is_not_trusted_is_told_as_one(
    transport: str, patient: Patient
) -> None:
    if (certificate := make_certificate(patient.folder)) is None:
        pytest.skip("there is no openssl program to make a certificate with")
    async with serving(always_answering(plain()), tls=certificate.server) as server:
        patient.config = both_at(server.url, transport=transport)
        ((level, what, mend),) = await patient.ask("backend")
        assert (level, mend) == (
            "broken",
            "backends.openai_codex.ca_file: FILE.pem, with the certificates of whoever reads along",
        )
        assert "certificate" in what
        patient.config = both_at(server.url, transport=transport, ca_file=str(certificate.file))
        assert [level for level, _, _ in await patient.ask("backend")] == ["ok"]


@pytest.mark.parametrize("transport", ["direct", "httpx"])
async def test_a_file_of_certificates_that_holds_none_is_told_by_its_key(
    transport: str, patient: Patient
) -> None:
    garbage = patient.folder / "garbage.pem"
    garbage.write_text("garbage", "utf-8")
    patient.config = both_at("https://127.0.0.1:9", transport=transport, ca_file=str(garbage))
    ((level, what, mend),) = patient.about("certificates")
    assert (level, mend) == ("broken", IN_PEM)
    assert what.startswith(f"{BLOCK}.ca_file: {garbage} holds no certificate")
    ((level, _, mend),) = await patient.ask("backend")
    assert (level, mend) == ("broken", IN_PEM)


def test_a_variable_for_certificates_that_leads_nowhere_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(patient.folder / "none.pem"))
    assert patient.about("certificates") == []  # nothing goes over TLS here
    patient.config = both_at("https://127.0.0.1:9")
    ((level, what, mend),) = patient.about("certificates")
    assert (level, mend) == ("broken", UNSET)
    assert what.startswith("SSL_CERT_FILE: the certificates that it names cannot be read: ")


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble_is_told(status: int, patient: Patient) -> None:
    target = network.targets_of(site_of(patient))[0]
    (found,) = network.answered(target, status, None, now_unix_s=NOW)
    assert (found.level, found.mend) == (Level.WARN, "wait a while, then: codexrelay doctor")
    assert f"answers ({status})" in found.what


async def test_a_proxy_that_refuses_is_told_as_one(patient: Patient) -> None:
    async with serving(ConnectProxy(wants="me:secret")) as proxy:
        patient.proxy = Named(proxy.url, "HTTPS_PROXY")
        patient.config = both_at("https://127.0.0.1:9")
        ((level, what, mend),) = await patient.ask("backend")
    assert level == "broken"
    assert "makes no tunnel" in what
    assert "407" in what
    assert mend == "correct the proxy, or backends.openai_codex.proxy: none"


def test_a_proxy_that_answers_itself_wants_a_password(patient: Patient) -> None:
    target = network.targets_of(site_of(patient))[0]
    (found,) = network.answered(target, 407, None, now_unix_s=NOW)
    assert found.level is Level.BROKEN
    assert found.mend == "backends.openai_codex.proxy: http://user:password@host:port"


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        (httpx.ConnectError("no such host"), NETWORK),
        (httpx.ReadError(""), NETWORK),
        (httpx.ProxyError("refused"), "correct the proxy, or backends.openai_codex.proxy: none"),
        (httpx.ProxyError("certificate verify failed"), CERTIFICATES),
        (ConfigError((Problem(f"{BLOCK}.ca_file", "holds no certificate"),)), IN_PEM),
        (ConfigError((Problem("SSL_CERT_FILE", "cannot be read"),)), UNSET),
        (ConfigError((Problem("HTTPS_PROXY", "is no URL"),)), NO_PROXY),
    ],
)
def test_each_way_to_fail_has_its_remedy(error: Exception, mend: str, patient: Patient) -> None:
    target = network.targets_of(site_of(patient))[0]
    found = network.why_not(target, error)
    assert (found.level, found.mend) == (Level.BROKEN, mend)
    assert (str(error) or type(error).__name__) in found.what


# The clock, as servers have it.


def http_date(at_unix_s: float) -> str:
    return email.utils.formatdate(at_unix_s, usegmt=True)


@pytest.mark.parametrize(
    ("ahead_s", "level", "what"),
    [
        (0, Level.OK, "as the server has it"),
        (59, Level.OK, "as the server has it"),
        (-59, Level.OK, "as the server has it"),
        (120, Level.WARN, "it is 2 min slow, as the server has it"),
        (-120, Level.WARN, "it is 2 min fast, as the server has it"),
        (3600, Level.BROKEN, "it is 1 h slow, as the server has it"),
        (-7200, Level.BROKEN, "it is 2 h fast, as the server has it"),
    ],
)
def test_the_clock_is_compared_with_the_date_of_an_answer(
    ahead_s: float, level: Level, what: str
) -> None:
    date = http_date(NOW + ahead_s)
    (found,) = clock.against(date, told_by="the server", now_unix_s=NOW)
    assert (found.level, found.about, found.what) == (level, "clock", what)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 2026 10:00:00 GMT"])
def test_an_answer_without_a_date_says_nothing_about_the_clock(date: str | None) -> None:
    assert list(clock.against(date, told_by="the server", now_unix_s=NOW)) == []


async def test_a_wrong_clock_is_told_once_for_each_server(patient: Patient) -> None:
    answer = plain(date=http_date(NOW + 3600))
    async with serving(always_answering(answer)) as server:
        patient.config = both_at(server.url)
        found = await patient.ask("clock")
    told = f"it is 1 h slow, as {server.url} has it"
    assert [(level, what) for level, what, _ in found] == [
        ("ok", "no token was issued in the future"),
        ("broken", told),
    ]


def test_the_answer_of_no_relay_is_nobodys() -> None:
    for body in ({}, {"error": {"message": "Incorrect API key"}}, {"usable": 1}):
        answer = httpx.Response(200, content=dump(body))  # type: ignore[arg-type]
        (found,) = port.who_answers(answer, place="1 on 127.0.0.1")
        assert found.level is Level.BROKEN
