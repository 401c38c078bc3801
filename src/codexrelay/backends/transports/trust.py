"""Whose certificates are trusted under TLS."""

from __future__ import annotations

import ssl
from typing import Final

import httpx

#: OpenSSL's codes for a certificate that leads to none that is trusted.
_NOBODY_VOUCHES: Final = frozenset({18, 19, 20, 21})


def problem_with(ca_file: str) -> str | None:
    """Say what is wrong with a file of certificates; None: it can be used. Blocks for a moment."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        return f"{ca_file} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
    except OSError as error:
        return f"{ca_file} cannot be read: {error.strerror}"
    return None


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """Return a context for HTTP/1.1 that trusts the usual certificates and those of `ca_file`.

    The usual ones are those that come with httpx (certifi). The variables `SSL_CERT_FILE` and
    `SSL_CERT_DIR` name others instead of them, as they do for every program that uses OpenSSL;
    `ca_file` adds, whichever they are. Takes tens of milliseconds, for it reads files.

    Raises:
        OSError: what `SSL_CERT_FILE` names cannot be used, or `ca_file` cannot (`problem_with`).
    """
    context = httpx.create_ssl_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
        # From 3.13 on Python asks of certificates what those of companies, which are often made by
        # hand, do not have; other programs on the same machine take them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def way_out(error: BaseException) -> str:
    """Return what to add to the message of a failed handshake: what mends it, or nothing."""
    unknown = isinstance(error, ssl.SSLCertVerificationError) and (
        error.verify_code in _NOBODY_VOUCHES
    )
    return "; the key `ca_file` adds certificates that are trusted" if unknown else ""
