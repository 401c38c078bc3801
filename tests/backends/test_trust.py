"""Whose certificates are trusted."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.backends.transports.trust import problem_with, trusting
from codexrelay.cli.process import transport_of
from codexrelay.errors import ConfigError
from tests.fakes.scripted_server import always_answering, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.certificates import Certificate

HELLO: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
TRANSPORTS: Final = ("direct", "httpx")


async def hello_from(url: str, settings: CodexBackendSettings) -> bytes:
    settings = attrs.evolve(settings, api_base_url=url)
    with trio.fail_after(20):
        async with transport_of(
            settings, instance="openai-codex.2", proxy_for=lambda _: None
        ) as transport:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            return await response.aread()


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_certificates_of_the_file_are_trusted_besides_the_usual_ones(
    certificate: Certificate, kind: str
) -> None:
    settings = CodexBackendSettings(transport=kind, ca_file=str(certificate.file))  # type: ignore[arg-type]
    async with serving(always_answering(HELLO), tls=certificate.server) as server:
        assert await hello_from(server.url, settings) == b"hello"
        without = attrs.evolve(settings, ca_file=None)
        with pytest.raises(httpx.ConnectError, match="key `ca_file` adds certificates"):
            await hello_from(server.url, without)


def make_useless(folder: Path, what: str) -> str:
    path = folder / "ca.pem"
    match what:
        case "no PEM":
            path.write_bytes(b"\x30\x82\x01\x0a\x02")
        case "empty":
            path.touch()
        case "a key":
            path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        case "damaged":
            path.write_text("-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n")
        case "a folder":
            path.mkdir()
    return str(path)


@pytest.mark.parametrize("kind", TRANSPORTS)
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "cannot be read: No such file or directory"),
        ("a folder", "cannot be read: Is a directory"),
        ("no PEM", "holds no certificate in PEM form"),
        ("empty", "holds no certificate in PEM form"),
        ("a key", "holds no certificate in PEM form"),
        ("damaged", "holds no certificate in PEM form"),
    ],
)
async def test_a_file_that_cannot_be_used_stops_the_start(
    tmp_path: Path, kind: str, what: str, words: str
) -> None:
    path = make_useless(tmp_path, what)
    settings = CodexBackendSettings(transport=kind, ca_file=path)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        await hello_from("http://127.0.0.1:9", settings)
    [problem] = caught.value.problems
    assert problem.where == "backends.openai_codex.2.ca_file"
    assert problem.what.startswith(f"{path} {words}")


def test_nothing_is_wrong_with_a_file_of_certificates(certificate: Certificate) -> None:
    assert problem_with(str(certificate.file)) is None


def test_what_private_authorities_make_by_hand_is_not_held_to_the_strict_rules(
    certificate: Certificate,
) -> None:
    strict = ssl.VERIFY_X509_STRICT
    assert not trusting(str(certificate.file)).verify_flags & strict
    assert (
        trusting(None).verify_flags & strict == ssl.create_default_context().verify_flags & strict
    )


_COUNTING: Final = """
import sys
from codexrelay.backends.transports.trust import trusting
print(len(trusting(None).get_ca_certs()), len(trusting(sys.argv[1]).get_ca_certs()))
"""


@pytest.mark.parametrize("named", [False, True], ids=["unset", "set"])
def test_ssl_cert_file_replaces_the_usual_ones_and_the_key_adds_to_either(
    certificate: Certificate, tmp_path: Path, named: bool
) -> None:
    other = tmp_path / "other.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=other", "-keyout", os.devnull]
    subprocess.run([*command, "-out", str(other)], check=True, capture_output=True)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(filter(None, sys.path))}
    if named:
        environ["SSL_CERT_FILE"] = str(certificate.file)
    result = subprocess.run(
        [sys.executable, "-c", _COUNTING, str(other)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    usual, with_file = map(int, result.stdout.split())
    assert with_file == usual + 1
    assert (usual == 1) is named
