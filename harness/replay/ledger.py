"""The ledger of a replay: which recorded answer is next, and what did not go as recorded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.cassettes.model import Interaction
from harness.replay.filled import fits
from harness.replay.matching import WEBSOCKET, Key, key_of_interaction, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness.cassettes.model import Cassette, Track

TRACKS: Final[tuple[Track, ...]] = ("upstream", "client")


@attrs.frozen(eq=False)
class Recording:
    """A recorded request and answer, and which cassette it is of."""

    cassette: str
    interaction: Interaction
    key: Key

    @property
    def counts(self) -> bool:
        """How often it is asked for matters.

        Plain GETs do not count: how often a program asks for the models is a matter of luck. Nor
        do handshakes for a WebSocket that were refused: what counts is what was asked without one.
        """
        return self.key.method != "GET" and (self.key.method != WEBSOCKET or self.is_websocket)

    @property
    def is_websocket(self) -> bool:
        """It became a WebSocket."""
        return self.interaction.response.status == HTTPStatus.SWITCHING_PROTOCOLS

    def __str__(self) -> str:
        return f"{self.cassette} number {self.interaction.number} ({self.key.asked})"


@attrs.define(eq=False)
class Taken:
    """An answer that is to be played now."""

    #: Of a WebSocket another one, perhaps, once its first message has come.
    recording: Recording
    #: How many of its method and path have been played, this one included.
    count: int


@attrs.frozen
class Miss:
    """No answer; the text says why, and what was recorded that is nearest."""

    text: str
    #: It was a request for tokens.
    is_refresh: bool


@attrs.define(eq=False)
class Ledger:
    """Hands out the recorded answers, each once and equal requests in recorded order.

    One event loop only: nothing here waits but `until_begun`.
    """

    recordings: Sequence[Recording]
    #: What is asked for more often than recorded gets the last answer again, and nothing has to be
    #: asked for; only what was never recorded is a violation.
    repeat: bool = False
    #: Texts of a recording may be filler: a request that no recording is equal to may be one whose
    #: texts were filled (see `filled`).
    filled: bool = False
    #: What was played, in order.
    played: list[Recording] = attrs.field(factory=list, init=False)
    _waiting: dict[Key, deque[Recording]] = attrs.field(init=False)
    _last: dict[Key, Recording] = attrs.field(factory=dict, init=False)
    _counts: Counter[tuple[str, str]] = attrs.field(factory=Counter, init=False)
    #: WebSockets of which no message has come yet.
    _silent: list[Taken] = attrs.field(factory=list, init=False)
    #: Violations so far, in order.
    _violations: list[str] = attrs.field(factory=list, init=False)
    _begun: set[Recording] = attrs.field(factory=set, init=False)
    #: Set, and replaced, whenever a request begins.
    _change: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._waiting = {}
        for recording in self.recordings:
            self._waiting.setdefault(recording.key, deque()).append(recording)

    @classmethod
    def of(
        cls,
        cassettes: Mapping[str, Cassette],
        *,
        tracks: Iterable[Track] = TRACKS,
        repeat: bool = False,
        filled: bool = False,
    ) -> Ledger:
        """Return the ledger of some cassettes, by name; of these tracks alone."""
        wanted = frozenset(tracks)
        return cls(
            [
                Recording(name, one, key_of_interaction(one))
                for name, cassette in cassettes.items()
                for one in cassette.interactions
                if one.track in wanted
            ],
            repeat=repeat,
            filled=filled,
        )

    def knows(self, *keys: Key) -> bool:
        """Tell whether something with one of these keys was recorded, played or not."""
        return any(key in self._waiting for key in keys)

    def take(self, *keys: Key) -> Taken | Miss:
        """Return the answer to the request that has just begun.

        `keys` are those that it may have: one for each track that it may belong to.
        """
        recording = self._next(keys) or self._next_filled(keys)
        if recording is None:
            return self._missed(keys)
        place = (recording.key.method, recording.key.path.partition("?")[0])
        self._counts[place] += 1
        self.played.append(recording)
        self._begin(recording)
        taken = Taken(recording, self._counts[place])
        if recording.is_websocket:
            self._silent.append(taken)
        return taken

    def settle(self, taken: Taken, is_it: Callable[[Recording], bool]) -> None:
        """Let a WebSocket whose first message has come be the first of its kind that `is_it`.

        Nothing else tells those apart that are asked for alike. If none is, it stays what it was.
        """
        if not any(one is taken for one in self._silent):
            return
        self._silent = [one for one in self._silent if one is not taken]
        was, key = taken.recording, taken.recording.key
        if is_it(was):
            return
        for other in self._silent:
            if other.recording.key == key and is_it(other.recording):
                taken.recording, other.recording = other.recording, was
                return
        waiting = self._waiting[key]
        # Where each may be played more than once, those too that were played.
        known = [
            one for one in self.recordings if one.key == key and (self.repeat or one in waiting)
        ]
        found = next((one for one in known if one.is_websocket and is_it(one)), None)
        if found is None:
            return
        if found in waiting:
            waiting.remove(found)
            waiting.appendleft(was)
        self.played[len(self.played) - 1 - self.played[::-1].index(was)] = found
        taken.recording = self._last[key] = found
        self._begin(found)

    def _next(self, keys: Iterable[Key]) -> Recording | None:
        known = [key for key in keys if key in self._waiting]
        for key in known:
            if waiting := self._waiting[key]:
                self._last[key] = waiting.popleft()
                return self._last[key]
        for key in known:
            if self.repeat or not self._last[key].counts:
                return self._last[key]
        return None

    def _next_filled(self, keys: Iterable[Key]) -> Recording | None:
        """Return the first that waits whose texts are filler, and which this is otherwise."""
        if not self.filled:
            return None
        for key in keys:
            for waiting in self._waiting.values():
                there = waiting[0].key if waiting else None
                if (
                    there is not None
                    and (there.track, there.method, there.path) == (key.track, key.method, key.path)
                    and key.raw is not None
                    and fits(there.raw, key.raw)
                ):
                    self._last[there] = waiting.popleft()
                    return self._last[there]
        return None

    def _missed(self, keys: Sequence[Key]) -> Miss:
        asked = keys[0]
        if known := next((key for key in keys if key in self._waiting), None):
            times = sum(recording.key == known for recording in self.recordings)
            text = f"{known.asked} was recorded {_times(times)} and is asked for once more"
            self._violations.append(text)
            return Miss(text, asked.is_refresh)
        found = nearest(asked, [recording.key for recording in self.recordings])
        lines = [f"no recording matches {asked.asked}"]
        if found is None:
            lines.append("there are no recordings")
        else:
            near = self.recordings[found.place]
            lines.append(f"the nearest is {near}, of the {near.key.track} track:")
            lines += (f"  {line}" for line in found.lines())
            self._stand_for(near, asked)
        text = "\n".join(lines)
        self._violations.append(text)
        return Miss(text, asked.is_refresh)

    def _stand_for(self, near: Recording, asked: Key) -> None:
        """Let nobody wait for a request that has come in another form."""
        if near.key.asked == asked.asked:
            self._begin(near)

    def _begin(self, recording: Recording) -> None:
        self._begun.add(recording)
        self._change.set()
        self._change = trio.Event()

    async def until_begun(self, recording: Recording, at_s: float) -> None:
        """Wait until every request has begun that had begun when this answer was so far.

        `at_s` is in seconds since its own request. Nobody waits for what does not count, nor for
        another track or cassette. What waits here waits for what was recorded earlier, never the
        other way round: so nobody waits in a circle. Nor does anybody where nothing has to be
        asked for.
        """
        if self.repeat:
            return
        moment_s = recording.interaction.began_at_s + at_s
        earlier = [
            one
            for one in self.recordings
            if one.counts
            and one.cassette == recording.cassette
            and one.key.track == recording.key.track
            and one.interaction.began_at_s < moment_s
        ]
        while not self._begun.issuperset(earlier):
            await self._change.wait()

    def note(self, violation: str) -> None:
        """Note what did not go as recorded within an answer."""
        self._violations.append(violation)

    def problems(self) -> tuple[str, ...]:
        """Return what did not go as recorded: missed and extra requests, then what was not played.

        Of a track that nothing was asked of at all, nothing is said: who is pointed at a replay is
        a client or a relay, seldom both. If nothing was played of any, everything is missing.
        """
        if self.repeat:
            return tuple(self._violations)
        asked = {recording.key.track for recording in self.played} or set(TRACKS)
        played = set(self.played)
        unplayed = (
            f"never asked for: {one}"
            for one in self.recordings
            if one.counts and one.key.track in asked and one not in played
        )
        return (*self._violations, *unplayed)

    @property
    def summary(self) -> str:
        """How much was played, in a line."""
        different = len(set(self.played))
        return (
            f"{different} of {len(self.recordings)} recordings played, "
            f"{_count(len(self.played), 'request')} answered, "
            f"{_count(len(self.problems()), 'problem')}"
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(count: int, what: str) -> str:
    return {0: f"no {what}", 1: f"1 {what}"}.get(count, f"{count} {what}s")
