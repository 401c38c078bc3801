"""The session actor: the one owner of a session's state. It decides; it never streams."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

import attrs
import structlog
import trio

from codexrelay.errors import SessionLostError
from codexrelay.sessions import state as decisions
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.state import (
    NEW,
    Counters,
    SessionState,
    Switch,
    TurnFacts,
    TurnOutcome,
    TurnPlan,
)
from codexrelay.sessions.store import Kept, SessionStore, SessionStoreError

if TYPE_CHECKING:
    from codexrelay.sessions.history import Conversation

#: A session in use tells the disk so this often, which forgets those that are not.
TOUCH_S: Final = 6 * 3600.0

_About = TypeVar("_About")
_Answer = TypeVar("_Answer")

_FAILED: Final = "session actor failed; the session begins anew"

_log = structlog.get_logger("codexrelay.sessions")


class Home(Protocol):
    """Where actors live: whoever has a nursery for their tasks, and is told what becomes of them.

    Nothing here waits.
    """

    def start(self, actor: SessionActor) -> None:
        """Run `actor.work` in a task."""

    def grown(self, actor: SessionActor, characters: int) -> None:
        """The actor's state has grown by so many characters; below 0: it has shrunk."""

    def answered(self, actor: SessionActor, response_id: str) -> None:
        """An answer of the session was given this id."""

    def ended(self, actor: SessionActor) -> None:
        """The actor has failed, or was closed and has done all that was asked of it."""


@attrs.define(eq=False)
class _Step(Generic[_Answer]):
    """What somebody has asked who stands in line."""

    act: Callable[[], Awaitable[_Answer]]
    #: Set once it is done, or never will be.
    over: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: What came of it; empty if it was not done.
    answers: list[_Answer] = attrs.field(factory=list, init=False)

    async def run(self) -> None:
        """Do it."""
        try:
            self.answers.append(await self.act())
        finally:
            self.over.set()


@attrs.define(eq=False, kw_only=True)
class SessionActor:
    """Owns one session's state. Whoever wants something of it asks, and is served in order.

    What needs the memory alone is done at once, in the task that asks: nothing waits in between, so
    nobody sees half of it, and an idle session has no task. What needs the disk is done in a task
    of the actor's own, which outlives the asker; while that runs, whoever asks stands in line.
    """

    key: SessionKey
    _home: Home
    _store: SessionStore
    #: When it was wanted last, on trio's clock. Its home keeps it.
    used_at_s: float = attrs.field(default=0.0, init=False)
    _state: SessionState = attrs.field(default=NEW, init=False)
    #: What the disk has kept of the session; None while it could not be asked.
    _kept: Kept | None = attrs.field(default=None, init=False)
    _stored_at_s: float = attrs.field(default=0.0, init=False)
    #: The owner was told that the disk does not learn of the switch.
    _told_of_failure: bool = attrs.field(default=False, init=False)
    _line: list[_Step[Any]] = attrs.field(factory=list, init=False)
    #: The actor's task runs, or is about to.
    _is_working: bool = attrs.field(default=False, init=False)
    #: It takes no more asks.
    _is_closed: bool = attrs.field(default=False, init=False)
    #: Set when the last one in line was served; None while nobody wants to know.
    _ended: trio.Event | None = attrs.field(default=None, init=False)

    # What requests ask.

    async def begin_turn(self, facts: TurnFacts) -> TurnPlan:
        """Ask for a turn's plan.

        Where the turn goes to the openai-codex family, the session's history stays uncompacted from
        now on, and that is on the disk before this returns, or its owner was told that it is not.
        Cancelled, the turn leaves nothing behind; the session may have done its part all the same.
        No checkpoint where the disk has nothing to say, but for who is cancelled.

        Raises:
            SessionLostError: the actor has ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise SessionLostError
        plan = None if self._is_working else self._at_once(self._begin_from_memory, facts)
        if plan is None:
            plan = await self._in_line(partial(self._begin_with_disk, facts))
        return plan

    async def meets_family(self, *, compaction: bool) -> None:
        """Say that a turn which has begun elsewhere goes to the openai-codex family now.

        To be called before the request is built; as for `begin_turn` with such facts.

        Args:
            compaction: history compaction is on, server-wide.

        Raises:
            SessionLostError: the actor has ended; say it to the session that begins in its place.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise SessionLostError
        if self._is_working or self._needs_disk(family=True, compaction=compaction):
            await self._in_line(partial(self._go_to_family, compaction=compaction))
        else:
            self._state = decisions.meet_family(self._state)

    async def end_turn(self, outcome: TurnOutcome) -> None:
        """Tell what a served turn left behind. Waits for nobody; see `begin_turn` for checkpoints.

        Raises:
            SessionLostError: the actor has ended.
        """
        await self._hear(self._end, outcome)

    async def answered(self, response_id: str, conversation: Conversation) -> None:
        """Tell of an answer that the relay has given itself; see `LeftBehind.conversation`.

        Raises:
            SessionLostError: the actor has ended.
        """
        await self._hear(self._note_answer, (response_id, conversation))

    async def recall(self, response_id: str) -> Conversation | None:
        """Return all that was said up to and with an answer, None if it is not known.

        Raises:
            SessionLostError: the actor has ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise SessionLostError
        if self._is_working:
            return await self._in_line(partial(_later, self._after, response_id))
        return self._at_once(self._after, response_id)

    # What its home asks.

    @property
    def characters(self) -> int:
        """Roughly what the session costs to remember."""
        return self._state.characters

    @property
    def counters(self) -> Counters:
        """What was counted of the session."""
        return self._state.counters

    @property
    def switch(self) -> Switch:
        """How far the session is on its way to an uncompacted history."""
        return self._state.switch

    def take_over(self, switch: Switch) -> None:
        """Begin with what the memory still knows of an earlier actor of the session."""
        self._state = attrs.evolve(self._state, switch=switch)

    def begin_behind(self, earlier: SessionActor, known: Callable[[], Switch]) -> None:
        """Serve nobody before an earlier actor of the session has ended.

        `known` returns what the memory knows then; see `take_over`. The earlier one is closed.
        """

        async def follow() -> None:
            await earlier.until_ended()
            self.take_over(known())

        self._put_in_line(_Step(follow))

    def close(self) -> bool:
        """Take no more asks. Tells whether there still are some to serve, behind which it ends."""
        self._is_closed = True
        if self._is_working:
            self._ended = self._ended or trio.Event()
        else:
            self._home.ended(self)
        return self._is_working

    async def until_ended(self) -> None:
        """Wait until an actor that had still something to do when it was closed has done it."""
        assert self._ended is not None
        await self._ended.wait()

    async def work(self) -> None:
        """Serve those in line until there are none. One that is cancelled has ended with all asks.

        Task border: an actor that fails has ended too, and those who wait for it are told; other
        sessions go on.
        """
        is_well = False
        try:
            while self._line:
                await self._line.pop(0).run()
            is_well = True
        except Exception:  # noqa: BLE001 - task border
            _log.exception(_FAILED)
        finally:
            self._is_working = False
            if not is_well:
                self._is_closed = True
                for step in self._line:
                    step.over.set()
                self._line.clear()
            if self._is_closed:
                self._home.ended(self)
                if self._ended is not None:
                    self._ended.set()

    # How it is done.

    def _at_once(self, act: Callable[[_About], _Answer], about: _About) -> _Answer:
        """Do what needs the memory alone, while nobody is in line.

        The border of a session in the asker's task: see `work`.

        Raises:
            SessionLostError: the actor has failed by it.
        """
        try:
            return act(about)
        except Exception:  # noqa: BLE001 - the session's border in the task of a turn
            _log.exception(_FAILED)
            self.close()
            raise SessionLostError from None

    async def _hear(self, act: Callable[[_About], None], about: _About) -> None:
        """Do what nobody waits for, at once or in line."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise SessionLostError
        if self._is_working:
            self._put_in_line(_Step(partial(_later, act, about)))
            return
        with contextlib.suppress(SessionLostError):  # it was told; to tell it again is no use
            self._at_once(act, about)

    async def _in_line(self, act: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Wait until those before are served, and this too; who leaves before is not served."""
        step = _Step(act)
        self._put_in_line(step)
        try:
            await step.over.wait()
        finally:
            if step in self._line:
                self._line.remove(step)
        if not step.answers:
            raise SessionLostError
        return step.answers[0]

    def _put_in_line(self, step: _Step[Any]) -> None:
        self._line.append(step)
        if not self._is_working:
            self._home.start(self)
            self._is_working = True

    # What is done.

    def _needs_disk(self, *, family: bool, compaction: bool, binds: bool = False) -> bool:
        """Tell whether the disk has a say in such a turn's plan, or must learn of it first."""
        if not (compaction or binds):
            return False
        if self._kept is None:
            return True  # else nothing that it knows would matter
        state = decisions.meet_family(self._state) if family else self._state
        return decisions.must_switch(state, family=family, compaction=compaction)

    def _begin_from_memory(self, facts: TurnFacts) -> TurnPlan | None:
        """Return the turn's plan, None if the disk comes first."""
        if self._needs_disk(family=facts.family, compaction=facts.compaction, binds=facts.binds):
            return None
        return self._begin(facts)

    def _begin(self, facts: TurnFacts) -> TurnPlan:
        if facts.family:
            self._state = decisions.meet_family(self._state)
        plan = decisions.begin(self._state, facts)
        if plan.compacts and self._kept is None:
            # What the disk may know is not known: to compact nothing is never wrong.
            return attrs.evolve(plan, compacts=False)
        return plan

    async def _begin_with_disk(self, facts: TurnFacts) -> TurnPlan:
        if facts.compaction or facts.binds:
            await self._recall()
        if facts.family:
            await self._go_to_family(compaction=facts.compaction)
        elif decisions.must_switch(self._state, family=False, compaction=facts.compaction):
            await self._persist_switch()
        return self._begin(facts)

    async def _go_to_family(self, *, compaction: bool) -> None:
        """Turn history compaction off for the rest of the session, before a request is built."""
        if compaction:
            await self._recall()
        self._state = decisions.meet_family(self._state)
        if decisions.must_switch(self._state, family=True, compaction=compaction):
            await self._persist_switch()

    def _end(self, outcome: TurnOutcome) -> None:
        before = self._state
        self._state = decisions.end(before, outcome)
        if outcome.response_id:
            self._home.answered(self, outcome.response_id)
        if self._kept is not None and self._has_news():
            self._put_in_line(_Step(self._keep_binding))
        self._tell_growth(before)

    def _note_answer(self, answer: tuple[str, Conversation]) -> None:
        before, (response_id, conversation) = self._state, answer
        self._state = decisions.answer(before, response_id, conversation)
        self._home.answered(self, response_id)
        self._tell_growth(before)

    def _after(self, response_id: str) -> Conversation | None:
        return self._state.history.after(response_id)

    def _tell_growth(self, before: SessionState) -> None:
        """Tell how much the state has grown. It may be closed by that, so this comes last."""
        now = self._state
        if now.reasoning is not before.reasoning or now.history is not before.history:
            self._home.grown(self, now.characters - before.characters)

    async def _recall(self) -> None:
        """Ask the disk what it has kept of the session, once."""
        if self._kept is not None:
            return
        try:
            kept = await self._store.load(self.key.cache_key)
        except SessionStoreError:
            return  # the store has told its owner; the next turn asks again
        self._stored_at_s = trio.current_time()
        self._kept = kept or Kept()
        self._state = decisions.restore(
            self._state, uncompacted=self._kept.uncompacted, bound=self._kept.bound
        )

    async def _persist_switch(self) -> None:
        """Let the disk know that the session's history stays uncompacted, and the owner, once.

        Where the disk takes it not, it is as before and the next turn tries again; what the memory
        knows is enough until then.
        """
        told = self._state.switch is Switch.TOLD
        try:
            known = await self._save(uncompacted=True)
        except SessionStoreError as error:
            self._tell_of_switch(told=told)
            self._state = attrs.evolve(self._state, switch=Switch.TOLD)
            if not self._told_of_failure:
                self._told_of_failure = True
                _log.warning(
                    "that a session's history stays whole could not be stored: its next turn tries "
                    "again, a restart before that forgets it",
                    session=self.key.cache_key,
                    why=str(error),
                )
            return
        # Another relay on the same disk may have told it.
        self._tell_of_switch(told=told or known)
        self._state = attrs.evolve(self._state, switch=Switch.KEPT)
        self._told_of_failure = False

    def _tell_of_switch(self, *, told: bool) -> None:
        if told:
            return
        named = self.key.shown_name
        _log.warning(
            "history compaction is off for the rest of this session: it goes to openai-codex, "
            "whose requests are never compacted",
            session=self.key.cache_key,
            **({} if named is None else {"client_session": named}),
        )

    async def _keep_binding(self) -> None:
        """Let the disk know which account the session is bound to, and that it is alive."""
        if self._kept is not None and self._has_news():
            with contextlib.suppress(SessionStoreError):  # the next turn tries again
                await self._save(uncompacted=self._kept.uncompacted)

    def _has_news(self) -> bool:
        """Tell whether the disk should hear of the session now."""
        kept = self._kept
        if kept is None:
            return False
        if self._state.bound != kept.bound:
            return True
        is_worth_a_word = kept.uncompacted or kept.bound is not None
        return is_worth_a_word and trio.current_time() - self._stored_at_s >= TOUCH_S

    async def _save(self, *, uncompacted: bool) -> bool:
        kept = Kept(uncompacted=uncompacted, bound=self._state.bound)
        known = await self._store.save(self.key.cache_key, kept)
        self._kept, self._stored_at_s = kept, trio.current_time()
        return known


async def _later(act: Callable[[_About], _Answer], about: _About) -> _Answer:
    """Do in line what could be done at once, were there none."""
    return act(about)


#: What a request holds of a session.
Session: TypeAlias = SessionActor
