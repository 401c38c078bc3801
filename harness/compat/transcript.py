"""What one run was, for people to read: who was asked what, and what came of it.

Bounded in size, and without secrets: no header is in it, nor what the issuer of tokens was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import dump, get_list, get_text, is_object
from harness.compat.conversation import is_refresh, is_turn
from harness.openai_api.as_input import as_input
from harness.simulator.script import Message, Reasoning, script_for
from harness.simulator.tools import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator import Seen

#: Of each request, from its end.
_ITEMS: Final = 8
#: From the beginning.
_EXCHANGES: Final = 40
#: Of the relay's log, from its end.
_LINES: Final = 40
#: Of one item.
_CHARACTERS: Final = 240
#: Of what a program prints, from the end.
_PRINTED_CHARACTERS: Final = 3_000


@attrs.frozen(kw_only=True)
class Exchange:
    """One request at a backend, and its answer."""

    #: Seconds since the first request.
    at_s: float
    heading: str
    #: What it said, item by item.
    asked: tuple[str, ...]
    #: What the backend answered, item by item.
    answered: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Transcript:
    """One run of a program, or of all its runs in one conversation."""

    prompt: str
    #: What the program was started with, without the program itself.
    arguments: str
    exchanges: tuple[Exchange, ...]
    stdout: str
    stderr: str
    relay_log: tuple[str, ...]


def transcript_of(
    *,
    prompt: str,
    arguments: Sequence[str],
    seen: Iterable[Seen],
    printed: tuple[str, str],
    relay_log: Sequence[str],
    folder: str,
    secrets: Iterable[str],
) -> Transcript:
    """Return the transcript of a run.

    `printed` is what went to stdout and stderr. `folder` is the run's own folder, which is shown as
    `~`; `secrets` are not shown.
    """

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "(not shown)")
        return text.replace(folder, "~")

    requests = list(seen)
    began_at_s = requests[0].arrived_at_s if requests else 0.0
    stdout, stderr = (_end_of(clean(text)) for text in printed)
    return Transcript(
        prompt=clean(_short(prompt)),
        arguments=clean(" ".join(map(_short, arguments))),
        exchanges=tuple(
            Exchange(
                at_s=one.arrived_at_s - began_at_s,
                heading=_heading(one),
                asked=tuple(map(clean, _asked(one))),
                answered=tuple(map(clean, _answered(one))),
            )
            for one in requests[:_EXCHANGES]
        ),
        stdout=stdout,
        stderr=stderr,
        relay_log=tuple(clean(line[:_CHARACTERS]) for line in relay_log[-_LINES:]),
    )


def _heading(seen: Seen) -> str:
    path = seen.path.partition("?")[0]
    parts = [f"{seen.method} {path} {'no status' if seen.status is None else seen.status}"]
    parts += [f"account {seen.account}"] if seen.account else []
    parts += [f"fault {seen.fault}"] if seen.fault else []
    parts += ["the client left"] if seen.left_at_s is not None else []
    return ", ".join(parts)


def _asked(seen: Seen) -> Iterator[str]:
    body = _as_responses(seen)
    if body is None:
        return
    items = get_list(body, "input")
    yield f"model {get_text(body, 'model')}, {len(items)} items, {len(dump(seen.body)):,} bytes"
    if len(items) > _ITEMS:
        yield f"({len(items) - _ITEMS} earlier items)"
    for item in items[-_ITEMS:]:
        yield _short(_item(item))


def _answered(seen: Seen) -> Iterator[str]:
    """What the simulated model says to a request is known from the request (see `script_for`)."""
    body = _as_responses(seen)
    if body is None or seen.status != 200:
        return
    try:
        items = script_for(body).items
    except ValueError:
        return
    for item in items:
        match item:
            case Message():
                yield _short(f"message: {''.join(item.pieces)}")
            case Reasoning():
                yield _short(f"reasoning: {' '.join(map(''.join, item.parts))}")
            case ToolCall():
                yield _short(f"call {item.tool.name}: {item.payload}")
            case _:
                yield "the history, folded into one opaque item"


def _as_responses(seen: Seen) -> JsonObject | None:
    """Return a model request's body as of the Responses API; None if it is none."""
    if is_refresh(seen) or not is_turn(seen) or not is_object(seen.request):
        return None
    if "messages" in seen.request:
        return {"model": seen.request.get("model"), **as_input(seen.request)}
    return seen.request


def _item(item: Json) -> str:
    if not is_object(item):
        return "?"
    kind = get_text(item, "type") or "message"
    match kind:
        case "message":
            return f"{item.get('role')}: {_words(item.get('content'))}"
        case "function_call" | "custom_tool_call":
            payload = get_text(item, "arguments") or get_text(item, "input") or ""
            return f"call {item.get('name')}: {payload}"
        case "function_call_output" | "custom_tool_call_output":
            return f"output: {_words(item.get('output'))}"
        case "reasoning":
            told = "encrypted" if item.get("encrypted_content") else "not encrypted"
            return f"reasoning ({told}): {_words(item.get('summary'))}"
        case _:
            return kind


def _words(content: Json) -> str:
    """Return a content's text; a picture or a file is only named."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(
        get_text(part, "text") or f"[{part.get('type')}]" for part in parts if is_object(part)
    )


def _short(text: str) -> str:
    """Return a text cut to a bearable length in its middle."""
    if len(text) <= _CHARACTERS:
        return text
    half = _CHARACTERS // 2
    return f"{text[:half]} … ({len(text):,} characters) … {text[-half:]}"


def _end_of(text: str) -> str:
    if len(text) <= _PRINTED_CHARACTERS:
        return text
    return f"… ({len(text):,} characters)\n{text[-_PRINTED_CHARACTERS:]}"
