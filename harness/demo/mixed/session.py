"""Plays the conversation, and says of each turn what arrived at which backend."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import httpx

from codexrelay.protocol.raw import JsonObject, dump
from harness.demo.client import CHAT, RESPONSES, Answer, ask
from harness.demo.facts import Fact, equal
from harness.demo.mixed.history import (
    READ,
    chat_messages,
    input_items,
    results_of,
    told_results,
)
from harness.demo.printing import Page
from harness.demo.requests import say
from harness.openai_api import OpenAISimulator
from harness.simulator import Seen, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from codexrelay.protocol.raw import Json

Protocol: TypeAlias = Literal["chat", "responses"]

LOCAL: Final = "local:local-model"
CODEX: Final = "gpt-5.5"
#: An alias that means the local model, and Codex where that is down.
ROUTED: Final = "coder"
MOVED: Final = "a-conversation-that-moves"
FAILED_OVER: Final = "a-conversation-with-failover"
SPEECH: Final = "I see."
#: As often as a relay may ask the local model before it turns to the next backend of a route.
_DOWN: Final = ("503",) * 10


@attrs.define(eq=False, kw_only=True)
class Mixed:
    """What the conversation is played on."""

    local: OpenAISimulator
    codex: Simulator
    #: Speaks to the relay that serves at the moment.
    http: httpx.AsyncClient
    page: Page
    #: What the local model was sent of the n-th result, as soon as that is a stub.
    _stubs: dict[tuple[str, int], str] = attrs.field(factory=dict, init=False)

    async def turn(
        self,
        session: str,
        model: str,
        *,
        reads: int,
        results: Sequence[str],
        at: Literal["local", "codex"],
        protocol: Protocol = "chat",
    ) -> list[Fact]:
        """Ask one turn, and judge where it arrived and what had become of its results."""
        local_before, codex_before = len(self.local.turns), len(_turns_of(self.codex))
        answer = await self._ask(session, model, reads=reads, protocol=protocol)
        local = self.local.turns[local_before:]
        codex = _turns_of(self.codex)[codex_before:]
        served = {"local": local, "codex": codex}[at]
        told = told_results(served[-1].body) if served else []
        facts = [
            equal("status", answer.status, 200),
            equal("answer", answer.text, SPEECH),
            equal(f"served by {at}, with the results", told, list(results)),
        ]
        if at == "local":
            facts += [Fact("Codex was asked too", holds=False)] if codex else []
            facts += self._stubs_are_the_same(session, served[-1] if served else None)
        self.page.line(
            "turn", f"{reads} reads of the file, for {model}: {_counted(told)} arrived at {at}"
        )
        return facts

    async def _ask(self, session: str, model: str, *, reads: int, protocol: Protocol) -> Answer:
        prompt = say(SPEECH)
        path, body = CHAT, _chat(model, chat_messages(reads, prompt))
        if protocol == "responses":
            path, body = RESPONSES, _responses(model, input_items(reads, prompt))
        headers = {"x-session-id": session}
        answer = await ask(self.http, path, body, headers=headers, hear=lambda _: None)
        if answer.status != 200:
            self.page.line("answer", f"{answer.status} {dump(answer.error).decode()}")
        return answer

    def _stubs_are_the_same(self, session: str, turn: Seen | None) -> list[Fact]:
        """A stub must have the same bytes in every request, or no prompt cache ever hits."""
        facts = []
        for place, text in enumerate(results_of(turn.body) if turn else []):
            if told_results(turn.body if turn else None)[place] == "stub":
                known = self._stubs.setdefault((session, place), text)
                if text != known:
                    facts.append(Fact(f"the stub of result {place + 1} has changed", holds=False))
        return facts


async def before_restart(mixed: Mixed) -> list[Fact]:
    """Local, local, local, Codex, local, Codex."""
    mixed.page.line("then", "A conversation with the local model, and compaction is on")
    facts = [
        *await mixed.turn(MOVED, LOCAL, reads=1, results=["whole"], at="local"),
        *await mixed.turn(MOVED, LOCAL, reads=2, results=["stub", "whole"], at="local"),
        *await mixed.turn(MOVED, LOCAL, reads=3, results=["stub", "stub", "whole"], at="local"),
    ]
    mixed.page.line("then", "It moves to Codex: nothing is left out from here on")
    facts += await mixed.turn(MOVED, CODEX, reads=4, results=["whole"] * 4, at="codex")
    facts += await mixed.turn(MOVED, LOCAL, reads=5, results=["whole"] * 5, at="local")
    facts += await mixed.turn(MOVED, CODEX, reads=6, results=["whole"] * 6, at="codex")
    return facts


async def after_restart(mixed: Mixed) -> list[Fact]:
    """The same conversation with the next relay: local, Codex, local."""
    mixed.page.line("then", "The relay is restarted: still nothing")
    return [
        *await mixed.turn(MOVED, LOCAL, reads=7, results=["whole"] * 7, at="local"),
        *await mixed.turn(MOVED, CODEX, reads=8, results=["whole"] * 8, at="codex"),
        *await mixed.turn(MOVED, LOCAL, reads=9, results=["whole"] * 9, at="local"),
    ]


async def failover(mixed: Mixed) -> list[Fact]:
    """Another conversation, whose model is down for one turn: Codex helps out."""
    mixed.page.line(
        "then", "Another conversation, in the other protocol: the local model is down once"
    )

    turn = functools.partial(mixed.turn, FAILED_OVER, protocol="responses")
    facts = await turn(ROUTED, reads=2, results=["stub", "whole"], at="local")
    mixed.local.queue_faults(*_DOWN)
    facts += await turn(ROUTED, reads=3, results=["whole"] * 3, at="codex")
    mixed.local.forget_faults()
    # By its own name: the route passes a backend by for a while after it has failed.
    facts += await turn(LOCAL, reads=4, results=["whole"] * 4, at="local")
    return facts


def verdict(log: Sequence[str]) -> list[Fact]:
    """Judge what the relays have logged in the whole play: one warning for each conversation."""
    warned = compaction_warnings(log)
    facts = [
        equal(f"warnings for {session}", sum(session in line for line in warned), 1)
        for session in (MOVED, FAILED_OVER)
    ]
    return [*facts, equal("warnings about compaction in all", len(warned), 2)]


def compaction_warnings(log: Iterable[str]) -> list[str]:
    """Return the warnings in a relay's log that are about compaction."""
    return [line for line in log if " warning " in line and "compaction" in line]


def _counted(told: Sequence[str]) -> str:
    """Return `stub, stub, whole` as `2 stub, 1 whole`."""
    return ", ".join(f"{told.count(kind)} {kind}" for kind in dict.fromkeys(told)) or "nothing"


def _turns_of(codex: Simulator) -> list[Seen]:
    return [seen for seen in codex.seen if seen.path.endswith("/responses")]


def _chat(model: str, messages: list[Json]) -> JsonObject:
    tool: JsonObject = {"type": "function", "function": READ}
    return {"model": model, "messages": messages, "tools": [tool], "stream": True}


def _responses(model: str, items: list[Json]) -> JsonObject:
    tool: JsonObject = {"type": "function", **READ}
    return {"model": model, "input": items, "tools": [tool], "stream": True}
