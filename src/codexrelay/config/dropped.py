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

_COMPRESSION: Final = "dynamic_compression"
_COMMANDS: Final = (
    "commands are not told apart by how they are written: disable_tools excepts a tool, and "
    "disable_categories what does the same"
)
_IN_LOG: Final = "what was saved is in the log of every turn and in /metrics"
_BY_LEVEL: Final = "dynamic_compression.level says how much is left out; there are no finer figures"
_RULES: Final = "there are no rules of one's own: dynamic_compression.level says what is left out"

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
    f"{_CODEX}.websocket": "write backends.openai_codex.websocket: auto, on or off",
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
        "there is one kind of Codex backend, whatever carries its turns: write openai_codex, or "
        "openai_codex.2 for one with accounts of its own"
    ),
    "backends.<name>.api_key": (
        "no key stands in this file: api_key_env names the variable, or api_key_file the file, "
        "that holds it"
    ),
    "compaction.alerts": (
        "each thing that goes wrong is one line in the log, and /metrics counts the rest"
    ),
    "compaction.max_stubs_per_resource": (
        "every stale result is one stub, which keeps calls and results paired"
    ),
    "compaction.min_tool_output_tokens_to_compact": "write compaction.min_tool_output_tokens",
    f"{_COMPRESSION}.max_level": "the level is the one that is configured: write level",
    f"{_COMPRESSION}.time_budget_ms_per_output": "write dynamic_compression.time_budget_ms",
    f"{_COMPRESSION}.disable_methods": (
        "what a level leaves out is said at its place; level chooses, disable_tools and "
        "disable_categories except whole tools"
    ),
    f"{_COMPRESSION}.disable_tool_name_substrings": (
        "tools are excepted by their whole names (disable_tools) or by what they do "
        "(disable_categories)"
    ),
    f"{_COMPRESSION}.disable_command_prefixes": _COMMANDS,
    f"{_COMPRESSION}.explicit_format_flags": _COMMANDS,
    f"{_COMPRESSION}.per_output_evaluation_log_level": _IN_LOG,
    f"{_COMPRESSION}.alerts": _IN_LOG,
    f"{_COMPRESSION}.marker": "write dynamic_compression.markers: true or false",
    f"{_COMPRESSION}.recovery": (
        "outputs are kept nowhere: what was left out is said at its place, and the client has it"
    ),
    f"{_COMPRESSION}.noise_directories": _BY_LEVEL,
    f"{_COMPRESSION}.search_*": _BY_LEVEL,
    f"{_COMPRESSION}.diff_*": _BY_LEVEL,
    f"{_COMPRESSION}.json_structural_*": _BY_LEVEL,
    f"{_COMPRESSION}.xml_safeguard_*": _BY_LEVEL,
    f"{_COMPRESSION}.log_dedupe_*": _BY_LEVEL,
    f"{_COMPRESSION}.file_detail_*": (
        "what reads a file is left alone as long as disable_categories has file_read and view_file"
    ),
    f"{_COMPRESSION}.rules": _RULES,
    f"{_COMPRESSION}.*_rules": _RULES,
    f"{_COMPRESSION}.declarative_rule_files": _RULES,
    "session": (
        "sessions are known by what clients send, and `sessions` says what is kept of them: "
        "max_sessions, idle_seconds, keep_days and state_path"
    ),
    "responses_api": (
        "clients may speak WebSocket at the paths of /v1/responses, without any setting; "
        "backends.openai_codex.websocket is for the backend's side"
    ),
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
    "DYNAMIC_COMPRESSION_MAX_LEVEL": f"{_COMPRESSION}.max_level",
    "DYNAMIC_COMPRESSION_DISABLE_METHODS": f"{_COMPRESSION}.disable_methods",
    "DYNAMIC_COMPRESSION_DISABLE_TOOL_NAME_SUBSTRINGS": (
        f"{_COMPRESSION}.disable_tool_name_substrings"
    ),
    "DYNAMIC_COMPRESSION_DISABLE_COMMAND_PREFIXES": f"{_COMPRESSION}.disable_command_prefixes",
    "DYNAMIC_COMPRESSION_EXPLICIT_FORMAT_FLAGS": f"{_COMPRESSION}.explicit_format_flags",
    "DYNAMIC_COMPRESSION_PER_OUTPUT_EVALUATION_LOG_LEVEL": (
        f"{_COMPRESSION}.per_output_evaluation_log_level"
    ),
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
    "--dynamic-compression-max-level": f"{_COMPRESSION}.max_level",
    "--dynamic-compression-disable-methods": f"{_COMPRESSION}.disable_methods",
    "--dynamic-compression-disable-tool-name-substrings": (
        f"{_COMPRESSION}.disable_tool_name_substrings"
    ),
    "--dynamic-compression-disable-command-prefixes": f"{_COMPRESSION}.disable_command_prefixes",
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
