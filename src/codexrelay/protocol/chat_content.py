"""The parts of a message: from Chat's kinds to the input parts of Responses (wire notes 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.chat_fields import list_at, object_at, refused, text_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from codexrelay.protocol.raw import Json, JsonObject

#: Kinds that a developer message may hold.
TEXT: Final = frozenset({"text"})
#: Kinds that the result of a tool may hold.
RESULT: Final = frozenset({"text", "image_url", "file"})
#: Kinds that a user message may hold.
ANY: Final = frozenset({"text", "image_url", "file", "input_audio"})


def input_parts(content: Json, param: str, *, allowed: Set[str]) -> list[Json]:
    """Return `content`, a text or a list of parts, as input parts. Parts stay parts.

    Raises:
        RequestError: a part is malformed, or the backend takes no such part in this place.
    """
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [
        _input_part(part, f"{param}[{i}]", allowed)
        for i, part in enumerate(list_at(content, param))
    ]


def output_parts(content: Json, refusal: Json, param: str) -> list[Json]:
    """Return what an assistant said, as output parts; an empty text is no part.

    Raises:
        RequestError: a part is malformed or is neither text nor refusal.
    """
    parts: list[Json] = []
    if isinstance(content, str):
        if content:
            parts.append({"type": "output_text", "text": content})
    elif content is not None:
        for i, part in enumerate(list_at(content, f"{param}.content")):
            parts.append(_output_part(part, f"{param}.content[{i}]"))
    if refusal:
        parts.append({"type": "refusal", "refusal": text_at(refusal, f"{param}.refusal")})
    return parts


def _input_part(value: Json, param: str, allowed: Set[str]) -> JsonObject:
    part = object_at(value, param)
    kind = text_at(part.get("type"), f"{param}.type")
    if kind not in allowed:
        raise refused(
            f"the backend takes no part of type {kind!r} here (only {', '.join(sorted(allowed))})",
            param,
            code="unsupported_value",
        )
    return _INPUT_PARTS[kind](part, param)


def _output_part(value: Json, param: str) -> JsonObject:
    part = object_at(value, param)
    match part.get("type"):
        case "text":
            return {"type": "output_text", "text": text_at(part.get("text"), f"{param}.text")}
        case "refusal":
            text = text_at(part.get("refusal"), f"{param}.refusal")
            return {"type": "refusal", "refusal": text}
        case kind:
            raise refused(
                f"an assistant message holds text and refusal parts, not {kind!r}",
                param,
                code="unsupported_value",
            )


def _text(part: JsonObject, param: str) -> JsonObject:
    return {"type": "input_text", "text": text_at(part.get("text"), f"{param}.text")}


def _image(part: JsonObject, param: str) -> JsonObject:
    given = part.get("image_url")
    # Some clients write the address itself where OpenAI has an object.
    image: JsonObject = (
        {"url": given} if isinstance(given, str) else object_at(given, f"{param}.image_url")
    )
    flat: JsonObject = {
        "type": "input_image",
        "image_url": text_at(image.get("url"), f"{param}.image_url.url"),
    }
    if (detail := image.get("detail")) is not None:
        flat["detail"] = text_at(detail, f"{param}.image_url.detail")
    return flat


def _file(part: JsonObject, param: str) -> JsonObject:
    return {"type": "input_file", **object_at(part.get("file"), f"{param}.file")}


def _audio(part: JsonObject, param: str) -> JsonObject:
    audio = object_at(part.get("input_audio"), f"{param}.input_audio")
    return {"type": "input_audio", "input_audio": audio}


_INPUT_PARTS: Final[Mapping[str, Callable[[JsonObject, str], JsonObject]]] = {
    "text": _text,
    "image_url": _image,
    "file": _file,
    "input_audio": _audio,
}
