"""Which proxy is on the way: the block's own word, else the environment's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.config.proxies import Named, proxy_for, ways
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY: Final = "backends.openai_codex.proxy"
BACKEND: Final = "https://chatgpt.com/backend-api/codex"
ISSUER: Final = "https://auth.openai.com"
LOCAL: Final = "http://127.0.0.1:9/x"


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, BACKEND, None),
        ({"https_proxy": "http://p:1"}, BACKEND, ("http://p:1", "https_proxy")),
        ({"HTTPS_PROXY": "http://p:1"}, BACKEND, ("http://p:1", "HTTPS_PROXY")),
        ({"https_proxy": "http://p:1"}, "http://chatgpt.com/x", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://chatgpt.com/x", ("http://p:1", "HTTP_PROXY")),
        ({"all_proxy": "http://p:2"}, BACKEND, ("http://p:2", "all_proxy")),
        ({"ALL_PROXY": "http://p:2"}, BACKEND, ("http://p:2", "ALL_PROXY")),
        (
            {"ALL_PROXY": "http://p:2", "HTTPS_PROXY": "http://p:1"},
            BACKEND,
            ("http://p:1", "HTTPS_PROXY"),
        ),
        ({"HTTPS_PROXY": "p:1"}, BACKEND, ("http://p:1", "HTTPS_PROXY")),
        ({"HTTPS_PROXY": ""}, BACKEND, None),
        ({"https_proxy": "http://p:1", "no_proxy": "chatgpt.com"}, BACKEND, None),
        ({"https_proxy": "http://p:1", "NO_PROXY": "*"}, BACKEND, None),
        ({"https_proxy": "http://p:1", "NO_PROXY": "openai.com"}, ISSUER, None),
        (
            {"https_proxy": "http://p:1", "NO_PROXY": "openai.com"},
            BACKEND,
            ("http://p:1", "https_proxy"),
        ),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.1"}, "http://10.0.0.1:9/x", None),
        ({"https_proxy": "http://p:1", "no_proxy": "chatgpt.com:443"}, BACKEND, None),
        ({"https_proxy": "http://p:1", "no_proxy": "a.b, .chatgpt.com"}, BACKEND, None),
        ({"https_proxy": "http://p:1", "no_proxy": "*.openai.com"}, ISSUER, None),
        ({"https_proxy": "http://p:1", "no_proxy": "*.OpenAI.com:443"}, ISSUER, None),
        ({"https_proxy": "http://p:1", "no_proxy": "openai.com."}, ISSUER, None),
        (
            {"https_proxy": "http://p:1", "no_proxy": "chatgpt.com:8443,xchatgpt.com,gpt.com"},
            BACKEND,
            ("http://p:1", "https_proxy"),
        ),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://10.0.0.1:9/x", None),
        (
            {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8,x/y"},
            "http://11.0.0.1:9/x",
            ("http://p:1", "http_proxy"),
        ),
        (
            {"http_proxy": "http://p:1", "no_proxy": "0.0.0.0/0"},
            "http://chatgpt.com/x",
            ("http://p:1", "http_proxy"),
        ),
        ({"http_proxy": "http://p:1", "no_proxy": "[fd00::1]:9"}, "http://[fd00:0::1]:9/x", None),
        ({"http_proxy": "http://p:1", "no_proxy": "fd00::/8"}, "http://[fd00::1]:9/x", None),
        ({"all_proxy": "http://p:1"}, LOCAL, None),
        ({"all_proxy": "http://p:1"}, "http://localhost.:9/x", None),
        ({"all_proxy": "http://p:1"}, "http://127.1:9/x", None),
        ({"all_proxy": "http://p:1"}, "http://[::ffff:127.0.0.1]:9/x", None),
        ({"all_proxy": "http://p:1"}, "http://0.0.0.0:9/x", None),
        ({"all_proxy": "http://p:1"}, "http://localhost:9/x", None),
        ({"all_proxy": "http://p:1"}, "https://[::1]:9/x", None),
        ({"all_proxy": "http://p:1"}, "https://relay.localhost/x", None),
    ],
    ids=[
        "none",
        "by scheme",
        "in capitals",
        "of another scheme",
        "for http",
        "for all",
        "for all in capitals",
        "by scheme before for all",
        "without a scheme",
        "empty",
        "excepted",
        "all excepted",
        "a domain excepted",
        "another domain excepted",
        "an address excepted",
        "excepted with a port",
        "excepted with a dot",
        "excepted with a star",
        "excepted with a star and a port",
        "excepted with a last dot",
        "excepted with another port or a part of the name",
        "a network excepted",
        "another network excepted",
        "a network holds no name",
        "excepted with IPv6 and a port",
        "an IPv6 network excepted",
        "127.0.0.1",
        "localhost with a last dot",
        "127.1",
        "an IPv4 loopback as IPv6",
        "0.0.0.0",
        "localhost",
        "::1",
        "a name below localhost",
    ],
)
def test_the_environment_names_a_proxy_and_where_it_stands(
    variables: dict[str, str],
    url: str,
    proxy: tuple[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (found and (found.url, found.source)) == proxy


def says(proxy: str, *urls: str) -> Callable[[str], Named | None]:
    """Return an environment that names a proxy for some URLs."""
    return lambda url: Named(proxy, "HTTPS_PROXY") if url in urls else None


def of(configured: str | None, environment: Callable[[str], Named | None]) -> dict[Origin, Proxy]:
    return ways((BACKEND, ISSUER, LOCAL), configured, key=KEY, proxy_for=environment)


def hosts(found: dict[Origin, Proxy]) -> dict[str, str]:
    return {origin.host: f"{proxy.origin} {proxy.source}" for origin, proxy in found.items()}


def test_without_a_word_of_the_block_each_target_goes_as_the_environment_says() -> None:
    found = of(None, says("http://p:1", BACKEND))
    assert hosts(found) == {"chatgpt.com": "p:1 HTTPS_PROXY"}
    assert of(None, lambda _: None) == {}


def test_a_proxy_of_the_block_counts_for_all_its_targets_whatever_the_environment_says() -> None:
    found = of("http://q:2", says("http://p:1", BACKEND))
    told = f"q:2 {KEY}"
    assert hosts(found) == {"chatgpt.com": told, "auth.openai.com": told, "127.0.0.1": told}


@pytest.mark.parametrize("word", ["none", "None", " NONE "])
def test_none_means_no_proxy_whatever_the_environment_says(word: str) -> None:
    assert of(word, says("socks5://p:1", BACKEND, ISSUER)) == {}


@pytest.mark.parametrize(
    ("url", "origin", "authorization"),
    [
        ("http://p", Origin("http", "p", 80), None),
        ("https://p", Origin("https", "p", 443), None),
        ("http://p:3128/", Origin("http", "p", 3128), None),
        ("HTTP://P:3128", Origin("http", "p", 3128), None),
        ("http://[::1]:3128", Origin("http", "::1", 3128), None),
        ("http://bücher.example:1", Origin("http", "xn--bcher-kva.example", 1), None),
        ("http://Aladdin:open%20sesame@p", Origin("http", "p", 80), "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("http://me:p%40ss%3A@p", Origin("http", "p", 80), "bWU6cEBzczo="),
        ("http://me@p", Origin("http", "p", 80), "bWU6"),
    ],
)
def test_a_proxy_is_a_url_with_a_host_and_perhaps_a_password(
    url: str, origin: Origin, authorization: str | None
) -> None:
    proxy = Proxy.named(url, source=KEY)
    assert proxy.origin == origin
    assert proxy.authorization == (authorization and f"Basic {authorization}")
    assert str(proxy) == f"the proxy {origin} ({KEY})"
    assert authorization is None or authorization not in repr(proxy)


UNUSABLE: Final = {
    "socks5://me:s3cret@p:1": "SOCKS proxies do not work here",
    "socks5h://p:1": "SOCKS proxies do not work here",
    "ftp://p:1": "is no http or https URL",
    "p:3128": "is no http or https URL",
    "on": "is no http or https URL",
    "http://": "must name a host",
    "http://me:s3cret@p:1/path": "must name a host and nothing behind its port",
    "http://p:0": "must name a host",
    "http://me:s3cret@p:99999": "is no URL of a proxy",
    "http://me:s3cret@[::1": "is no URL of a proxy",
    "http://me:s3cret@p p": "its host can be none",
}


@pytest.mark.parametrize(("url", "words"), UNUSABLE.items(), ids=UNUSABLE)
def test_a_proxy_that_cannot_work_is_refused_with_what_works(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(url, lambda _: None)
    [problem] = caught.value.problems
    assert problem.where == KEY
    assert problem.what.startswith(words)
    assert "http://host:port and https://host:port work" in problem.what
    assert problem.what.endswith("; none means no proxy")
    assert "s3cret" not in problem.what


def test_a_variable_that_names_what_cannot_work_is_named_once_with_both_ways_out() -> None:
    with pytest.raises(ConfigError) as caught:
        of(None, says("socks5://me:s3cret@p:1", BACKEND, ISSUER))
    [problem] = caught.value.problems
    assert problem.where == "HTTPS_PROXY"
    assert problem.what.startswith("SOCKS proxies do not work here: http://host:port and ")
    assert problem.what.endswith(f"; {KEY} may name one, or none")
    assert "s3cret" not in str(problem)
