"""How many tokens a request is, roughly: its characters by a ratio that earlier turns correct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from codexrelay.protocol.raw import Json, JsonObject, dump

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of English text and code, before a session knows better from the usage of its earlier turns.
CHARACTERS_PER_TOKEN: Final = 4.0
#: What a picture, a recording or a file counts as, however many bytes it has: about a thousand
#: tokens.
ATTACHMENT_CHARACTERS: Final = 4000

#: What of a request a model reads.
_READ: Final = ("instructions", "input", "messages", "tools", "functions")
#: Fields in which bytes are written as text.
_ATTACHMENTS: Final = ("image_url", "input_audio", "file_data", "file_url")
#: Lists of tool schemas; of these the names of fields are read too.
_SCHEMAS: Final = ("tools", "functions")
#: Fields that no model reads as text. What is encrypted has no length that says anything.
_UNREAD: Final = (
    "type",
    "id",
    "call_id",
    "tool_call_id",
    "file_id",
    "role",
    "status",
    "phase",
    "detail",
    "encrypted_content",
    "internal_chat_message_metadata_passthrough",
)
#: All that is not walked through. One look decides for each field: long histories have many.
_SPECIAL: Final[Mapping[str, Literal["attachment", "schemas", "unread"]]] = {
    **dict.fromkeys(_ATTACHMENTS, "attachment"),
    **dict.fromkeys(_SCHEMAS, "schemas"),
    **dict.fromkeys(_UNREAD, "unread"),
}


def characters_of(body: JsonObject) -> int:
    """Return how many characters a model reads of a Chat or Responses request.

    The conversation, the instructions and the tools count, an attachment by a flat figure.
    """
    total = 0
    left: list[Json] = [{key: body[key] for key in _READ if key in body}]
    while left:
        value = left.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            if value.get("type") == "image_generation_call":
                total += ATTACHMENT_CHARACTERS
                continue
            for key, inner in value.items():
                special = _SPECIAL.get(key)
                if special is None:
                    left.append(inner)
                elif special == "attachment":
                    total += ATTACHMENT_CHARACTERS
                elif special == "schemas":
                    total += _written(inner)
    return total


def tokens_of(characters: int, characters_per_token: float) -> int:
    """Return the tokens in so many characters."""
    return int(characters / characters_per_token)


def _written(value: Json) -> int:
    try:
        return len(dump(value))
    except ValueError:  # nested beyond what can be sent
        return 0
