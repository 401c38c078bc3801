"""Where the model list comes from, and when it is asked for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.codex import catalogue
from codexrelay.backends.codex.catalogue import Catalogue, Models, packaged
from codexrelay.backends.codex.listing import Listing
from codexrelay.errors import NoAccountError
from codexrelay.protocol.raw import JsonObject
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

LIVE: list[JsonObject] = [{"slug": "live"}]


def listing(
    *models: JsonObject, plan: str | None = None, etag: str | None = None, age_s: float = 0.0
) -> Listing:
    return Listing(
        plan=plan,
        models=models or tuple(LIVE),
        etag=etag,
        fetched_unix_s=NOW_UNIX_S - age_s,
        client_version="1",
    )


@attrs.define(eq=False)
class Backend:
    """Answers as told, after a while, and notes for which plan it was asked."""

    answer: tuple[JsonObject, ...] | Exception = tuple(LIVE)
    takes_s: float = 1.0
    etag: str | None = None
    asked: list[str | None] = attrs.field(factory=list)
    #: Plans for which there is no list.
    lacks: frozenset[str] = frozenset()
    saved: list[list[str | None]] = attrs.field(factory=list)

    async def fetch(self, plan: str | None) -> Listing:
        self.asked.append(plan)
        await trio.sleep(self.takes_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        if plan in self.lacks:
            raise LookupError("its quota is spent")
        return listing(*self.answer, plan=plan, etag=self.etag)

    def save(self, listings: Iterable[Listing]) -> None:
        """See `Shelf.save`."""
        self.saved.append([each.plan for each in listings])


@asynccontextmanager
async def kept_fresh(models: Catalogue) -> AsyncIterator[Catalogue]:
    """Run what the process runs beside the requests."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.keep_fresh)
        yield models
        nursery.cancel_scope.cancel()


async def a_while() -> None:
    """Let a question be asked and answered behind the scenes."""
    await trio.sleep(2)


# what requests wait for


@in_virtual_time
async def test_the_first_request_waits_for_the_backends_list_and_no_other_does() -> None:
    backend = Backend()
    async with kept_fresh(Catalogue(backend.fetch, ttl_s=300)) as models:
        began_at_s = trio.current_time()
        first = await models.models()
        assert (first.entries, first.source) == (LIVE, "backend")
        assert trio.current_time() - began_at_s == backend.takes_s
        await trio.sleep(400)
        backend.answer = ({"slug": "newer"},)
        began_at_s = trio.current_time()
        assert (await models.models()).entries == LIVE, "old, but nobody waits"
        assert trio.current_time() == began_at_s
        await a_while()
        assert (await models.models()).entries == [{"slug": "newer"}]
        assert len(backend.asked) == 2


@in_virtual_time
async def test_a_list_is_believed_for_its_time() -> None:
    backend, now_s = Backend(), [1000.0]
    async with kept_fresh(Catalogue(backend.fetch, clock=lambda: now_s[0], ttl_s=300)) as models:
        await models.models()
        for later_s, asked in ((299, 1), (2, 2)):
            now_s[0] += later_s
            await models.models()
            await a_while()
            assert len(backend.asked) == asked


@in_virtual_time
async def test_requests_that_come_together_ask_once() -> None:
    backend, got = Backend(), []
    async with kept_fresh(Catalogue(backend.fetch)) as models:

        async def ask() -> None:
            got.append((await models.models()).entries)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
    assert got == [LIVE] * 5
    assert len(backend.asked) == 1


@in_virtual_time
async def test_a_request_that_leaves_disturbs_neither_the_question_nor_those_that_wait() -> None:
    backend, got = Backend(takes_s=2), []
    async with kept_fresh(Catalogue(backend.fetch)) as models:

        async def ask() -> None:
            got.append((await models.models()).entries)

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                nursery.start_soon(ask)
                await models.models()
        assert got == [LIVE]
        assert (await models.models()).entries == LIVE
        assert len(backend.asked) == 1


@in_virtual_time
async def test_who_comes_while_the_question_is_under_way_waits_for_its_answer() -> None:
    backend = Backend(takes_s=4)
    async with kept_fresh(Catalogue(backend.fetch)) as models:
        models.want()
        await a_while()
        assert (await models.refreshed()).entries == LIVE
        assert len(backend.asked) == 1


@in_virtual_time
async def test_when_all_have_left_the_answer_is_there_for_the_next_one() -> None:
    backend = Backend(takes_s=2)
    async with kept_fresh(Catalogue(backend.fetch)) as models:
        with trio.move_on_after(1):
            await models.models()
        await trio.sleep(1.5)
        assert models.now.entries == LIVE
        assert len(backend.asked) == 1


@in_virtual_time
async def test_the_process_takes_its_question_with_it() -> None:
    backend = Backend(takes_s=1000)
    models = Catalogue(backend.fetch, fetch_s=2000)
    async with kept_fresh(models):
        models.want()
        await a_while()
    assert models.now.source == "packaged", "and nothing hangs"


@in_virtual_time
async def test_what_failed_is_asked_again_at_once_when_the_accounts_have_changed() -> None:
    backend, accounts = Backend(LookupError("no account")), ["a"]
    models = Catalogue(backend.fetch, accounts=lambda: tuple(accounts))
    async with kept_fresh(models):
        for _ in range(2):
            await models.models()
        assert len(backend.asked) == 1
        accounts.append("b")
        for _ in range(2):
            await models.models()
        assert len(backend.asked) == 2
        backend.answer = tuple(LIVE)
        accounts.append("c")
        assert (await models.models()).source == "backend"
        accounts.append("d")
        await models.models()
        await a_while()
        assert len(backend.asked) == 3, "nothing has failed"


@pytest.mark.parametrize(
    "answer",
    [
        LookupError("no account"),
        NoAccountError(looked_in="nowhere"),
        httpx.ConnectError("refused"),
        ValueError("no JSON"),
    ],
    ids=["lookup", "no account", "no connection", "no JSON"],
)
@in_virtual_time
async def test_the_packaged_list_is_served_until_the_backend_answers(answer: Exception) -> None:
    backend = Backend(answer)
    async with kept_fresh(Catalogue(backend.fetch)) as models:
        for _ in range(2):
            told = await models.models()
            assert (told.entries, told.source) == (packaged(), "packaged")
        assert len(backend.asked) == 1
        assert models.failures == {None: str(answer)}
        backend.answer = tuple(LIVE)
        await trio.sleep(catalogue.AGAIN_S)
        assert (await models.models()).entries == LIVE
        assert models.failures == {}


@in_virtual_time
async def test_another_list_can_stand_in_for_the_packaged_one() -> None:
    own = Models([{"slug": "own"}], "file")
    async with kept_fresh(Catalogue(Backend(LookupError("x")).fetch, otherwise=own)) as models:
        assert await models.models() is own


@in_virtual_time
async def test_the_last_list_of_the_backend_is_better_than_the_packaged_one() -> None:
    backend = Backend()
    async with kept_fresh(Catalogue(backend.fetch, ttl_s=10)) as models:
        await models.models()
        backend.answer = LookupError("gone")
        await trio.sleep(11)
        models.want()
        await a_while()
        assert models.now.entries == LIVE
        assert len(backend.asked) == 2


@in_virtual_time
async def test_a_backend_that_does_not_answer_is_waited_for_as_long_as_is_allowed() -> None:
    async with kept_fresh(Catalogue(Backend(takes_s=1000).fetch, fetch_s=7)) as models:
        began_at_s = trio.current_time()
        assert (await models.models()).entries == packaged()
        assert trio.current_time() - began_at_s == pytest.approx(7)
        await a_while()
        assert models.failures == {None: "it did not answer within 7 s"}


@in_virtual_time
async def test_where_it_is_switched_off_nobody_is_ever_asked() -> None:
    models = Catalogue(None)
    async with kept_fresh(models):
        models.want()
        models.noticed("new")
        began_at_s = trio.current_time()
        assert (await models.models()).source == "packaged"
        assert (await models.refreshed()).source == "packaged"
        assert trio.current_time() == began_at_s
    assert not models.asks


# which plans have a model


@in_virtual_time
async def test_each_plan_is_asked_once_and_all_models_are_served() -> None:
    backend, plans = Backend(), ["free", "pro", "free"]

    async def fetch(plan: str | None) -> Listing:
        await backend.fetch(plan)
        both: JsonObject = {"slug": "both", "priority": 2, "available_in_plans": ["free", "pro"]}
        paid: JsonObject = {"slug": "paid", "priority": 1, "available_in_plans": ["pro"]}
        return listing(*([both] if plan == "free" else [paid, both]), plan=plan)

    async with kept_fresh(Catalogue(fetch, lambda: plans)) as models:
        told = await models.models()
        assert sorted(map(str, backend.asked)) == ["free", "pro"]
        assert list(told.by_slug) == ["paid", "both"], "in the catalogue's order"
        assert models.plans_offering("paid") == {"pro"}
        assert models.plans_offering("both") == {"free", "pro"}
        plans[:] = ["pro", "team"]
        models.want()
        await a_while()
        assert sorted(map(str, backend.asked[2:])) == ["team"], "only what is not known"
        assert [each.plan for each in models.now.listings] == ["pro", "team"]


@in_virtual_time
async def test_a_plan_that_cannot_be_asked_keeps_its_last_list() -> None:
    backend = Backend()
    async with kept_fresh(Catalogue(backend.fetch, lambda: ["a", "b"], ttl_s=100)) as models:
        await models.models()
        backend.lacks, backend.answer = frozenset({"b"}), ({"slug": "newer"},)
        await trio.sleep(101)
        models.want()
        await a_while()
        assert set(models.now.by_slug) == {"live", "newer"}
        assert models.failures == {"b": "its quota is spent"}
        assert models.plans_offering("never heard of") == frozenset()
        await trio.sleep(catalogue.AGAIN_S)
        models.want()
        await a_while()
        assert backend.asked[4:] == ["b"], "and is asked again sooner than the other"


@in_virtual_time
async def test_the_backends_own_list_says_which_plans_have_a_model() -> None:
    live: tuple[JsonObject, ...] = (
        {"slug": "paid", "available_in_plans": ["plus", "pro", 5]},
        {"slug": "silent"},
        {"slug": "empty", "available_in_plans": []},
    )
    async with kept_fresh(Catalogue(Backend(live).fetch)) as models:
        assert models.plans_offering("paid") is None, "the packaged list is not asked"
        assert models.named_plans == frozenset()
        await models.models()
        assert models.plans_offering("paid") == {"plus", "pro"}
        for slug in ("silent", "empty"):
            assert models.plans_offering(slug) is None
        assert models.plans_offering("never heard of") == frozenset()
        assert models.named_plans == {"plus", "pro"}


@in_virtual_time
async def test_while_the_list_of_one_plan_is_not_there_no_model_is_known_to_be_in_none() -> None:
    backend = Backend(lacks=frozenset({"b"}))
    async with kept_fresh(Catalogue(backend.fetch, lambda: ["a", "b"])) as models:
        await models.models()
        assert models.plans_offering("never heard of") is None, "plan b may have it"


# when it is asked behind the scenes


@in_virtual_time
async def test_a_list_that_is_wanted_is_asked_for_only_when_it_is_old() -> None:
    backend = Backend()
    async with kept_fresh(Catalogue(backend.fetch, ttl_s=300)) as models:
        await trio.sleep(1000)
        assert backend.asked == [], "nobody wanted it"
        for _ in range(3):
            models.want()
        await a_while()
        assert len(backend.asked) == 1
        for later_s, asked in ((200, 1), (100, 2)):
            await trio.sleep(later_s)
            models.want()
            await a_while()
            assert len(backend.asked) == asked


@in_virtual_time
async def test_another_tag_brings_the_list_anew_and_the_same_tag_keeps_it_good() -> None:
    backend = Backend(etag="one")
    async with kept_fresh(Catalogue(backend.fetch, ttl_s=300)) as models:
        models.noticed(None)
        await a_while()
        assert backend.asked == []
        models.noticed("one")
        await a_while()
        assert len(backend.asked) == 1, "there was no list at all"
        for _ in range(10):
            await trio.sleep(200)
            models.noticed("one")
            models.want()
        await a_while()
        assert len(backend.asked) == 1, "as good as new each time"
        backend.etag, backend.answer = "two", ({"slug": "newer"},)
        models.noticed("two")
        await a_while()
        assert len(backend.asked) == 2
        assert list(models.now.by_slug) == ["newer"]


@in_virtual_time
async def test_tags_that_never_come_with_a_list_do_not_bring_it_again_and_again() -> None:
    backend = Backend(etag="one")
    async with kept_fresh(Catalogue(backend.fetch, ttl_s=300)) as models:
        for number in range(100):
            models.noticed("other")
            models.noticed(f"new each time: {number}")
            await trio.sleep(1)
        assert len(backend.asked) <= 100 / catalogue.AGAIN_S + 1
        await trio.sleep(300)
        asked = len(backend.asked)
        for _ in range(100):
            models.noticed("other")
            await trio.sleep(2)
        assert len(backend.asked) == asked + 1
        assert len(models._heard_at_s) < 20


@in_virtual_time
async def test_a_bug_behind_the_scenes_ends_nobody_and_is_not_met_again_at_once() -> None:
    backend = Backend(RuntimeError("a bug"))
    async with kept_fresh(Catalogue(backend.fetch, fetch_s=3)) as models:
        assert (await models.models()).source == "packaged", "whoever waits is served"
        for _ in range(5):
            models.want()
            await a_while()
        assert len(backend.asked) == 1
        backend.answer = tuple(LIVE)
        await trio.sleep(catalogue.AGAIN_S)
        assert (await models.models()).entries == LIVE
        assert len(backend.asked) == 2


# what is kept


@in_virtual_time
async def test_a_list_of_an_earlier_run_is_served_at_once_and_renewed_when_it_is_old() -> None:
    backend = Backend(etag="new")
    models = Catalogue(backend.fetch, ttl_s=300, shelf=backend)
    old = listing({"slug": "old"}, etag="kept", age_s=200)
    models.remember([old], client_version="1", now_unix_s=NOW_UNIX_S)
    async with kept_fresh(models):
        began_at_s = trio.current_time()
        told = await models.models()
        assert (list(told.by_slug), told.source) == (["old"], "cache")
        assert trio.current_time() == began_at_s
        models.noticed("kept")
        await a_while()
        assert backend.asked == []
    await trio.sleep(301)
    # Not beside other tasks: virtual time does not wait for the thread that writes.
    await models.refresh()
    assert models.now.source == "backend"
    assert backend.saved == [[None]]


@pytest.mark.parametrize(
    ("age_s", "version"), [(301, "1"), (-60, "1"), (0, "2")], ids=["old", "ahead", "other version"]
)
@in_virtual_time
async def test_what_cannot_be_believed_of_it_is_asked_for_at_once(
    age_s: float, version: str
) -> None:
    backend = Backend()
    models = Catalogue(backend.fetch, ttl_s=300)
    models.remember([listing(age_s=age_s)], client_version=version, now_unix_s=NOW_UNIX_S)
    async with kept_fresh(models):
        models.want()
        await a_while()
        assert len(backend.asked) == 1


@in_virtual_time
async def test_a_disk_that_takes_nothing_is_told_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FullDisk:
        def save(self, listings: Iterable[Listing]) -> None:
            raise OSError("no space left")

    models = Catalogue(Backend().fetch, shelf=FullDisk(), ttl_s=10)
    for _ in range(3):
        await models.refresh(anyway=True)
        assert models.now.entries == LIVE
    assert caplog.text.count("no space left") == 1


# the packaged list


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
