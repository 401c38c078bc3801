"""Keys that relays of this kind have elsewhere and this one refuses, each with the reason.

They are mistakes as unknown keys are, but whoever brings them along is told what became of them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXTRA: Final = "backends.openai_codex.extra"
_CODEX: Final = f"{_EXTRA}.codex"

_SAMPLING: Final = (
    "the Codex backend refuses it: leave it out; extra.reasoning_effort and extra.verbosity are "
    "what it takes"
)
_FORCED: Final = (
    "nothing is forced on all requests: use models.aliases, whose parameters beat what a client "
    'sends (fast: "gpt-5.5?reasoning_effort=low")'
)
_FALLBACK: Final = "rendering cannot fail, so nothing stands in for it: renderer.default is used"

#: Key as in the first block -> why it is refused, and what to use instead. What is a section
#: elsewhere stands here for all keys in it; `*` is any name.
DROPPED: Final[Mapping[str, str]] = {
    f"{_EXTRA}.temperature": _SAMPLING,
    f"{_EXTRA}.top_p": _SAMPLING,
    f"{_EXTRA}.top_k": _SAMPLING,
    f"{_EXTRA}.forced_*": _FORCED,
    f"{_EXTRA}.connector_forced_params": _FORCED,
    f"{_CODEX}.managed_oauth.max_rate_limit_idle_polls": (
        "a turn waits once, without polling: managed_oauth.max_rate_limit_wait_seconds says for "
        "how long"
    ),
    f"{_CODEX}.default_capabilities.fallback_tool_text_format": _FALLBACK,
    f"{_CODEX}.agent_capabilities.*.fallback_tool_text_format": _FALLBACK,
    f"{_CODEX}.renderer.fallback": _FALLBACK,
    f"{_CODEX}.renderer.aliases": "formats have one name each: none, xml, markdown, summary",
    f"{_CODEX}.renderer.modules": (
        "no code is loaded because a configuration names it; the formats are none, xml, markdown "
        "and summary"
    ),
    f"{_CODEX}.streaming": (
        "what went wrong decides whether a turn is tried again, not a number; budgets.turn_s "
        "bounds all its attempts"
    ),
    f"{_CODEX}.websocket": "the backend is spoken to over HTTP: leave it out",
    f"{_CODEX}.model_catalog.codex_binary_path": (
        "the relay starts no other program; it asks the backend for its models, and "
        "model_catalog.fallback_path names a list of your own"
    ),
    f"{_CODEX}.gpt55_unsupported_free_plan_downgrade": (
        "a model goes to the accounts whose plan has it and is never replaced by another one "
        "unasked; models.aliases can do so (gpt-5.5: gpt-5.4)"
    ),
    f"{_CODEX}.early_session_verbosity_bump": (
        "the verbosity that a client asks for is left alone; extra.verbosity is for requests that "
        "ask for none"
    ),
    f"{_CODEX}.compatibility_layer": (
        "nothing is translated unasked; profiles.adaptations switches on what a client needs"
    ),
    "backends.openai_codex_v2": (
        "there is one kind of backend, spoken to over HTTP: write openai_codex, or openai_codex.2 "
        "for one with accounts of its own"
    ),
    "compaction": (
        "histories are not compacted in this version: they reach the backend as clients send them"
    ),
    "dynamic_compression": (
        "outputs of tools are not compressed in this version: they reach the backend as clients "
        "send them"
    ),
    "session": (
        "sessions are not configured in this version: they are known by what clients send; "
        "managed_oauth.session_affinity_ttl_seconds says how long one keeps its account"
    ),
    "responses_api": "clients are served over HTTP alone in this version: leave it out",
    "model_defaults": (
        "limits of models are not configured in this version: they are the catalogue's, which "
        "`codexrelay models` shows"
    ),
    "usage_window_warmup": "no turn is sent to the backend that no client has asked for",
    "logging": (
        "traffic is not captured in this version; the log has server.log_level, and `codexrelay "
        "explain` tells how a turn went"
    ),
}

#: Variable -> the key above that it stands for elsewhere; `*` is any ending.
VARIABLES: Final[Mapping[str, str]] = {
    "OPENAI_CODEX_RENDERER_FALLBACK": f"{_CODEX}.renderer.fallback",
    "OPENAI_CODEX_RENDERER_ALIASES": f"{_CODEX}.renderer.aliases",
    "OPENAI_CODEX_RENDERER_MODULES": f"{_CODEX}.renderer.modules",
    "OPENAI_CODEX_STREAMING_MAX_RETRIES": f"{_CODEX}.streaming",
    "OPENAI_CODEX_STREAMING_RETRY_BACKOFF": f"{_CODEX}.streaming",
    "OPENAI_CODEX_WEBSOCKET_ENABLED": f"{_CODEX}.websocket",
    "OPENAI_CODEX_MODEL_CATALOG_BINARY_PATH": f"{_CODEX}.model_catalog.codex_binary_path",
    "OPENAI_CODEX_COMPATIBILITY_LAYER_ENABLED": f"{_CODEX}.compatibility_layer",
    "ENABLE_CONTEXT_COMPACTION": "compaction",
    "COMPACTION_MIN_TOKENS": "compaction",
    "SESSION_B2BUA_*": "session",
    "CAPTURE_FILE": "logging",
    "CAPTURE_MAX_BYTES": "logging",
    "CAPTURE_TRUNCATE_BYTES": "logging",
    "CAPTURE_MAX_FILES": "logging",
    "CAPTURE_ROTATE_INTERVAL_SECONDS": "logging",
    "CAPTURE_TOTAL_MAX_BYTES": "logging",
}

#: Flag -> the key above that it stands for elsewhere, or the reason itself; `*` is anything.
FLAGS: Final[Mapping[str, str]] = {
    "--enable-context-compaction": "compaction",
    "--compaction-min-tokens": "compaction",
    "--*b2bua*": "session",
    "--capture-*": "logging",
    "--cbor-capture-*": "logging",
    "--enable-droid-path-fix": f"{_CODEX}.compatibility_layer",
    "--enable-openai-codex-backend-debugging-override": (
        "the backend needs no switch: accounts that are signed in are used"
    ),
}


def why_dropped(name: str) -> str | None:
    """Return why a key, named as in the first block, is refused; None when it is not known here.

    A key inside a section that is refused is refused for the same reason.
    """
    plain = name.lower().replace("-", "_")
    for pattern, reason in DROPPED.items():
        if fnmatchcase(plain, pattern) or fnmatchcase(plain, f"{pattern}.*"):
            return reason
    return None


def why_flag_dropped(flag: str) -> str | None:
    """Return why a flag is refused; None when it is not known here."""
    for pattern, name in FLAGS.items():
        if fnmatchcase(flag, pattern):
            return DROPPED.get(name, name)
    return None


def why_variable_dropped(variable: str) -> str | None:
    """Return why a variable is not read; None when it is not known here."""
    for pattern, name in VARIABLES.items():
        if fnmatchcase(variable, pattern):
            return DROPPED[name]
    return None
