"""The environment may name a proxy."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://chatgpt.com/x", "None"),
        ({"https_proxy": "http://p:1"}, "https://chatgpt.com/x", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "http://chatgpt.com/x", "None"),
        ({"all_proxy": "http://p:2"}, "https://chatgpt.com/x", "http://p:2"),
        (
            {"https_proxy": "http://p:1", "no_proxy": "chatgpt.com"},
            "https://chatgpt.com/x",
            "None",
        ),
        ({"http_proxy": "http://p:1", "no_proxy": "127.0.0.1"}, "http://127.0.0.1:9/x", "None"),
    ],
    ids=["none", "by scheme", "of another scheme", "for all", "excepted", "excepted with a port"],
)
def test_the_proxy_for_a_url(variables: dict[str, str], url: str, proxy: str) -> None:
    code = f"from codexrelay.config.proxies import proxy_for; print(proxy_for({url!r}))"
    path = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=path | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == proxy
