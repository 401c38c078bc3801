"""What a client may call a model, what the name asks for, and what is said of one nobody has.

On both protocols, streamed and whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from codexrelay.backends.codex.settings import (
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
    ModelCatalogSettings,
)
from codexrelay.config.settings import ModelsSettings
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.relay import Beside, ask, ask_chat, relaying

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

_WAYS: Final = {"responses": ("/v1/responses", ask), "chat": ("/v1/chat/completions", ask_chat)}
_ALIASES: Final = {
    "relay-model": "gpt-5.5?reasoning_effort=high&verbosity=low",
    "second": "openai-codex.2:gpt-5.5",
    "nowhere": "gpt-0",
}


@pytest.fixture(params=[*_WAYS])
def way(request: pytest.FixtureRequest) -> tuple[str, Callable[..., JsonObject]]:
    return _WAYS[request.param]


def asking(way: tuple[str, Callable[..., JsonObject]], **more: Json) -> tuple[str, JsonObject]:
    """Return path and body; effort and verbosity as the protocol has them."""
    path, body = way
    effort, verbosity = more.pop("effort", None), more.pop("verbosity", None)
    if body is ask_chat:
        more |= {"reasoning_effort": effort, "verbosity": verbosity}
    else:
        more |= {"reasoning": {"effort": effort}, "text": {"verbosity": verbosity}}
    return path, body() | more


def sent(relay: LiveRelay) -> dict[str, Any]:
    """Return what the backend was asked last: model, effort, verbosity and tier."""
    body: Any = relay.asked[-1].body
    return {
        "model": body["model"],
        "effort": (body.get("reasoning") or {}).get("effort"),
        "verbosity": (body.get("text") or {}).get("verbosity"),
        "tier": body.get("service_tier"),
    }


@pytest.mark.parametrize(
    ("model", "asked", "expected", "adjusted"),
    [
        ("gpt-5.5", {}, {}, None),
        ("GPT-5.5", {}, {}, None),
        ("openai/gpt-5.5", {}, {}, None),
        ("openai-codex:gpt-5.5-high", {}, {"effort": "high"}, None),
        ("gpt-5.5-high", {"effort": "low"}, {"effort": "high"}, None),
        (
            "gpt-5.5?reasoning_effort=ultra&verbosity=high",
            {"effort": "low", "verbosity": "low"},
            {"effort": "xhigh", "verbosity": "high"},
            "reasoning_effort=ultra->xhigh",
        ),
        ("gpt-5.5", {"effort": "max"}, {"effort": "xhigh"}, "reasoning_effort=max->xhigh"),
        ("gpt-5.5", {"effort": "none"}, {"effort": "low"}, "reasoning_effort=none->low"),
        ("gpt-5.5?service_tier=fast", {}, {"tier": "priority"}, None),
        ("relay-model", {"effort": "low"}, {"effort": "high", "verbosity": "low"}, None),
        (
            "Relay-Model?verbosity=high&reasoning_effort=max",
            {},
            {"effort": "xhigh", "verbosity": "high"},
            "reasoning_effort=max->xhigh",
        ),
        ("gpt-6-sol", {"effort": "ultra"}, {"model": "gpt-6-sol", "effort": "ultra"}, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_name_acts_on_the_wire_and_what_is_changed_is_told(
    tmp_path: Path,
    way: tuple[str, Callable[..., JsonObject]],
    stream: bool,
    model: str,
    asked: dict[str, Json],
    expected: dict[str, str],
    adjusted: str | None,
) -> None:
    async with relaying(tmp_path, models=ModelsSettings(aliases=_ALIASES)) as relay:
        answer = await relay.post(*asking(way, model=model, stream=stream, **asked))
        assert answer.status_code == 200, answer.text
        nothing = {"model": "gpt-5.5", "effort": None, "verbosity": None, "tier": None}
        assert sent(relay) == nothing | expected
    assert answer.headers.get("x-codexrelay-adjusted") == adjusted


async def test_an_alias_may_name_an_instance_and_what_is_written_before_it_another(
    tmp_path: Path,
) -> None:
    simulator = Simulator(accounts=(SimulatedAccount("a"), SimulatedAccount("b")))
    async with relaying(
        tmp_path,
        simulator,
        accounts={"a": "a"},
        beside=[Beside(accounts={"b": "b"})],
        models=ModelsSettings(aliases=_ALIASES),
    ) as relay:
        for name in ("second", "openai-codex:second", "openai-codex.1:second"):
            await relay.post("/v1/responses", ask(model=name))
        assert relay.accounts_asked == ["b", "b", "a"]


async def test_the_configured_effort_and_verbosity_are_for_those_that_ask_for_none(
    tmp_path: Path, way: tuple[str, Callable[..., JsonObject]]
) -> None:
    backend = CodexBackendSettings(extra=ExtraSettings(reasoning_effort="ultra", verbosity="high"))
    async with relaying(tmp_path, backend=backend) as relay:
        answer = await relay.post(*asking(way))
        assert (sent(relay)["effort"], sent(relay)["verbosity"]) == ("xhigh", "high")
        assert answer.headers["x-codexrelay-adjusted"] == "reasoning_effort=ultra->xhigh"
        await relay.post(*asking(way, effort="low", verbosity="low"))
        assert (sent(relay)["effort"], sent(relay)["verbosity"]) == ("low", "low")


@pytest.mark.parametrize(
    ("more", "param", "told"),
    [
        ({"model": "gpt-5.5?effort=high"}, "model", "no parameter 'effort'; there are: reasoning"),
        ({"model": "gpt-5.5?verbosity=loud"}, "model", "is none of: low, medium, high"),
        ({"effort": "much"}, "effort", "'gpt-5.5' takes: low, medium, high, xhigh"),
        ({"verbosity": "loud"}, "verbosity", "takes: low, medium, high"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_nobody_is_asked(
    tmp_path: Path,
    way: tuple[str, Callable[..., JsonObject]],
    more: dict[str, Json],
    param: str,
    told: str,
) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post(*asking(way, **more))
        assert relay.asked == []
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert told in error["message"]
    assert param in error["param"]


def is_unknown(answer: httpx.Response) -> str:
    """Check the refusal of a model, and return its words."""
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )
    return str(error["message"])


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", ["gpt-0", "openai-codex:gpt-0?reasoning_effort=ultra", "nowhere"])
async def test_a_strict_relay_refuses_what_the_catalogue_does_not_have_itself(
    tmp_path: Path, way: tuple[str, Callable[..., JsonObject]], stream: bool, model: str
) -> None:
    models = ModelsSettings(aliases=_ALIASES, strict=True)
    async with relaying(tmp_path, models=models) as relay:
        told = is_unknown(await relay.post(*asking(way, model=model, stream=stream)))
        assert relay.asked == [], "nothing went upstream"
        answer = await relay.post(*asking(way, model="relay-model", stream=stream))
        assert answer.status_code == 200
    assert "'gpt-0' does not exist" in told
    assert "available: gpt-6.1-sol" in told


async def test_a_strict_relay_asks_the_backend_before_it_refuses(tmp_path: Path) -> None:
    async with relaying(tmp_path, models=ModelsSettings(strict=True)) as relay:
        answer = await relay.post("/v1/responses", ask(model="gpt-5.4"))  # not in the packaged list
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("model", ["gpt-5.4-high", "quick"])
async def test_a_name_that_ends_in_an_effort_waits_for_the_first_list(
    tmp_path: Path, way: tuple[str, Callable[..., JsonObject]], model: str
) -> None:
    models = ModelsSettings(aliases={"quick": "gpt-5.4-high"})
    async with relaying(tmp_path, models=models) as relay:
        answer = await relay.post(*asking(way, model=model))
        assert answer.status_code == 200, answer.text
        assert (sent(relay)["model"], sent(relay)["effort"]) == ("gpt-5.4", "high")
        is_unknown(await relay.post(*asking(way, model="gpt-0-high")))
        assert sent(relay)["model"] == "gpt-0-high"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_else_the_backend_decides_and_its_words_are_told_with_what_is_available(
    tmp_path: Path, way: tuple[str, Callable[..., JsonObject]], stream: bool
) -> None:
    simulator = Simulator(accounts=(SimulatedAccount("a", plan="free"),))
    async with relaying(tmp_path, simulator) as relay:
        body = asking(way, model="openai-codex:gpt-0", stream=stream, effort="ultra")
        told = is_unknown(await relay.post(*body))
        assert sent(relay)["model"] == "gpt-0"
        assert sent(relay)["effort"] == "ultra", "what is not known is not judged"
        hosts = {seen.header("host") for seen in relay.simulator.seen}
        assert len(hosts) == 1, "no other API was asked"
        again = is_unknown(await relay.post(*body))
        assert len(relay.asked) == 1
    words_of_the_backend = (
        "The backend said: The 'gpt-0' model is not supported when using Codex with a ChatGPT "
        "account."
    )
    assert told.endswith(words_of_the_backend)
    assert "The backend said" not in again, "nobody said so this time"
    for words in (told, again):
        assert "Available: gpt-5.5, gpt-5.4," in words
        assert "gpt-6-sol" not in words, "no plan of ours has it"
        assert "models.aliases" in words


async def test_where_no_list_is_asked_for_a_refusal_says_nothing_of_plans_either(
    tmp_path: Path,
) -> None:
    own = CodexSettings(model_catalog=ModelCatalogSettings(discovery_enabled=False))
    backend = CodexBackendSettings(extra=ExtraSettings(codex=own))
    async with relaying(tmp_path, backend=backend) as relay:
        told = is_unknown(await relay.post("/v1/responses", ask(model="gpt-0")))
    assert told.startswith("The backend gives no account the model 'gpt-0'; `GET /v1/models`")
    assert "Available: gpt-6.1-sol" in told
    assert "plan" not in told


async def test_aliases_and_strictness_may_change_while_the_relay_runs(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        current = relay.services.current
        models = ModelsSettings(aliases={"mine": "gpt-5.5"}, strict=True)
        current.settings = attrs.evolve(current.settings, models=models)
        assert (await relay.post("/v1/responses", ask(model="mine"))).status_code == 200
        is_unknown(await relay.post("/v1/responses", ask(model="gpt-0")))
