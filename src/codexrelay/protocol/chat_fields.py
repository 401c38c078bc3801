"""Reading a Chat client's body: a field has the type we need, or the client is told which has not.

`param` is the field's path as OpenAI writes it: `messages[2].content[1].image_url`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.errors import RequestError
from codexrelay.protocol.raw import kind_of

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


def text_at(value: Json, param: str) -> str:
    """Return `value`, which must be a string.

    Raises:
        RequestError: it is missing or of another type.
    """
    if isinstance(value, str):
        return value
    raise _wrong_type(value, param, "a string")


def name_at(value: Json, param: str) -> str:
    """Return `value`, which must be a string that is not empty.

    Raises:
        RequestError: it is missing, empty or of another type.
    """
    text = text_at(value, param)
    if not text:
        raise refused(f"`{param}` must not be empty", param)
    return text


def flag_at(value: Json, param: str) -> bool:
    """Return `value`, which must be a boolean.

    Raises:
        RequestError: it is missing or of another type.
    """
    if isinstance(value, bool):
        return value
    raise _wrong_type(value, param, "a boolean")


def object_at(value: Json, param: str) -> JsonObject:
    """Return `value`, which must be an object.

    Raises:
        RequestError: it is missing or of another type.
    """
    if isinstance(value, dict):
        return value
    raise _wrong_type(value, param, "an object")


def list_at(value: Json, param: str) -> list[Json]:
    """Return `value`, which must be an array.

    Raises:
        RequestError: it is missing or of another type.
    """
    if isinstance(value, list):
        return value
    raise _wrong_type(value, param, "an array")


def refused(message: str, param: str, *, code: str = "invalid_value") -> RequestError:
    """Return the error for a field whose value cannot be used."""
    return RequestError(message=message, param=param, code=code)


def _wrong_type(value: Json, param: str, wanted: str) -> RequestError:
    if value is None:
        return refused(
            f"`{param}` is required and must be {wanted}", param, code="missing_required_parameter"
        )
    return refused(f"`{param}` must be {wanted}, not {kind_of(value)}", param, code="invalid_type")
