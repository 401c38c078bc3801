"""Who may talk to the relay."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.server.guard import check


def code_of(
    *hosts: str,
    origins: tuple[str, ...] = (),
    authorization: str | None = None,
    api_key: str | None = None,
    allowed_hosts: tuple[str, ...] = (),
    client_keys: tuple[str, ...] = (),
) -> str | None:
    """Return the code of the refusal, None if there is none."""
    error = check(
        hosts=hosts or ("localhost",),
        origins=origins,
        authorization=authorization,
        api_key=api_key,
        allowed_hosts=allowed_hosts,
        client_keys=client_keys,
    )
    return error.code if error else None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8787",
        "localhost.",
        "localhost.:80",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.255.3.4:65535",
        "[::1]",
        "[::1]:8787",
    ],
)
def test_loopback_names_are_answered_on_every_port(host: str) -> None:
    assert code_of(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8787",
        "127.0.0.1.evil.example",
        "128.0.0.1",
        "0.0.0.0",
        "127.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "2130706433",
        "::1",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::1",
        "localhost:port",
        "localhost:",
        "localhost:8787:8787",
        "user@localhost",
        "localhost/path",
        "localhost#",
        "localhost?x",
        " localhost",
        "localhost\n",
        "localhost..",
        "evil.example, localhost",
        "\u2113ocalhost",
        "127.0.0.\u0661",
    ],
)
def test_every_other_host_is_refused(host: str) -> None:
    assert code_of(host) == "host_not_allowed"


@pytest.mark.parametrize(
    "hosts", [(), ("localhost", "localhost"), ("localhost", "evil.example")], ids=len
)
def test_there_is_exactly_one_host(hosts: tuple[str, ...]) -> None:
    error = check(hosts=hosts, origins=(), authorization=None, allowed_hosts=(), client_keys=())
    assert error is not None
    assert error.code == "host_not_allowed"


@given(host=st.text() | st.from_regex(r"\A[a-z0-9.:\[\]-]{1,40}\Z"))
def test_a_host_that_passes_is_a_loopback_name(host: str) -> None:
    if code_of(host) is not None:
        return
    name = host.lower() if host.startswith("[") else host.lower().partition(":")[0]
    name = name.removesuffix(".")
    assert (
        name == "localhost"
        or name.startswith("[::1]")
        or ipaddress.IPv4Address(name) in ipaddress.IPv4Network("127.0.0.0/8")
    )


@given(address=st.ip_addresses(v=4), port=st.none() | st.integers(1, 65535))
def test_of_all_ipv4_addresses_the_loopback_ones_pass(
    address: ipaddress.IPv4Address, port: int | None
) -> None:
    host = str(address) if port is None else f"{address}:{port}"
    assert (code_of(host) is None) == address.is_loopback


@pytest.mark.parametrize(
    ("host", "allowed", "passes"),
    [
        ("relay.lan", "relay.lan", True),
        ("Relay.LAN:8787", "relay.lan", True),
        ("relay.lan", "RELAY.lan.", True),
        ("relay.lan:8787", "relay.lan:8787", True),
        ("relay.lan:80", "relay.lan:8787", False),
        ("relay.lan", "relay.lan:8787", False),
        ("my.relay.lan", "relay.lan", False),
        ("192.168.1.5:8787", "192.168.1.5", True),
        ("[fe80::1]:8787", "[fe80::1]", True),
        ("evil.example", "*", False),
        ("evil.example", "", False),
    ],
)
def test_a_host_that_the_owner_named_is_answered(host: str, allowed: str, *, passes: bool) -> None:
    assert (code_of(host, allowed_hosts=("other.lan", allowed)) is None) == passes


def test_a_refused_host_is_told_where_to_allow_it() -> None:
    error = check(
        hosts=("relay.lan",), origins=(), authorization=None, allowed_hosts=(), client_keys=()
    )
    assert isinstance(error, RequestError)
    assert error.status == 403
    assert "server.allowed_hosts" in error.message


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        ("http://localhost:8787", "localhost:8787", True),
        ("HTTP://LOCALHOST:8787", "localhost:8787", True),
        ("http://localhost", "localhost", True),
        ("http://localhost", "localhost:80", True),
        ("http://[::1]:8787", "[::1]:8787", True),
        ("https://localhost", "localhost:443", True),
        ("https://localhost", "localhost", True),
        ("http://localhost:3000", "localhost:8787", False),
        ("http://127.0.0.1:8787", "localhost:8787", False),
        ("http://evil.example", "localhost:8787", False),
        ("http://localhost:8787.evil.example", "localhost:8787", False),
        ("http://localhost:8787/", "localhost:8787", False),
        ("http://user@localhost:8787", "localhost:8787", False),
        ("file://localhost", "localhost", False),
        ("vscode-webview://localhost", "localhost", False),
        ("localhost:8787", "localhost:8787", False),
        ("null", "localhost:8787", False),
        ("", "localhost:8787", False),
    ],
)
def test_a_web_page_is_answered_only_if_it_comes_from_here(
    origin: str, host: str, *, passes: bool
) -> None:
    assert code_of(host, origins=(origin,)) == (None if passes else "origin_not_allowed")


@pytest.mark.parametrize(
    ("origins", "passes"),
    [
        ((), True),
        (("http://localhost", "http://localhost"), True),
        (("http://localhost", "http://evil.example"), False),
        (("http://evil.example", "http://localhost"), False),
    ],
    ids=["none", "ours twice", "a foreign one last", "a foreign one first"],
)
def test_of_several_origins_each_must_be_ours(origins: tuple[str, ...], *, passes: bool) -> None:
    assert code_of("localhost", origins=origins) == (None if passes else "origin_not_allowed")


@given(origin=st.text())
def test_no_text_at_all_is_taken_for_an_origin_of_ours(origin: str) -> None:
    assert code_of("localhost:8787", origins=(origin,)) == "origin_not_allowed"


KEYS = ("first-key", "zweiter-schlüssel")


@pytest.mark.parametrize(
    ("authorization", "api_key", "passes"),
    [
        ("Bearer first-key", None, True),
        ("bearer first-key", None, True),
        ("BEARER  first-key ", None, True),
        ("Bearer zweiter-schlüssel", None, True),
        (None, "first-key", True),
        ("Bearer other", "first-key", True),
        ("Bearer first-key", "other", True),
        ("first-key", None, False),
        ("Basic first-key", None, False),
        ("Bearer", None, False),
        ("Bearer first-key2", None, False),
        ("Bearer First-Key", None, False),
        ("Bearer first-key,zweiter-schlüssel", None, False),
        (None, "", False),
        (None, None, False),
    ],
)
def test_with_client_keys_one_of_them_must_be_sent(
    authorization: str | None, api_key: str | None, *, passes: bool
) -> None:
    code = code_of(authorization=authorization, api_key=api_key, client_keys=KEYS)
    assert code == (None if passes else "invalid_api_key")


@given(authorization=st.none() | st.text())
def test_without_client_keys_any_key_will_do(authorization: str | None) -> None:
    assert code_of(authorization=authorization) is None


@given(offered=st.text(min_size=8))
def test_no_message_repeats_the_offered_key(offered: str) -> None:
    for authorization, api_key in ((f"Bearer {offered}", None), (None, offered)):
        error = check(
            hosts=("localhost",),
            origins=(),
            authorization=authorization,
            api_key=api_key,
            allowed_hosts=(),
            client_keys=KEYS,
        )
        if error is not None:
            assert error.status == 401
            assert offered not in error.message or offered in check_message()


def check_message() -> str:
    """The message for a client that offered nothing."""
    error = check(
        hosts=("localhost",), origins=(), authorization=None, allowed_hosts=(), client_keys=KEYS
    )
    assert error is not None
    return error.message


def test_the_host_is_checked_before_the_key_is() -> None:
    assert code_of("evil.example", client_keys=KEYS) == "host_not_allowed"
