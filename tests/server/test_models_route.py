"""`GET /v1/models`: one list for OpenAI clients and for Codex CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from codexrelay.backends.codex.catalogue import packaged
from harness.simulator.catalogue import MODELS
from tests.fakes.relay import relaying

if TYPE_CHECKING:
    from pathlib import Path


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


async def test_the_openai_sdk_lists_and_finds_models(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        client = openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key="sk-any", max_retries=0)
        async with client:
            listed = [model.id async for model in client.models.list()]
            one = await client.models.retrieve("gpt-5.5")
            with pytest.raises(openai.NotFoundError, match="'gpt-0' does not exist"):
                await client.models.retrieve("gpt-0")
    assert one.id == "gpt-5.5"
    assert one.id in listed


async def test_the_backend_is_asked_once_for_many(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        for _ in range(3):
            await relay.http.get("/v1/models")
        [seen] = [seen for seen in relay.simulator.seen if "/models" in seen.path]
    assert seen.path.endswith("/models?client_version=0.169.0")
    assert seen.account == "sim-1"
    assert seen.header("accept") == "*/*"


async def test_without_an_account_the_packaged_list_is_served(tmp_path: Path) -> None:
    async with relaying(tmp_path, signed_in=False) as relay:
        answer = await relay.http.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json()["models"] == packaged()
