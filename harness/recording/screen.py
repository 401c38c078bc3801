"""What stands before the disk: nothing is written that has not been redacted and looked through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import structlog

from harness.cassettes.beside import INSIDE_BYTES, Beside
from harness.cassettes.document import interaction_bytes
from harness.cassettes.model import Interaction, Request, Response, Stream
from harness.recording.learning import learn_tokens
from harness.secrecy.redaction import Redactor
from harness.secrecy.scanning import scan_bytes, scan_frames
from harness.secrecy.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log: structlog.stdlib.BoundLogger = structlog.get_logger("harness.recording")

#: Header of a request that is not in the cassette, although its place is.
LEFT_OUT: Final = "x-harness-left-out"


@attrs.frozen
class Shown:
    """An interaction that may be written."""

    text: bytes = attrs.field(repr=False)
    #: What would keep its place.
    stand_in: Interaction
    #: As it was redacted; None if there is nothing but the stand-in.
    redacted: Interaction | None = attrs.field(repr=False)

    @property
    def left_out(self) -> bool:
        """Whether it must not be written."""
        return self.redacted is None


@attrs.define(eq=False)
class Screen:
    """Makes the interactions of one cassette safe. Used by one thread at a time.

    The stand-ins of a cassette are its own, so that two recordings of the same thing are equal.
    """

    #: Known to all cassettes of a recording. What is learnt goes here.
    secrets: Secrets
    beside: Beside
    _redactor: Redactor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._redactor = Redactor(self.secrets)

    @property
    def redacted(self) -> Mapping[str, int]:
        """How often each kind of secret was replaced."""
        return self._redactor.report

    def learn(self, interactions: Iterable[Interaction]) -> None:
        """Learn the secrets that are said in them; before any of them is shown."""
        for one in interactions:
            self._redactor.learn(one)
            learn_tokens(one, self.secrets)

    def show(self, one: Interaction, *, finished: bool) -> Shown:
        """Return an interaction as it may be written."""
        redacted = self._redactor.interaction(one, finished=finished)
        return self._looked_through(redacted, _stand_in(one), finished=finished)

    def again(self, shown: Shown) -> Shown:
        """Return what may be written of a finished one, by all that is known now."""
        if shown.redacted is None:
            return shown
        if not self._kinds_in(interaction_bytes(shown.redacted), shown.redacted):
            return shown
        # It says what only a later one has told to be a secret.
        redacted = self._redactor.again(shown.redacted)
        return self._looked_through(redacted, shown.stand_in, finished=True)

    def _looked_through(
        self, redacted: Interaction, stand_in: Interaction, *, finished: bool
    ) -> Shown:
        text = interaction_bytes(redacted)
        if kinds := self._kinds_in(text, redacted):
            return _left_out(stand_in, ", ".join(kinds))
        if finished and _is_large(redacted):
            text = interaction_bytes(redacted, self.beside.keep)
        return Shown(text, stand_in, redacted)

    def tidy(self, shown: Iterable[Shown]) -> None:
        """Remove the files beside the cassette that nothing in it names."""
        beside = Beside(self.beside.path)
        for one in shown:
            if one.redacted is not None and _is_large(one.redacted):
                interaction_bytes(one.redacted, beside.keep)
        beside.remove_others()

    def _kinds_in(self, text: bytes, one: Interaction) -> tuple[str, ...]:
        found = scan_bytes(text, self.secrets)
        if one.response.stream.frames:
            found += scan_frames(one.response.stream.frames, self.secrets)
        return tuple(sorted({each.kind for each in found}))


def _left_out(stand_in: Interaction, told: str) -> Shown:
    log.error(
        "a request is left out of the recording: after redaction it still held a secret",
        number=stand_in.number,
        track=stand_in.track,
        kinds=told,
    )
    headers = ((LEFT_OUT, f"a secret was still in it: {told}"),)
    noted = attrs.evolve(stand_in, request=attrs.evolve(stand_in.request, headers=headers))
    return Shown(interaction_bytes(noted), noted, None)


def _is_large(one: Interaction) -> bool:
    return max(len(one.request.body), len(one.response.body)) > INSIDE_BYTES


def _stand_in(one: Interaction) -> Interaction:
    """Return what keeps the place of an interaction that must not be written."""
    return Interaction(
        track=one.track,
        number=one.number,
        began_at_s=one.began_at_s,
        caused_by=one.caused_by,
        request=Request(
            method=one.request.method, uri=f"http://{urlsplit(one.request.uri).hostname}/"
        ),
        response=Response(status=None, stream=Stream(complete=False, end="idle")),
    )
