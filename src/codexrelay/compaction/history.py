"""History compaction: results of tools that a later one has made stale become stubs.

A stub is made of the result that it replaces and of nothing else, and a result that is stale stays
so: what is appended to a history changes no stub in it, and upstream's prompt cache keeps hitting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.compaction.estimate import CHARACTERS_PER_TOKEN, characters_of, tokens_of
from codexrelay.compaction.results import results_of, with_texts
from codexrelay.compaction.settings import STUB_MARK
from codexrelay.compaction.stale import stale_results
from codexrelay.protocol.raw import JsonObject, dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codexrelay.compaction.calls import Resource
    from codexrelay.compaction.results import Result
    from codexrelay.compaction.settings import Category, CompactionSettings

#: What a stub says instead of the resource where it may name nothing.
_KINDS: Final[Mapping[Category, str]] = {
    "file_read": "a file",
    "file_write": "an edit",
    "view_file": "a file",
    "command_execution": "a command",
    "search": "a search",
    "list_directory": "a directory",
    "test_execution": "a test run",
    "other": "a tool",
}


@attrs.frozen(kw_only=True)
class Compacted:
    """A request with a shorter history, and by how much."""

    #: The very body that was given if nothing became a stub.
    body: JsonObject
    #: How many results became stubs; those that came as stubs do not count.
    stubs: int
    #: Bytes by which the request is shorter on the wire.
    saved_bytes: int
    #: Estimates, before and after.
    tokens_before: int
    tokens_after: int
    #: It is still above `max_tokens`.
    over_max: bool


def compact(
    body: JsonObject,
    settings: CompactionSettings,
    *,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
    always: bool = False,
) -> Compacted:
    """Make stubs of the stale results in a Chat or Responses request that is above the threshold.

    `always` is for a session that has been above it: a better estimate must not bring back what is
    a stub already. Whether the session may be compacted at all (`enabled`) is the caller's matter.
    `body` is not changed, and the new one shares what it did not change. Compacting the result once
    more changes nothing.

    Any exception is a bug to report; the caller sends the request as it is then.
    """
    characters = characters_of(body)
    tokens = tokens_of(characters, characters_per_token)
    texts: dict[int, tuple[str, ...]] = {}
    saved_characters = saved_bytes = 0
    if always or tokens > settings.token_threshold:
        newest = settings.preserve_last_n_results
        for result, resource in stale_results(results_of(body), newest=newest):
            if not _may_go(result, resource, settings):
                continue
            stub = _stub(result, resource, settings)
            saved = _written_bytes(result.texts) - _written_bytes([stub])
            if saved > 0:
                texts[result.place] = (stub,)
                saved_bytes += saved
                saved_characters += _characters(result) - len(stub)
    after = tokens_of(characters - saved_characters, characters_per_token)
    return Compacted(
        body=with_texts(body, texts),
        stubs=len(texts),
        saved_bytes=saved_bytes,
        tokens_before=tokens,
        tokens_after=after,
        over_max=after > settings.max_tokens,
    )


def _may_go(result: Result, resource: Resource, settings: CompactionSettings) -> bool:
    """Tell whether this result, being stale, may become a stub.

    One with an image stays: the image would stay anyhow, and the stub would deny it. The least size
    is reckoned without what the session has learnt of tokens, or else a stub would come and go.
    """
    allowed = settings.allowed_tool_categories
    return (
        not result.mixed
        and resource.category not in settings.denied_tool_categories
        and (not allowed or resource.category in allowed)
        and _characters(result) >= settings.min_tool_output_tokens * CHARACTERS_PER_TOKEN
    )


def _stub(result: Result, resource: Resource, settings: CompactionSettings) -> str:
    size = sum(len(text.encode(errors="surrogatepass")) for text in result.texts)
    redact = settings.redact_resource_identifiers
    told = settings.stub_template.format(
        resource=_KINDS[resource.category] if redact else resource.label, size=size
    )
    return f"{STUB_MARK} {told}"


def _characters(result: Result) -> int:
    return sum(map(len, result.texts))


def _written_bytes(texts: Sequence[str]) -> int:
    """Return the size of the texts on the wire, where quotes and line breaks take two bytes."""
    return sum(len(dump(text)) for text in texts)
