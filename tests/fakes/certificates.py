"""A certificate for loopback, made anew for a run of the tests."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import attrs

_EXTENSION = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@attrs.frozen
class Certificate:
    """Both ends' contexts for one self-signed certificate."""

    #: For the server: presents the certificate.
    server: ssl.SSLContext
    #: For a client: trusts this certificate alone.
    client: ssl.SSLContext
    #: The certificate itself (PEM), which is its own authority.
    file: Path


def make_certificate(folder: Path) -> Certificate | None:
    """Return a new certificate for localhost and 127.0.0.1, None without an `openssl` program."""
    program = shutil.which("openssl")
    if program is None:
        return None
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", _EXTENSION]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    return Certificate(server, client, certificate)
