"""Models of backends of other kinds: in the list, by name, and in routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from codexrelay.config.settings import ModelsSettings
from codexrelay.errors import RequestError
from codexrelay.protocol.model_choice import ModelChoice
from codexrelay.server.models import choose_models, fit_model
from harness.openai_api import OpenAISimulator
from tests.fakes.relay import LiveRelay, relaying

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAMES: Final = ModelsSettings(
    aliases={"fast": "local:qwen3?reasoning_effort=low"},
    routes={"coder": ("local:qwen3", "openai-codex:gpt-5.5-high"), "dead": ("openai-codex.9:x",)},
)


def asked_for_models(api: OpenAISimulator) -> int:
    return sum("/models" in seen.path for seen in api.seen)


def change(relay: LiveRelay, *, local: Sequence[str] | None = None, **settings: object) -> None:
    """Let other settings act, as a reload does; `local` are the models of that backend."""
    current = relay.services.current
    backends = current.settings.backends
    if local is not None:
        ((name, block),) = backends.others
        others = ((name, attrs.evolve(block, models=tuple(local))),)
        backends = attrs.evolve(backends, others=others)
    current.settings = attrs.evolve(current.settings, backends=backends, **settings)


def ids(body: dict[str, Any], owner: str) -> list[str]:
    return [entry["id"] for entry in body["data"] if entry["owned_by"] == owner]


async def test_they_are_listed_with_their_backend_before_the_name_and_routes_beside_aliases(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator(models=("qwen3", "org/b"))
    async with relaying(tmp_path, others={"local": api}, models=_NAMES) as relay:
        body = (await relay.http.get("/v1/models")).json()
        assert ids(body, "local") == ["local:qwen3", "local:org/b"]
        assert ids(body, "codexrelay") == ["fast", "coder"]
        assert "gpt-5.5" in ids(body, "openai")
        slugs = {entry["slug"] for entry in body["models"]}
        assert "gpt-5.5" in slugs
        assert not any("qwen3" in slug for slug in slugs), "Codex CLI is told of Codex's alone"
        found = {
            name: (await relay.http.get(f"/v1/models/{name}")).status_code
            for name in ("local:qwen3", "LOCAL/org/b", "fast", "coder", "local:nothing", "dead")
        }
        assert [name for name, status in found.items() if status == 404] == [
            "local:nothing",
            "dead",
        ]


async def test_a_list_in_the_configuration_is_the_list_and_nobody_is_asked(tmp_path: Path) -> None:
    api = OpenAISimulator(models=("qwen3",))
    async with relaying(tmp_path, others={"local": api}) as relay:
        change(relay, local=["mine"])
        body = (await relay.http.get("/v1/models")).json()
        assert ids(body, "local") == ["local:mine"]
        assert asked_for_models(api) == 0


async def test_a_backend_that_gives_no_list_has_none_and_costs_the_others_nothing(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator(key="a-key")
    async with relaying(tmp_path, others={"local": api}) as relay:
        api.key = "another-key"
        answer = await relay.http.get("/v1/models")
        assert answer.status_code == 200
        assert ids(answer.json(), "local") == []
        assert "gpt-5.5" in ids(answer.json(), "openai")


async def test_the_tag_of_the_list_tells_all_that_is_in_it(tmp_path: Path) -> None:
    async with relaying(tmp_path, others={"local": OpenAISimulator()}) as relay:
        tags = []
        for settings in (
            {"local": ["a"]},
            {"local": ["b"]},
            {"models": ModelsSettings(routes={"r": ("local:b",)})},
            {"models": ModelsSettings(routes={"r": ("local:b", "gpt-5.5")})},
            {"default_backend": "local"},
        ):
            change(relay, **settings)  # type: ignore[arg-type] - as it takes them
            answer = await relay.http.get("/v1/models")
            assert answer.status_code == 200
            tags.append(answer.headers["etag"])
            again = await relay.http.get("/v1/models", headers={"if-none-match": tags[-1]})
            assert again.status_code == 304
    assert len({*tags}) == len(tags)


async def test_names_are_read_by_the_settings_in_force(tmp_path: Path) -> None:
    low = ModelChoice(instance="local", slug="qwen3", effort="low")
    qwen3 = ModelChoice(instance="local", slug="qwen3")
    high = ModelChoice(instance="openai-codex", slug="gpt-5.5", effort="high")
    async with relaying(tmp_path, others={"local": OpenAISimulator()}, models=_NAMES) as relay:
        services = relay.services

        async def read(text: str) -> tuple[ModelChoice, ...]:
            return await choose_models(text, services)

        assert await read("fast") == (low,)
        assert await read("coder") == (qwen3, high)
        assert await read("coder?reasoning_effort=max") == tuple(
            attrs.evolve(each, effort="max") for each in (qwen3, high)
        )
        assert await read("qwen3") == (ModelChoice(slug="qwen3"),)
        change(relay, local=["qwen3"])
        assert await read("qwen3") == (qwen3,)
        change(relay, default_backend="local", models=ModelsSettings())
        assert await read("fast") == (ModelChoice(instance="local", slug="fast"),)


async def test_strict_is_about_the_catalogue_and_not_about_other_backends(tmp_path: Path) -> None:
    models = attrs.evolve(_NAMES, strict=True, routes={"both": ("local:x", "openai-codex:gpt-0")})
    async with relaying(tmp_path, others={"local": OpenAISimulator()}, models=models) as relay:
        assert await choose_models("local:anything-high", relay.services) == (
            ModelChoice(instance="local", slug="anything-high"),
        )
        assert relay.services.catalogue.now.source == "packaged", "nobody was asked"
        for text in ("gpt-0", "both"):
            with pytest.raises(RequestError, match="The model 'gpt-0' does not exist"):
                await choose_models(text, relay.services)


async def test_no_body_is_fitted_to_a_model_of_another_backend(tmp_path: Path) -> None:
    async with relaying(tmp_path, others={"local": OpenAISimulator()}) as relay:
        body = {"model": "gpt-5.5", "reasoning": {"effort": "ultra"}, "service_tier": "fast"}
        (choice,) = await choose_models("local:gpt-5.5?verbosity=low", relay.services)
        assert fit_model(body, choice, relay.services, spoken="responses") == (body, ())
        (choice,) = await choose_models("gpt-5.5", relay.services)
        fitted, adjusted = fit_model(body, choice, relay.services, spoken="responses")
        assert fitted != body
        assert adjusted
