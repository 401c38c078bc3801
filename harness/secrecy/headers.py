"""Which headers may keep their values in a recording; all others keep their name and length.

Sources: what the five clients send (client notes 3 to 5), what the backend answers (recording
notes, "Headers of a 200 stream"), and what the relay itself says (`codexrelay.backends.codex`).
"""

from __future__ import annotations

import re
from typing import Final

#: They hold secrets and nothing else, but for the word in front of the token.
SECRET: Final = {
    "authorization": "token",
    "proxy-authorization": "token",
    "cookie": "cookie",
    "set-cookie": "cookie",
    "x-api-key": "key",
    "api-key": "key",
}
#: Who somebody is.
IDENTITY: Final = {
    "chatgpt-account-id": "account-id",
    "openai-organization": "account-id",
    "openai-project": "account-id",
    "openai-platform": "account-id",
}
_KEPT: Final = frozenset(
    {
        # HTTP's own
        "accept",
        "accept-encoding",
        "accept-language",
        "age",
        "allow",
        "alt-svc",
        "cache-control",
        "cf-cache-status",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cross-origin-opener-policy",
        "date",
        "etag",
        "expires",
        "keep-alive",
        "last-modified",
        "nel",
        "pragma",
        "referrer-policy",
        "report-to",
        "retry-after",
        "retry-after-ms",
        "sec-fetch-mode",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "server",
        "strict-transport-security",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "vary",
        "x-accel-buffering",
        "x-content-type-options",
        "x-should-retry",
        # what clients, relay and backend say to each other
        "openai-beta",
        "openai-model",
        "openai-processing-ms",
        "openai-version",
        "originator",
        "session-id",
        "session_id",
        "thread-id",
        "conversation_id",
        "version",
        "x-client-request-id",
        "x-models-etag",
        "x-oai-request-id",
        "x-openai-fedramp",
        "x-openai-internal-codex-responses-lite",
        "x-openai-memgen-request",
        "x-openai-proxy-wasm",
        "x-openai-subagent",
        "x-parent-session-id",
        "x-reasoning-included",
        "x-request-id",
        "x-responsesapi-include-timing-metrics",
        "x-session-affinity",
        "x-session-id",
        "x-title",
    }
)
_KEPT_FAMILIES: Final = (
    "x-codex-",
    "x-codexrelay-",
    "x-ratelimit-",
    "x-stainless-",
    "access-control-",
)
#: Hosts that say nothing of where somebody is.
_EVERYBODYS: Final = re.compile(
    r"(?:relay|localhost|127\.0\.0\.1|\[::1\]|(?:[\w-]+\.)*(?:chatgpt\.com|openai\.com|example\.\w+"
    r"|[\w-]+\.(?:test|invalid)))(?::\d+)?"
)


def is_kept(name: str, value: str) -> bool:
    """Tell whether the header may say what it said, but for the secrets found in it."""
    if name in ("host", "origin", "referer"):
        host = value.partition("://")[2].partition("/")[0] if "://" in value else value
        return _EVERYBODYS.fullmatch(host) is not None
    return name in _KEPT or name.startswith(_KEPT_FAMILIES)
