"""One conversation on several backends: history compaction, and the rule of the Codex family.

Through sockets, with a local model and Codex simulated behind the relay. What arrived there is what
counts: `told_results` says of each tool result whether it came whole or as a stub.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs
import trio
from structlog.testing import capture_logs

from codexrelay.compaction.settings import CompactionSettings, CompressionSettings
from codexrelay.config.settings import ModelsSettings, ServerSettings
from codexrelay.protocol.raw import get_list, get_object, get_text, is_object, parse_object
from harness.demo.mixed.history import (
    READ,
    THRESHOLD_TOKENS,
    chat_messages,
    input_items,
    results_of,
    told_results,
)
from harness.openai_api import OpenAISimulator
from tests.fakes.relay import Beside, LiveRelay, relaying, with_accounts
from tests.fakes.session_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Any

    import httpx

    from codexrelay.protocol.raw import Json, JsonObject

COMPACTION: Final = CompactionSettings(enabled=True, token_threshold=THRESHOLD_TOKENS)
LOCAL, CODEX, CODEX_2 = "local:local-model", "openai-codex:gpt-5.5", "openai-codex.2:gpt-5.5"
SAY: Final = "[sim text=Seen]"


def mixed(
    folder: Path,
    *,
    local: OpenAISimulator | None = None,
    compaction: CompactionSettings = COMPACTION,
    **more: Any,  # noqa: ANN401 - goes to `relaying`
) -> AbstractAsyncContextManager[LiveRelay]:
    others = {"local": local or OpenAISimulator()}
    return relaying(folder, others=others, compaction=compaction, **more)


@attrs.define(eq=False)
class Conversation:
    """An agent that reads one file again and again."""

    relay: LiveRelay
    local: OpenAISimulator
    #: What it calls its session; None: it calls it nothing.
    name: str | None = "conversation"
    chat: bool = True
    #: What the conversation is about.
    about: str = "notes"
    reads: int = 1

    async def turn(self, model: str) -> httpx.Response:
        """Read once more, and ask a model about it."""
        self.reads += 1
        headers = {} if self.name is None else {"x-session-id": self.name}
        answer = await self.relay.post(self.path, self._body(model), headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    async def local_got(self) -> list[str]:
        """Ask the local model; return what became of each result on the way to it."""
        await self.turn(LOCAL)
        return told_results(self.local.turns[-1].body)

    async def codex_got(self, model: str = CODEX) -> list[str]:
        """Ask Codex; return what became of each result on the way to it."""
        await self.turn(model)
        return told_results(self.relay.asked[-1].body)

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/responses"

    def _body(self, model: str) -> JsonObject:
        beside: JsonObject = {"model": model, "stream": True}
        if self.chat:
            messages = chat_messages(self.reads, SAY)
            messages[0] = {"role": "system", "content": f"You read {self.about}."}
            tools: list[Json] = [{"type": "function", "function": READ}]
            return {**beside, "messages": messages, "tools": tools}
        return {
            **beside,
            "instructions": f"You read {self.about}.",
            "input": input_items(self.reads, SAY),
            "tools": [{"type": "function", **READ}],
        }


def compacted(count: int) -> list[str]:
    return ["stub"] * (count - 1) + ["whole"]


def whole(count: int) -> list[str]:
    return ["whole"] * count


def switches(logged: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Return the warnings about compaction."""
    return [
        line
        for line in logged
        if line["log_level"] == "warning" and "compaction" in str(line["event"])
    ]


async def test_from_the_first_turn_on_codex_on_history_stays_whole_with_one_warning(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator()
    second = Beside(accounts={"b": "sim-1"})
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local, beside=(second,)) as relay:
            for chat in (True, False):
                talk = Conversation(relay, local, name=f"talk-{chat}", chat=chat)
                assert await talk.local_got() == compacted(2)
                assert await talk.local_got() == compacted(3)
                assert switches(logged) == []
                assert await talk.codex_got(CODEX_2) == whole(4)
                [told] = switches(logged)
                assert told["client_session"] == f"talk-{chat}"
                assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", told["session"])
                assert await talk.local_got() == whole(5)
                assert await talk.codex_got() == whole(6)
                assert await talk.local_got() == whole(7)
                assert len(switches(logged)) == 1
                logged.clear()


async def test_where_compaction_is_off_nobody_is_warned_and_nothing_is_compacted(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator()
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local, compaction=CompactionSettings()) as relay:
            talk = Conversation(relay, local)
            assert await talk.local_got() == whole(2)
            assert await talk.codex_got() == whole(3)
            assert await talk.local_got() == whole(4)
    assert switches(logged) == []


async def test_every_name_of_the_family_counts(tmp_path: Path) -> None:
    local = OpenAISimulator()
    models = ModelsSettings(
        aliases={"mine": "openai-codex:gpt-5.5"},
        routes={"coder": (CODEX, LOCAL), "fallen": ("local:no-such-model", CODEX)},
    )
    names = [
        "gpt-5.5",
        "openai-codex:gpt-5.5",
        "openai_codex/gpt-5.5",
        "OpenAI-Codex.1:gpt-5.5",
        "OPENAI_CODEX.2:gpt-5.5-high",
        "openai/gpt-5.5",
        "openai-codex-v2:gpt-5.5",
        "mine",
        "coder",
        "fallen",
    ]
    with capture_logs() as logged:
        async with mixed(
            tmp_path, local=local, beside=(Beside(accounts={"b": "sim-1"}),), models=models
        ) as relay:
            for name in names:
                talk = Conversation(relay, local, name=name)
                assert await talk.codex_got(name) == whole(2), name
                assert await talk.local_got() == whole(3), name
                assert [told["client_session"] for told in switches(logged)] == [name]
                logged.clear()


async def test_a_client_that_names_no_session_is_warned_once_for_each_conversation(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator()
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local) as relay:
            first = Conversation(relay, local, name=None)
            other = Conversation(relay, local, name=None, about="letters")
            assert await first.local_got() == compacted(2)
            assert await first.codex_got() == whole(3)
            assert await other.local_got() == compacted(2), "another conversation is not concerned"
            assert await first.codex_got() == whole(4)
            assert len(switches(logged)) == 1
            assert await other.codex_got() == whole(3)
            assert len({told["session"] for told in switches(logged)}) == 2
            assert await first.local_got() == whole(5)
    assert len(switches(logged)) == 2


async def test_of_two_turns_at_once_one_warns(tmp_path: Path) -> None:
    local = OpenAISimulator()
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local) as relay:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(Conversation(relay, local).turn, CODEX)
            assert len(relay.asked) == 2
    assert len(switches(logged)) == 1


async def test_compression_goes_on_where_compaction_has_ended(tmp_path: Path) -> None:
    local = OpenAISimulator()
    compression = CompressionSettings(enabled=True, min_bytes=200, disable_categories=())
    async with mixed(tmp_path, local=local, compression=compression) as relay:
        talk = Conversation(relay, local)
        await talk.turn(CODEX)
        first, second = results_of(relay.asked[-1].body)
        assert len(first) < 1000
        assert len(second) < 1000, "both were compressed, none is a stub"
        await talk.turn(LOCAL)
        assert results_of(local.turns[-1].body)[:2] == [first, second], "the same bytes again"


async def test_while_the_switch_cannot_be_stored_every_turn_tries_again(tmp_path: Path) -> None:
    local, store = OpenAISimulator(), MemoryStore(unwritable=True)
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local) as relay:
            relay.services.sessions.store = store
            talk = Conversation(relay, local)
            assert await talk.local_got() == compacted(2)
            assert await talk.codex_got() == whole(3)
            assert await talk.codex_got() == whole(4)
            assert await talk.local_got() == whole(5)
            assert len(store.saves) >= 3
            store.unwritable = False
            assert await talk.local_got() == whole(6)
            assert [kept.uncompacted for kept in store.rows.values()] == [True]
    told, failed = (line for line in logged if line["log_level"] == "warning")
    assert "compaction" in told["event"]
    assert "could not be stored" in failed["event"]


async def test_the_switch_outlives_a_restart(tmp_path: Path) -> None:
    local = OpenAISimulator()
    with capture_logs() as logged:
        async with mixed(tmp_path / "1", local=local) as relay:
            talk = Conversation(relay, local)
            assert await talk.local_got() == compacted(2)
            assert await talk.codex_got() == whole(3)
        (tmp_path / "2").mkdir()
        (tmp_path / "1" / "state").rename(tmp_path / "2" / "state")
        again = OpenAISimulator()
        async with mixed(tmp_path / "2", local=again) as relay:
            talk = attrs.evolve(talk, relay=relay, local=again)
            assert await talk.local_got() == whole(4)
            assert await talk.codex_got() == whole(5)
    assert len(switches(logged)) == 1


async def test_a_failover_to_codex_counts_before_its_request_is_built(tmp_path: Path) -> None:
    local = OpenAISimulator()
    models = ModelsSettings(routes={"coder": (LOCAL, CODEX)})
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local, models=models) as relay:
            talk = Conversation(relay, local)
            await talk.turn("coder")
            assert told_results(local.turns[-1].body) == compacted(2)
            assert relay.asked == []
            local.queue_faults("503", "503", "503")
            answer = await talk.turn("coder")
            assert told_results(local.turns[-1].body) == compacted(3)
            assert told_results(relay.asked[-1].body) == whole(3)
            assert answer.headers["x-codexrelay-account"] == "sim-1"
            assert int(answer.headers["x-codexrelay-attempts"]) == len(local.turns)
            assert len(switches(logged)) == 1
            local.forget_faults()
            # It is unwell for some seconds, so Codex is asked first.
            await talk.turn("coder")
            assert told_results(relay.asked[-1].body) == whole(4)
            assert await talk.local_got() == whole(5)
    assert len(switches(logged)) == 1


# what is told of it


async def test_savings_are_in_the_log_the_journal_and_the_figures(tmp_path: Path) -> None:
    local = OpenAISimulator()
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local) as relay:
            talk = Conversation(relay, local)
            for _ in range(2):
                answer = await talk.turn(LOCAL)
            first, second = (line for line in logged if line["event"] == "turn completed")
            assert first["backend"] == "local"
            assert first["compaction_saved_bytes"] > 3000
            assert first["compaction_saved_tokens"] > 700
            both = first["compaction_saved_bytes"] + second["compaction_saved_bytes"]
            assert second["session_saved_bytes"] == both
            line = await relay.journal(answer.headers["x-codexrelay-request-id"])
            assert line["compaction_saved_bytes"] == second["compaction_saved_bytes"]
            assert line["session_saved_bytes"] == both
            figures = (await relay.http.get("/metrics")).text
            assert f'codexrelay_saved_bytes_total{{by="compaction"}} {both}.0' in figures
            [session] = re.findall(
                r'codexrelay_session_saved_bytes\{by="compaction",session="(.+?)"\}', figures
            )
            assert session == line["session"]
            await talk.turn(CODEX)
            line = [line for line in logged if line["event"] == "turn completed"][-1]
            assert line["backend"] == "openai-codex"
            assert "compaction_saved_bytes" not in line


async def test_a_history_that_stays_too_long_is_told_once(tmp_path: Path) -> None:
    local = OpenAISimulator()
    compaction = attrs.evolve(COMPACTION, max_tokens=100)
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local, compaction=compaction) as relay:
            talk = Conversation(relay, local)
            await talk.local_got()
            await talk.local_got()
    [told] = switches(logged)
    assert told["max_tokens"] == 100


# what the clients themselves compact


async def test_the_clients_own_compaction_is_not_for_a_backend_that_speaks_chat(
    tmp_path: Path,
) -> None:
    async with mixed(tmp_path) as relay:
        body: JsonObject = {"model": LOCAL, "input": input_items(2, "Sum it up")}
        answer = await relay.post("/v1/responses/compact", body)
        assert answer.status_code == 400
        error = get_object(parse_object(answer.content), "error")
        assert error["code"] == "compaction_not_offered"
        assert "backend local" in (get_text(error, "message") or "")


async def test_the_clients_own_compaction_goes_to_the_first_backend_that_has_it(
    tmp_path: Path,
) -> None:
    models = ModelsSettings(routes={"coder": (LOCAL, CODEX)})
    with capture_logs() as logged:
        async with mixed(tmp_path, models=models) as relay:
            items = input_items(2, "Sum it up")
            body: JsonObject = {"model": "coder", "input": items}
            answer = await relay.post("/v1/responses/compact", body)
            assert answer.status_code == 200, answer.text
            [seen] = [s for s in relay.simulator.seen if s.path.endswith("/responses/compact")]
            assert is_object(seen.body)
            assert get_list(seen.body, "input") == items
            assert get_text(seen.body, "model") == "gpt-5.5"
    assert len(switches(logged)) == 1


async def test_the_clients_own_compaction_goes_on_where_the_first_backend_has_it_not(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator(wire="responses")
    models = ModelsSettings(routes={"coder": (LOCAL, CODEX)})
    body: JsonObject = {"model": "coder", "input": input_items(2, "Sum it up")}
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local, models=models) as relay:
            answer = await relay.post("/v1/responses/compact", body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-codexrelay-account"] == "sim-1"
            assert answer.headers["x-codexrelay-attempts"] == "2"
            assert len(switches(logged)) == 1


async def test_of_the_faults_of_the_clients_own_compaction_the_most_hopeful_is_told(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator(wire="responses")
    models = ModelsSettings(routes={"coder": (CODEX, LOCAL)})
    body: JsonObject = {"model": "coder", "input": input_items(2, "Sum it up")}
    async with mixed(tmp_path, local=local, models=models, signed_in=False) as relay:
        answer = await relay.post("/v1/responses/compact", body)
        assert len(local.turns) == 1, "which has no such path"
        assert answer.status_code == 401


async def test_an_instance_that_there_is_not_turns_nothing_off(tmp_path: Path) -> None:
    local = OpenAISimulator()
    with capture_logs() as logged:
        async with mixed(tmp_path, local=local) as relay:
            talk = Conversation(relay, local)
            for path in ("/v1/responses", "/v1/responses/compact", "/v1/chat/completions"):
                body: JsonObject = {"model": "openai-codex.9:gpt-5.5", "input": "hello"}
                body |= {"messages": chat_messages(1, SAY)} if "chat" in path else {}
                named = {"x-session-id": talk.name or ""}
                answer = await relay.post(path, body, headers=named)
                assert answer.status_code == 400
                assert answer.json()["error"]["code"] == "backend_not_found"
            assert await talk.local_got() == compacted(2)
    assert switches(logged) == []


async def test_the_clients_own_compaction_passes_to_a_backend_that_speaks_responses(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator(wire="responses")
    async with mixed(tmp_path, local=local) as relay:
        body: JsonObject = {"model": LOCAL, "input": input_items(3, "Sum it up")}
        answer = await relay.post("/v1/responses/compact", body)
        [seen] = local.turns
        assert seen.path == "/v1/responses/compact"
        assert seen.body == {**body, "model": "local-model"}, "it is never compacted"
        assert answer.status_code == 404, "this backend has no such path, and says so itself"


async def test_with_keys_the_same_name_is_another_session_for_another_client(
    tmp_path: Path,
) -> None:
    local = OpenAISimulator()
    keys = ("client-key-0123456789", "client-key-abcdefghij")
    server = ServerSettings(client_keys=keys)
    async with mixed(tmp_path, local=local, server=server, backend=with_accounts()) as relay:
        talk = Conversation(relay, local)
        relay.http.headers["authorization"] = f"Bearer {keys[0]}"
        await talk.turn(CODEX)
        assert await talk.local_got() == whole(3)
        relay.http.headers["authorization"] = f"Bearer {keys[1]}"
        assert await talk.local_got() == compacted(4)
