"""What stands in `instructions`: the relay's default text, the client's system text, or both.

| mode | `instructions` | the client's system text |
| --- | --- | --- |
| `codex_default` | prepend, default, append | at the head of `input`, a developer message |
| `merge_custom` | prepend, default, client, append | only there |
| `custom_only` | prepend, client, append; the default text if that is nothing | only there |

The client's system text are the system messages at the head of a Chat conversation, `instructions`
and `codex_system_prompt`. Today's backend takes any text, and Codex CLI sends none: the modes
decide which of the texts has the greater weight with the model, and that somebody's does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import Json, JsonObject, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from codexrelay.protocol.capabilities import PromptMode

#: Names no tool and no program, so that it is true of all clients; changes with no model, so that
#: the prompt cache keeps what stands behind it.
DEFAULT_TEXT: Final = (
    "You are a coding agent. A program runs you on behalf of its user: it gives you your tools, "
    "carries out your tool calls and shows your answers. Use only the tools that you are offered, "
    "and keep to what the program and its user ask of you. Work on until the task is done, check "
    "what you have changed, and say briefly and truthfully what you did and what is left to do."
)


@attrs.frozen(kw_only=True)
class Prompt:
    """The texts around the client's own (`extra.codex.prompt`)."""

    default: str = DEFAULT_TEXT
    #: Sections before and behind it.
    prepend: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    #: Leave out a section that stands there already.
    deduplicate: bool = True
    #: `custom_only` with nothing to say: the default text, rather than none.
    fallback_to_default: bool = True


@attrs.frozen
class Placed:
    """Where the texts go."""

    instructions: str
    #: Sections of the client's that go to the head of `input`.
    at_head: tuple[str, ...] = ()


def place(mode: PromptMode, prompt: Prompt, client: Sequence[str]) -> Placed:
    """Return what becomes of the client's system text, given section by section.

    Nothing is taken from any section. One that is left out as a duplicate stands there already.
    """
    match mode:
        case "codex_default":
            return Placed(_joined(prompt, (prompt.default,)), tuple(filter(None, client)))
        case "merge_custom":
            return Placed(_joined(prompt, (prompt.default, *client)))
        case "custom_only":
            text = _joined(prompt, client)
            if not text and prompt.fallback_to_default:
                text = prompt.default
            return Placed(text)


def led_by(sections: Sequence[str], items: Sequence[Json], *, behind: int = 0) -> list[Json]:
    """Return input items with a developer message of these sections behind the first `behind`.

    It also stands behind tools that ride in the first item: they must be the first.
    """
    content: list[Json] = [{"type": "input_text", "text": section} for section in sections]
    message: JsonObject = {"type": "message", "role": "developer", "content": content}
    first = items[0] if items else None
    if behind == 0 and is_object(first) and first.get("type") == "additional_tools":
        behind = 1
    return [*items[:behind], message, *items[behind:]]


def _joined(prompt: Prompt, middle: Iterable[str]) -> str:
    sections = [*prompt.prepend, *middle, *prompt.append]
    if len(sections) == 1:
        return sections[0]
    if prompt.deduplicate:
        sections = list(dict.fromkeys(sections))
    return "\n\n".join(filter(None, sections))
