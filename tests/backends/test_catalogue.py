"""Where the model list comes from, and when it is asked for."""

from __future__ import annotations

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.codex import catalogue
from codexrelay.backends.codex.catalogue import Catalogue, packaged
from codexrelay.errors import NoAccountError
from codexrelay.protocol.raw import JsonObject
from tests.fakes.virtual_time import in_virtual_time

LIVE: list[JsonObject] = [{"slug": "live"}]


@attrs.define(eq=False)
class Backend:
    """Answers as told, after a while, and counts."""

    answer: list[JsonObject] | Exception = attrs.field(factory=lambda: list(LIVE))
    takes_s: float = 1.0
    asked: int = 0

    async def fetch(self) -> list[JsonObject]:
        self.asked += 1
        await trio.sleep(self.takes_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@in_virtual_time
async def test_the_backends_list_is_served_and_remembered_for_its_time() -> None:
    backend = Backend()
    models = Catalogue(backend.fetch, ttl_s=300)
    assert await models.models() == LIVE
    await trio.sleep(299)
    await models.models()
    assert backend.asked == 1
    await trio.sleep(2)
    await models.models()
    assert backend.asked == 2


@in_virtual_time
async def test_the_clock_can_be_another() -> None:
    backend, now = Backend(), [1000.0]
    models = Catalogue(backend.fetch, lambda: now[0])
    await models.models()
    await trio.sleep(80_000)
    await models.models()
    assert backend.asked == 1
    now[0] += 301
    await models.models()
    assert backend.asked == 2


@in_virtual_time
async def test_requests_that_come_together_ask_once() -> None:
    backend, got = Backend(), []
    models = Catalogue(backend.fetch)

    async def ask() -> None:
        got.append(await models.models())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert got == [LIVE] * 5
    assert backend.asked == 1


@in_virtual_time
async def test_a_request_that_leaves_while_it_asks_leaves_nothing_behind() -> None:
    backend, got = Backend(takes_s=2), []
    models = Catalogue(backend.fetch)

    async def ask() -> None:
        got.append(await models.models())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(ask)  # waits behind this one, then asks itself
            await models.models()
    assert got == [LIVE]
    assert backend.asked == 2
    assert await models.models() == LIVE
    assert backend.asked == 2


@in_virtual_time
async def test_a_request_that_leaves_while_it_waits_disturbs_nobody() -> None:
    backend = Backend(takes_s=2)
    models = Catalogue(backend.fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.models)
        await trio.sleep(1)
        with trio.move_on_after(0.5):
            await models.models()
    assert await models.models() == LIVE
    assert backend.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        LookupError("no account"),
        NoAccountError(looked_in="nowhere"),
        httpx.ConnectError("refused"),
        ValueError("no JSON"),
        [],
    ],
    ids=["lookup", "no account", "no connection", "no JSON", "empty list"],
)
@in_virtual_time
async def test_the_packaged_list_is_served_until_the_backend_answers(
    answer: list[JsonObject] | Exception,
) -> None:
    backend = Backend(answer)
    models = Catalogue(backend.fetch)
    assert await models.models() == packaged()
    backend.answer = LIVE
    assert await models.models() == packaged()
    assert backend.asked == 1
    await trio.sleep(catalogue.AGAIN_S)
    assert await models.models() == LIVE


@in_virtual_time
async def test_the_last_list_of_the_backend_is_better_than_the_packaged_one() -> None:
    backend = Backend()
    models = Catalogue(backend.fetch, ttl_s=10)
    await models.models()
    backend.answer = LookupError("gone")
    await trio.sleep(11)
    assert await models.models() == LIVE
    assert backend.asked == 2


@in_virtual_time
async def test_a_backend_that_does_not_answer_is_waited_for_a_few_seconds() -> None:
    models = Catalogue(Backend(takes_s=1000).fetch)
    began_at_s = trio.current_time()
    assert await models.models() == packaged()
    assert trio.current_time() - began_at_s == pytest.approx(catalogue.FETCH_S)


@in_virtual_time
async def test_a_bug_reaches_the_request_that_met_it_and_no_other() -> None:
    backend = Backend(TypeError("a bug"))
    models = Catalogue(backend.fetch)
    with pytest.raises(TypeError):
        await models.models()
    backend.answer = LIVE
    assert await models.models() == LIVE


# which plans have a model


@in_virtual_time
async def test_the_backends_own_list_says_which_plans_have_a_model() -> None:
    live: list[JsonObject] = [
        {"slug": "paid", "available_in_plans": ["plus", "pro", 5]},
        {"slug": "silent"},
        {"slug": "empty", "available_in_plans": []},
        {"available_in_plans": ["plus"]},
    ]
    models = Catalogue(Backend(live).fetch)
    assert models.plans_offering("paid") is None, "the packaged list is not asked"
    assert models.named_plans == frozenset()
    await models.models()
    assert models.plans_offering("paid") == {"plus", "pro"}
    for slug in ("silent", "empty"):
        assert models.plans_offering(slug) is None
    assert models.plans_offering("never heard of") == frozenset()
    assert models.named_plans == {"plus", "pro"}


@in_virtual_time
async def test_while_the_backend_gives_no_list_its_last_one_holds() -> None:
    backend = Backend([{"slug": "m", "available_in_plans": ["pro"]}])
    models = Catalogue(backend.fetch, ttl_s=300)
    await models.models()
    backend.answer = LookupError("gone")
    await trio.sleep(301)
    await models.models()
    assert backend.asked == 2
    assert models.plans_offering("m") == {"pro"}


@in_virtual_time
async def test_a_list_that_is_wanted_is_asked_for_behind_the_scenes_and_only_when_it_is_old() -> (
    None
):
    backend = Backend([{"slug": "m", "available_in_plans": ["pro"]}])
    models = Catalogue(backend.fetch, ttl_s=300)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.keep_fresh)
        await trio.sleep(1000)
        assert backend.asked == 0, "nobody wanted it"
        for _ in range(3):
            models.want()
        await trio.sleep(2)
        assert (backend.asked, models.plans_offering("m")) == (1, {"pro"})
        models.want()
        await trio.sleep(200)
        assert backend.asked == 1
        await trio.sleep(100)
        models.want()
        await trio.sleep(2)
        assert backend.asked == 2
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_bug_behind_the_scenes_ends_nobody_and_is_not_met_again_at_once() -> None:
    backend = Backend(RuntimeError("a bug"))
    models = Catalogue(backend.fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.keep_fresh)
        for _ in range(5):
            models.want()
            await trio.sleep(2)
        assert backend.asked == 1
        backend.answer = LIVE
        await trio.sleep(catalogue.AGAIN_S)
        models.want()
        await trio.sleep(2)
        assert await models.models() == LIVE
        assert backend.asked == 2
        nursery.cancel_scope.cancel()


def test_the_packaged_list_names_the_models_of_codex_cli() -> None:
    models = packaged()
    assert len({model["slug"] for model in models}) == len(models) == 12
    by_priority = sorted(models, key=lambda model: float(str(model["priority"])))
    assert by_priority == models
    assert models[0]["slug"] == "gpt-6.1-sol"
    hidden = [m["slug"] for m in models if m["visibility"] == "hide"]
    assert hidden == ["gpt-daybreak-blue-latest", "gpt-daybreak-red-latest", "codex-auto-review"]
    assert [m["slug"] for m in models if not m["use_responses_lite"]] == ["gpt-5.5"]


@pytest.mark.parametrize("model", packaged(), ids=lambda model: model["slug"])
def test_a_packaged_entry_has_what_codex_cli_decodes(model: JsonObject) -> None:
    # The fields without which Codex CLI 0.169 was never seen to send or take an entry.
    needed = {
        "slug", "display_name", "description", "visibility", "supported_in_api", "priority",
        "default_reasoning_level", "supported_reasoning_levels", "shell_type", "base_instructions",
        "support_verbosity", "default_verbosity", "apply_patch_tool_type", "truncation_policy",
        "context_window", "max_context_window", "input_modalities", "tool_mode",
        "experimental_supported_tools", "use_responses_lite", "availability_nux", "upgrade",
    }  # fmt: skip
    assert needed <= set(model)
    levels = model["supported_reasoning_levels"]
    assert isinstance(levels, list)
    efforts = [level["effort"] for level in levels if isinstance(level, dict)]
    assert model["default_reasoning_level"] in efforts
    assert efforts == ["low", "medium", "high", "xhigh", "max", "ultra"][: len(efforts)]
