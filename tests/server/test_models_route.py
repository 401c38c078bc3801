"""`GET /v1/models`: one list for OpenAI clients and for Codex CLI."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import openai
import pytest
import trio

from codexrelay.accounts.lender import RESCAN_S
from codexrelay.accounts.standing import Saving
from codexrelay.backends.codex.catalogue import packaged
from codexrelay.backends.codex.catalogue_file import CatalogueFile
from codexrelay.backends.codex.listing import Listing
from codexrelay.backends.codex.settings import (
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
    ModelCatalogSettings,
)
from codexrelay.config.settings import ModelsSettings, ServerSettings
from codexrelay.protocol.raw import dump, parse_object
from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.catalogue import MODELS
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import Beside, LiveRelay, ask, eventually, relaying
from tests.fakes.scripted_server import Caller, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject

_ALIASES: Final = ModelsSettings(
    aliases={"relay-model": "gpt-5.5?reasoning_effort=high", "Nowhere": "gpt-0"}
)


def catalogue(**settings: object) -> CodexBackendSettings:
    """The settings of a backend; `settings` are fields of `ModelCatalogSettings`."""
    own = ModelCatalogSettings(**settings)  # type: ignore[arg-type]
    return CodexBackendSettings(extra=ExtraSettings(codex=CodexSettings(model_catalog=own)))


def calls(relay: LiveRelay) -> list[str | None]:
    """The accounts on which the backend was asked for its models."""
    return [seen.account for seen in relay.simulator.seen if "/models" in seen.path]


@pytest.mark.parametrize("prefix", ["/v1", "", "/backend-api/codex"])
async def test_one_body_has_both_shapes(tmp_path: Path, prefix: str) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.get(f"{prefix}/models", params={"client_version": "0.169.0"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "list"
    assert {entry["slug"] for entry in body["models"]} == {model.slug for model in MODELS}
    assert {entry["id"] for entry in body["data"]} == {m.slug for m in MODELS if not m.hidden}
    assert body["models"][0]["supported_reasoning_levels"], "entries pass as they are"


async def test_the_list_says_what_is_known_of_a_model(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        data = (await relay.http.get("/v1/models")).json()["data"]
    [told] = [model for model in data if model["id"] == "gpt-6.1-terra"]
    assert told["context_window"] == 500_000
    assert told["max_context_window"] == 872_000
    assert told["input_modalities"] == ["text", "image"]
    assert told["reasoning_efforts"] == ["low", "medium", "high", "xhigh", "max", "ultra"]
    assert told["default_reasoning_effort"] == "low"
    assert "plus" in told["plans"]
    assert "free" not in told["plans"]


async def test_a_person_is_offered_only_what_one_of_our_plans_has(tmp_path: Path) -> None:
    accounts = (SimulatedAccount("a", plan="free"),)
    models = ModelsSettings(aliases={"paid": "gpt-6-sol", "free": "gpt-5.5"})
    async with relaying(tmp_path, Simulator(accounts=accounts), models=models) as relay:
        first = await relay.http.get("/v1/models")
        body = first.json()
        listed = {entry["id"] for entry in body["data"]}
        assert {"gpt-5.5", "free"} <= listed
        assert listed.isdisjoint({"gpt-6-sol", "paid"})
        assert all("free" in entry["plans"] for entry in body["data"])
        assert {entry["slug"] for entry in body["models"]} == {m.slug for m in MODELS}
        standing = relay.standing("a")
        standing.account = attrs.evolve(standing.account, plan_type="pro")
        etag = {"if-none-match": first.headers["etag"]}
        second = await relay.http.get("/v1/models", headers=etag)
        assert second.status_code == 200, "it is another list"
    assert {"gpt-6-sol", "paid"} <= {entry["id"] for entry in second.json()["data"]}


async def test_an_alias_that_can_reach_nothing_is_not_listed(tmp_path: Path) -> None:
    aliases = {
        "good": "openai-codex:gpt-5.5",
        "first": "openai-codex.1:gpt-5.5",
        "nine": "openai-codex.9:gpt-5.5",
        "chain": "Good",
        "loop": "loop",
        "wrong": "gpt-5.5?verbosity=loud",
        "gpt-5.4": "openai-codex.9:gpt-5.4",
    }
    async with relaying(tmp_path, models=ModelsSettings(aliases=aliases)) as relay:
        body = (await relay.http.get("/v1/models")).json()
        found = {
            alias: (await relay.http.get(f"/v1/models/{alias}")).status_code for alias in aliases
        }
    listed = {entry["id"] for entry in body["data"]}
    assert listed & aliases.keys() == {"good", "first"}
    assert {alias for alias, status in found.items() if status == 200} == {"good", "first"}


async def test_the_openai_sdk_lists_and_finds_models_and_aliases(tmp_path: Path) -> None:
    async with relaying(tmp_path, models=_ALIASES) as relay:
        client = openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key="sk-any", max_retries=0)
        async with client:
            listed = {model.id: model.owned_by async for model in client.models.list()}
            assert listed["gpt-5.5"] == "openai"
            assert listed["relay-model"] == "codexrelay"
            assert "Nowhere" not in listed, "it means nothing that there is"
            found = {
                text: await client.models.retrieve(text)
                for text in ("gpt-5.5", "openai-codex:GPT-5.5-high", "RELAY-model")
            }
            for text in ("gpt-0", "nowhere"):
                with pytest.raises(openai.NotFoundError, match="'gpt-0' does not exist") as caught:
                    await client.models.retrieve(text)
                assert "gpt-5.5, gpt-5.4" in str(caught.value), "those that do are named"
    assert {text: model.id for text, model in found.items()} == {
        "gpt-5.5": "gpt-5.5",
        "openai-codex:GPT-5.5-high": "gpt-5.5",
        "RELAY-model": "relay-model",
    }


async def test_who_has_the_list_already_is_not_sent_it_again(tmp_path: Path) -> None:
    async with relaying(tmp_path, models=_ALIASES) as relay:
        first = await relay.http.get("/v1/models")
        etag = first.headers["etag"]
        assert etag.startswith('W/"')
        for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
            again = await relay.http.get("/v1/models", headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        other = await relay.http.get("/v1/models", headers={"if-none-match": '"other"'})
        assert other.status_code == 200
        # The list is another one when the aliases are.
        settings = relay.services.current.settings
        relay.services.current.settings = attrs.evolve(settings, models=ModelsSettings())
        changed = await relay.http.get("/v1/models", headers={"if-none-match": etag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != etag


# the backend's list


async def test_the_backend_is_asked_once_for_many(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        for _ in range(3):
            await relay.http.get("/v1/models")
        [seen] = [seen for seen in relay.simulator.seen if "/models" in seen.path]
    assert seen.path.endswith("/models?client_version=0.169.0")
    assert seen.account == "sim-1"
    assert seen.header("accept") == "*/*"


async def test_each_plan_is_asked_on_an_account_of_its_own(tmp_path: Path) -> None:
    accounts = tuple(
        SimulatedAccount(name, plan=plan)
        for name, plan in (("a", "free"), ("b", "pro"), ("c", "free"), ("d", "plus"))
    )
    simulator = Simulator(accounts=accounts)
    beside = (Beside(accounts={"d": "d"}),)
    own = {name: name for name in "abc"}
    async with relaying(tmp_path, simulator, accounts=own, beside=beside) as relay:
        await relay.http.get("/v1/models")
        asked = sorted(map(str, calls(relay)))
        assert asked in (["a", "b", "d"], ["b", "c", "d"])
        listings = relay.services.catalogue.now.listings
    assert {listing.plan for listing in listings} == {"free", "pro", "plus"}


async def test_a_plan_whose_account_cannot_be_asked_takes_no_list_from_the_others(
    tmp_path: Path,
) -> None:
    accounts = (SimulatedAccount("a", plan="free"), SimulatedAccount("b", plan="pro"))
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        relay.simulator.revoke("b")
        answer = await relay.http.get("/v1/models")
        assert {entry["slug"] for entry in answer.json()["models"]} == {m.slug for m in MODELS}
        assert [each.plan for each in relay.services.catalogue.now.listings] == ["free"]
        assert set(relay.services.catalogue.failures) == {"pro"}


async def test_a_turn_that_shows_the_tag_of_a_list_that_is_not_there_brings_it(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as relay:
        await relay.post("/v1/responses", ask())
        await eventually(lambda: relay.services.catalogue.now.source == "backend")
        assert relay.services.catalogue.now.etags == {relay.simulator.models_etag}
        for _ in range(3):
            await relay.post("/v1/responses", ask())
        await relay.until_at_rest()
        assert len(calls(relay)) == 1, "the tag was the same"


async def test_what_the_backend_said_is_kept_for_the_next_run(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        await relay.http.get("/v1/models")
        file = CatalogueFile(relay.state, (relay.simulator.api_base_url,))
        await eventually(file.path.is_file)
        [kept] = file.load()
        assert kept == relay.services.catalogue.now.listings[0]
    assert (kept.plan, kept.client_version) == ("plus", "0.169.0")
    assert kept.etag == relay.simulator.models_etag


async def test_a_relay_without_a_network_knows_the_last_list(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/codex"  # the port of `discard`, where nobody listens
    kept = Listing(
        plan="plus",
        models=({"slug": "gpt-kept"},),
        etag=None,
        fetched_unix_s=1.0,  # so it is asked for anew, and nobody waits for that
        client_version="0.169.0",
    )
    CatalogueFile(tmp_path / "state", (nowhere,)).save([kept])
    async with relaying(tmp_path, backend=CodexBackendSettings(api_base_url=nowhere)) as relay:
        answer = (await relay.http.get("/v1/models")).json()
        assert answer["models"] == [{"slug": "gpt-kept"}]
        await eventually(lambda: bool(relay.services.catalogue.failures))
        assert relay.services.catalogue.now.source == "cache"


async def test_a_broken_file_is_ignored_and_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "models.json").write_bytes(b"{")
    async with relaying(tmp_path) as relay:
        answer = await relay.http.get("/v1/models")
        assert {entry["slug"] for entry in answer.json()["models"]} == {m.slug for m in MODELS}
        await eventually(lambda: (state / "models.json").read_bytes() != b"{")


# what the question costs the accounts


@asynccontextmanager
async def answering(
    folder: Path, answer: bytes, simulator: Simulator, *, auth_json: Path | None = None
) -> AsyncIterator[tuple[LiveRelay, list[bytes]]]:
    """Run a relay whose backend gives one answer only; also give the questions that have come.

    `auth_json` is the folder of Codex CLI's file, used instead of accounts of the relay's own.
    """
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        while question := await caller.request():
            asked.append(question)
            await caller.send(answer)

    async with serving(script) as upstream:
        backend = CodexBackendSettings(api_base_url=upstream.url)
        async with relaying(
            folder, simulator, backend=backend, signed_in=auth_json is None, auth_json=auth_json
        ) as relay:
            yield relay, asked


def answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


_REFUSALS: Final = {
    "401": answer(401, b'{"detail":"Unauthorized"}'),
    "402": answer(402, b'{"detail":{"code":"deactivated_workspace"}}'),
    "403": answer(403, b"<html>no</html>"),
    "throttled": answer(429, b'{"detail":"Too many"}'),
    "limited": answer(
        429, b'{"error":{"type":"usage_limit_reached","message":"x","resets_in_seconds":4000}}'
    ),
    "overloaded": answer(503, b'{"error":{"code":"server_is_overloaded"}}'),
}


@pytest.mark.parametrize("refusal", _REFUSALS.values(), ids=[*_REFUSALS])
async def test_a_question_that_is_refused_takes_no_account_from_any_turn(
    tmp_path: Path, refusal: bytes
) -> None:
    simulator = Simulator(accounts=tuple(map(SimulatedAccount, "abc")))
    async with answering(tmp_path, refusal, simulator) as (relay, asked):
        before = {path.name: path.read_bytes() for path in relay.store.iterdir()}
        known = (await relay.http.get("/v1/models")).json()["models"]
        assert known == packaged()
        assert len(asked) == 1, "one account, once"
        for name in "abc":
            obstacle = relay.standing(name).obstacle(now_unix_s=relay.services.wall_clock())
            assert obstacle is None
            assert relay.standing(name).saving is Saving.NO
        await relay.http.get("/v1/models")
        assert len(asked) == 1, "and not again at once"
        assert relay.refreshes == []
        assert {path.name: path.read_bytes() for path in relay.store.iterdir()} == before


async def test_the_next_question_goes_to_another_account(tmp_path: Path) -> None:
    simulator = Simulator(accounts=tuple(map(SimulatedAccount, "ab")))
    async with answering(tmp_path, _REFUSALS["401"], simulator) as (relay, asked):
        for _ in range(4):
            await relay.services.catalogue.refresh(anyway=True)
        bearers = [re.findall(rb"(?i)authorization: (.+)\r", each) for each in asked]
    assert bearers[0] == bearers[2] != bearers[1] == bearers[3]


@pytest.mark.parametrize("expired", [True, False], ids=["expired", "good"])
async def test_a_question_leaves_the_sign_in_of_codex_cli_alone(
    tmp_path: Path, expired: bool
) -> None:
    simulator = Simulator(accounts=(SimulatedAccount("home", expired=expired),))
    pair, folder = simulator.tokens("home"), tmp_path / "codex"
    folder.mkdir(mode=0o700)
    file = folder / "auth.json"
    tokens: JsonObject = {
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "account_id": simulator.accounts[0].account_id,
    }
    before = dump({"auth_mode": "chatgpt", "tokens": tokens})
    file.write_bytes(before)
    refusing = answering(tmp_path, _REFUSALS["401"], simulator, auth_json=folder)
    async with refusing as (relay, asked):
        await relay.http.get("/v1/models")
        assert len(asked) == (0 if expired else 1)
        assert relay.refreshes == []
    assert file.read_bytes() == before


# without the backend


async def test_without_an_account_the_packaged_list_is_served(tmp_path: Path) -> None:
    async with relaying(tmp_path, signed_in=False) as relay:
        answer = await relay.http.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json()["models"] == packaged()


async def test_where_discovery_is_off_the_backend_is_never_asked(tmp_path: Path) -> None:
    accounts = tuple(SimulatedAccount(plan, plan=plan) for plan in ("free", "pro"))
    backend = catalogue(discovery_enabled=False)
    async with relaying(tmp_path, Simulator(accounts=accounts), backend=backend) as relay:
        assert (await relay.http.get("/v1/models")).json()["models"] == packaged()
        await relay.post("/v1/responses", ask())
        await relay.post("/v1/responses", ask(model="gpt-0"))
        await relay.until_at_rest()
        assert calls(relay) == []


async def test_a_list_of_the_owners_replaces_the_packaged_one(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_bytes(dump({"models": [{"slug": "mine", "context_window": 5}]}))
    backend = catalogue(discovery_enabled=False, fallback_path=str(own))
    async with relaying(tmp_path, backend=backend) as relay:
        answer = await relay.http.get("/v1/models")
    assert [(m["id"], m["context_window"]) for m in answer.json()["data"]] == [("mine", 5)]


async def test_a_list_of_the_owners_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    backend = catalogue(discovery_enabled=False, fallback_path=str(tmp_path / "none.json"))
    async with relaying(tmp_path, backend=backend) as relay:
        assert (await relay.http.get("/v1/models")).json()["models"] == packaged()


async def test_a_client_that_leaves_leaves_the_question_to_the_relay(tmp_path: Path) -> None:
    asked, answer_now = trio.Event(), trio.Event()

    async def script(caller: Caller) -> None:
        while await caller.request():
            asked.set()
            await answer_now.wait()
            body = b'{"models":[{"slug":"late"}]}'
            await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with serving(script) as upstream:
        backend = CodexBackendSettings(api_base_url=upstream.url)
        async with relaying(tmp_path, backend=backend) as relay:
            async with relay.connect() as client:
                await client.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
                await asked.wait()
            answer_now.set()
            await eventually(lambda: list(relay.services.catalogue.now.by_slug) == ["late"])
            assert (await relay.http.get("/v1/models")).json()["models"] == [{"slug": "late"}]


async def test_who_waits_for_the_list_is_answered_when_the_relay_stops(tmp_path: Path) -> None:
    asked = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await caller.left()

    async with serving(script) as upstream:
        backend = CodexBackendSettings(api_base_url=upstream.url)
        server = ServerSettings(drain_grace_s=1000)
        async with relaying(tmp_path, backend=backend, server=server) as relay:
            async with relay.connect() as client:
                await client.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
                await asked.wait()
                relay.drain.begin()
                status, body = await client.receive_response()
            assert status == 200
            assert parse_object(body)["models"] == packaged()
            with trio.fail_after(PATIENCE_S):
                await relay.stopped.wait()


async def test_a_sign_in_is_seen_by_the_next_question(tmp_path: Path) -> None:
    async with relaying(tmp_path, signed_in=False) as relay:
        await relay.http.get("/v1/models")
        relay.simulator.write_store(relay.store)
        lender = relay.services.relay.instances.members[0].lender
        lender._scanned_unix_s -= RESCAN_S  # as if a second had gone by
        await relay.http.get("/v1/models")
        assert relay.services.catalogue.now.source == "backend"
        assert relay.services.catalogue.failures == {}


async def test_a_relay_that_stops_takes_its_question_with_it(tmp_path: Path) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.left()

    async with serving(script) as upstream:
        backend = attrs.evolve(catalogue(discovery_timeout_seconds=0.05), api_base_url=upstream.url)
        async with relaying(tmp_path, backend=backend) as relay:
            assert (await relay.http.get("/v1/models")).json()["models"] == packaged()
        await upstream.until_open(0)
