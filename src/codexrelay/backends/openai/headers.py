"""Headers towards a backend of another kind, and those of its answers that clients get.

Nothing of the client's is among them, and nothing of any account: the client's key is for the
relay, and a token of an account is for the backend of its family alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.backends.backend import Head
    from codexrelay.protocol.raw import Headers

USER_AGENT: Final = f"codexrelay/{__version__}"
#: What the connection and the body decide, never the configuration.
OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: Answer headers that mean something to clients, besides all `x-ratelimit-*`. Not `retry-after`:
#: the reply says that itself, in a form that clients obey.
_TO_CLIENT: Final = frozenset({"x-request-id", "openai-processing-ms"})


def request_headers(
    *, key: str | None, further: Mapping[str, str], streams: bool
) -> tuple[tuple[str, str], ...]:
    """Return all headers of a request but those of the connection and the body's length.

    `further` are the configured ones, which may replace any of these but the encoding and the type;
    `streams` tells a turn from a question of the relay's own, which has no body.
    """
    headers = {
        "accept": "text/event-stream" if streams else "application/json",
        "user-agent": USER_AGENT,
    }
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    headers |= {name.lower(): value for name, value in further.items() if name.lower() not in OURS}
    headers["accept-encoding"] = "identity"
    if streams:
        headers["content-type"] = "application/json"
    return tuple(headers.items())


def passed_on(head: Head) -> Headers:
    """Return the answer headers that the client gets: request id, time taken, rate limits."""
    return [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in head.headers.items()
        if name in _TO_CLIENT or name.startswith("x-ratelimit-")
    ]
