"""Settings of the blocks `compaction` and `dynamic_compression`."""

from __future__ import annotations

from string import Formatter
from typing import Final, Literal

import attrs

from codexrelay.setting import setting

#: What a tool does, as far as it matters here.
Category = Literal[
    "file_read",
    "file_write",
    "view_file",
    "command_execution",
    "search",
    "list_directory",
    "test_execution",
    "other",
]
Level = Literal["conservative", "balanced", "aggressive"]

#: How every stub begins, whatever its template says: the mark by which one is known again.
STUB_MARK: Final = "[COMPACTED]"
#: Name, format and conversion of what a template may have in braces.
_FILLED_IN: Final = (("resource", "", None), ("size", "", None), ("size", ",", None))


def _is_template(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    """Raises ValueError: it holds something else in braces than the two names alone.

    A width would make a stub as long as one likes, an attribute tell what concerns nobody.
    """
    try:
        fields = [field for field in Formatter().parse(value) if field[1] is not None]
    except ValueError:  # a brace without its other
        fields = [("", "", "", None)]
    if any((name, *more) not in _FILLED_IN for _, name, *more in fields):
        raise ValueError(
            "must be a text in which {resource}, {size} and {size:,} are all that stands in braces"
        )


@attrs.frozen(kw_only=True)
class CompactionSettings:
    """`compaction`: what becomes of results of tools that a newer one has made stale."""

    enabled: bool = setting(
        False,
        """
        Shorten long histories: an older result of the same tool call becomes a stub. Never for a
        session that has used the Codex backend.
        """,
        variables=("ENABLE_CONTEXT_COMPACTION",),
        flags=("--enable-context-compaction",),
        live=True,
    )
    token_threshold: int = setting(
        100_000,
        "Estimated tokens of a request above which its history is shortened.",
        at_least=0,
        variables=("COMPACTION_MIN_TOKENS",),
        flags=("--compaction-min-tokens",),
        live=True,
    )
    max_tokens: int = setting(
        150_000,
        "Estimated tokens above which a shortened request is warned about, once for each session.",
        at_least=0,
        live=True,
    )
    min_tool_output_tokens: int = setting(
        250, "Estimated tokens below which a result is left alone.", at_least=0, live=True
    )
    allowed_tool_categories: tuple[Category, ...] = setting(
        (), "Only results of such tools are shortened; none: of all of them.", live=True
    )
    denied_tool_categories: tuple[Category, ...] = setting(
        (), "Results of such tools are never shortened, also if they are allowed above.", live=True
    )
    preserve_last_n_results: int = setting(
        1, "How many of the newest results of the same call stay whole.", at_least=1, live=True
    )
    stub_template: str = setting(
        "{resource}: this older result ({size} bytes) was left out; a newer one follows.",
        f"""
        What a stub says, behind its mark {STUB_MARK}; {{resource}} and {{size}} are filled in.
        """,
        check=_is_template,
        live=True,
    )
    redact_resource_identifiers: bool = setting(
        False, "Name no paths, commands and queries in stubs and in the log.", live=True
    )


@attrs.frozen(kw_only=True)
class CompressionSettings:
    """`dynamic_compression`: what becomes of long outputs of tools."""

    enabled: bool = setting(
        False,
        "Shorten what tools have put out: escape codes, repetitions, passed tests and the like.",
        variables=("ENABLE_DYNAMIC_COMPRESSION",),
        flags=("--enable-dynamic-compression",),
        live=True,
    )
    level: Level = setting(
        "conservative",
        "How much may be left out.",
        variables=("DYNAMIC_COMPRESSION_LEVEL",),
        live=True,
    )
    min_bytes: int = setting(
        1024,
        "Size in bytes below which an output is left alone.",
        at_least=0,
        variables=("DYNAMIC_COMPRESSION_MIN_BYTES",),
        live=True,
    )
    time_budget_ms: float = setting(
        100.0,
        "Milliseconds for one output; one that takes longer is left as it is.",
        above=0,
        live=True,
    )
    disable_tools: tuple[str, ...] = setting(
        (),
        "Outputs of tools of these names are left alone.",
        variables=("DYNAMIC_COMPRESSION_DISABLE_TOOLS",),
        live=True,
    )
    disable_categories: tuple[Category, ...] = setting(
        ("file_read", "view_file"),
        "Outputs of such tools are left alone. What reads a file is among them by default.",
        variables=("DYNAMIC_COMPRESSION_DISABLE_CATEGORIES",),
        live=True,
    )
    markers: bool = setting(
        True,
        """
        Say at the head of a shortened output how much shorter it is. What was left out is said
        at its place in any case.
        """,
        live=True,
    )
