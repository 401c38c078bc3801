"""The API key of a backend of another kind: from a variable, or from a file that may change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.accounts.account import can_be_sent
from codexrelay.accounts.files import (
    BrokenFileError,
    Fingerprint,
    fingerprint_of,
    read_bytes,
    why_open_to_others,
)
from codexrelay.backends.openai.place import block_named
from codexrelay.errors import KeyUnusableError, Problem

if TYPE_CHECKING:
    from codexrelay.backends.openai.settings import OpenAIBackendSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: The file is looked at this often at most, but for a key that was refused.
LOOK_S: Final = 1.0
#: How long a file that could not be used keeps those away who have somewhere else to go.
BELIEVED_S: Final = 5.0
#: Longer than any key or token; what is longer is another file.
MAX_KEY_BYTES: Final = 16 * 1024
_NO_RESTART: Final = "no restart is needed"


@attrs.define(eq=False, kw_only=True)
class Key:
    """One backend's key, shared by its turns and by the question for its models.

    The key itself is in no repr, log or error.
    """

    #: Canonical name of the backend.
    backend: str
    #: The environment variable that was named; None: none was.
    variable: str | None = None
    #: What it held when the process began; None: it was not set.
    from_variable: str | None = attrs.field(default=None, repr=False)
    #: The file that was named, asked where no variable is.
    file: Path | None = None
    #: Whether it is logged, once, that others can read the file.
    warns: bool = True
    _text: str | None = attrs.field(default=None, init=False, repr=False)
    _problem: Problem | None = attrs.field(default=None, init=False)
    #: Of the file, as it was when it was read last; None: it was not.
    _fingerprint: Fingerprint | None = attrs.field(default=None, init=False)
    #: trio's clock.
    _looked_at_s: float = attrs.field(default=-math.inf, init=False)

    @classmethod
    def of(
        cls, name: str, settings: OpenAIBackendSettings, *, from_variable: str | None = None
    ) -> Key:
        """Return the key of a backend's block.

        `from_variable` is what the variable holds that `api_key_env` names; None: it is not set.
        """
        file = settings.api_key_file
        return cls(
            backend=name,
            variable=settings.api_key_env or None,
            from_variable=from_variable,
            file=Path(file) if file else None,
        )

    def __attrs_post_init__(self) -> None:
        if self.variable is not None:
            self._take_variable(self.variable)

    @property
    def text(self) -> str | None:
        """What is sent, as it was known when it was last looked at; None: nothing is."""
        return self._text

    @property
    def is_in_vain(self) -> bool:
        """Whether it could not be used a moment ago: it would hardly be any better now."""
        lasts = self.file is None or trio.current_time() - self._looked_at_s < BELIEVED_S
        return self._problem is not None and lasts

    async def look(self, *, at_once: bool = False) -> None:
        """Take over what the file says now, unless it was just looked at and not `at_once`.

        Raises:
            KeyUnusableError: one is configured, and cannot be used.
        """
        if self.variable is None and self.file is not None:
            now_s = trio.current_time()
            if at_once or now_s - self._looked_at_s >= LOOK_S:
                read = await trio.to_thread.run_sync(_read, self.file, self._fingerprint)
                self._looked_at_s = now_s  # behind the thread: a look that was cancelled is none
                if read is not None:
                    self._take_file(self.file, *read)
        if self._problem is not None:
            raise KeyUnusableError(backend=self.backend, problem=self._problem)

    def _take_variable(self, variable: str) -> None:
        where = f"{block_named(self.backend)}.api_key_env"
        self._text, why = _key_in((self.from_variable or "").encode("utf-8", "surrogateescape"))
        if self.from_variable is None:
            why = "is not set"
        if why is not None:
            mend = "set it to the key and start the relay again"
            self._problem = Problem(where, f"the variable {variable} {why}; {mend}")

    def _take_file(self, file: Path, fingerprint: Fingerprint, found: bytes | str) -> None:
        """Take over what the file holds, or the words that say why it cannot be read."""
        where = f"{block_named(self.backend)}.api_key_file"
        self._fingerprint = fingerprint
        self._text, why = (None, found) if isinstance(found, str) else _key_in(found)
        if why is not None:
            mend = f"write the key into it, and nothing else; {_NO_RESTART}"
            self._problem = Problem(where, f"{file} {why}; {mend}")
            return
        self._problem = None
        if self.warns and (is_open := why_open_to_others(file)):
            self.warns = False
            log.warning("a file with an API key is open to others", key=where, told=is_open)


def _read(file: Path, known: Fingerprint | None) -> tuple[Fingerprint, bytes | str] | None:
    """Return what the file holds, or why it cannot be read; None if it has not changed. Blocks."""
    fingerprint = fingerprint_of([file])  # first: what changes meanwhile is read again
    if fingerprint == known:
        return None
    try:
        found = read_bytes(file)
    except BrokenFileError as error:
        return fingerprint, error.problem.what
    return fingerprint, "is not there" if found is None else found


def _key_in(data: bytes) -> tuple[str | None, str | None]:
    """Return the key that stands in `data`, or why there is none; the words do not quote it."""
    data = data.strip()
    if not data:
        return None, "is empty"
    if len(data) > MAX_KEY_BYTES:
        return None, f"holds more than {MAX_KEY_BYTES} bytes, which is no key"
    text = data.decode("latin-1")
    if not can_be_sent(text):
        return None, "holds a blank, a line break or a sign that no key has"
    return text, None
