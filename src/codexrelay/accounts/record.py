"""The object in a file of ours, read field by field."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import attrs

from codexrelay.accounts.files import broken
from codexrelay.accounts.tokens import sendable
from codexrelay.protocol.raw import JsonObject, get_number, is_object, kind_of, parse_object


@attrs.frozen
class Record:
    """A file's object; a field of the wrong type makes the file broken.

    Every method raises BrokenFileError for a field that cannot be what is asked for.
    """

    path: Path
    raw: JsonObject = attrs.field(repr=False)

    def text(self, field: str) -> str | None:
        """Return the text, None for null, nothing or an empty one."""
        value = self.raw.get(field)
        if value is None or isinstance(value, str):
            return value or None
        raise broken(self.path, field, f"a string is needed, not {kind_of(value)}")

    def sendable(self, field: str) -> str | None:
        """Return the token or id, None for null, nothing or an empty one."""
        return sendable(self.path, field, self.text(field))

    def required(self, field: str) -> str:
        """Return the token that must be there."""
        if (value := self.sendable(field)) is None:
            raise broken(self.path, field, "is missing")
        return value

    def flag(self, field: str) -> bool:
        """Return the boolean, False for null or nothing."""
        value = self.raw.get(field)
        if value is None or isinstance(value, bool):
            return value or False
        raise broken(self.path, field, f"a boolean is needed, not {kind_of(value)}")

    def object(self, field: str) -> JsonObject | None:
        """Return the object, None for null or nothing."""
        value = self.raw.get(field)
        if value is None or is_object(value):
            return value
        raise broken(self.path, field, f"an object or null is needed, not {kind_of(value)}")

    def instant(self, field: str) -> float | None:
        """Return an instant written as milliseconds since 1970, in Unix seconds."""
        value = self.raw.get(field)
        if value is None:
            return None
        at_ms = None if isinstance(value, str) else get_number(self.raw, field)
        if at_ms is None or not math.isfinite(at_ms) or at_ms <= 0:
            raise broken(
                self.path, field, "milliseconds since 1970 (a number above 0) or null are needed"
            )
        return at_ms / 1000

    def time(self, field: str) -> float | None:
        """Return an instant written as an ISO time, in Unix seconds."""
        text = self.text(field)
        if text is None:
            return None
        if (at := read_iso(text)) is None:
            raise broken(self.path, field, "an ISO time (2026-11-22T10:00:00+00:00) is needed")
        return at


def parse_record(path: Path, data: bytes) -> Record:
    """Return the object that the file holds.

    Raises:
        BrokenFileError: it holds none. Quotes nothing of it.
    """
    try:
        return Record(path, parse_object(data))
    except ValueError as error:
        # Not chained: the parser's error carries the whole document, tokens and all.
        raise broken(path, "file", f"is not a JSON object ({error})") from None


def iso(at_unix_s: float) -> str:
    """Return an instant as files tell it."""
    return datetime.datetime.fromtimestamp(at_unix_s, tz=datetime.UTC).isoformat()


def read_iso(text: str) -> float | None:
    """Return the instant in Unix seconds, None if the text is none. Without a zone it is UTC."""
    try:
        at = datetime.datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
