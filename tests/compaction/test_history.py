"""History compaction: stale results become stubs, and nothing else is touched."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import attrs
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.compaction.history import compact
from codexrelay.compaction.results import results_of, with_texts
from codexrelay.compaction.settings import STUB_MARK, CompactionSettings
from codexrelay.protocol.raw import dump, get_list
from tests.compaction.written import Said, chat, lines, outputs, responses
from tests.profiles.recorded import recordings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import Json, JsonObject

LONG = lines(60)
READ: Said = ("read", {"filePath": "/a.py"}, LONG)
LIST: Said = ("LS", {"directory_path": "/src"}, LONG)
#: Every request is above it.
AT_ONCE = CompactionSettings(enabled=True, token_threshold=0)


def with_(**changes: object) -> CompactionSettings:
    return attrs.evolve(AT_ONCE, **changes)


def stubbed(body: JsonObject) -> list[int]:
    """Return which results are stubs, by their numbers."""
    return [
        number
        for number, texts in enumerate(outputs(body))
        if any(text.startswith(STUB_MARK) for text in texts)
    ]


@pytest.mark.parametrize("written", [chat, responses])
def test_an_older_result_of_the_same_resource_becomes_a_stub(
    written: Callable[..., JsonObject],
) -> None:
    body = written(READ, LIST, READ)
    done = compact(body, AT_ONCE)
    stub = (
        f"{STUB_MARK} read /a.py: this older result ({len(LONG)} bytes) was left out;"
        " a newer one follows."
    )
    assert outputs(done.body) == [(stub,), (LONG,), (LONG,)]
    assert done.stubs == 1
    assert done.saved_bytes == len(dump(body)) - len(dump(done.body))
    assert done.tokens_before - done.tokens_after == pytest.approx(done.saved_bytes / 4, rel=0.05)


def test_both_dialects_get_equal_stubs() -> None:
    said = [READ, LIST, READ, LIST, ("bash", {"command": "pytest"}, LONG)] * 2
    assert outputs(compact(chat(*said), AT_ONCE).body) == outputs(
        compact(responses(*said), AT_ONCE).body
    )


def test_the_size_in_a_stub_is_that_of_the_text_in_bytes() -> None:
    umlauts: Said = ("read", {"path": "a"}, "ü" * 2000 + "\ud83d")
    stub = outputs(compact(chat(umlauts, umlauts), AT_ONCE).body)[0][0]
    assert "(4003 bytes)" in stub


def test_nothing_happens_up_to_the_threshold_and_everything_beyond() -> None:
    body = chat(READ, READ)
    tokens = compact(body, AT_ONCE).tokens_before
    below = compact(body, with_(token_threshold=tokens))
    assert below.body is body
    assert (below.stubs, below.saved_bytes) == (0, 0)
    assert below.tokens_before == below.tokens_after == tokens
    assert compact(body, with_(token_threshold=tokens - 1)).stubs == 1


def test_a_session_that_was_above_the_threshold_is_always_compacted() -> None:
    settings = with_(token_threshold=1_000_000)
    assert compact(chat(READ, READ), settings, always=True).stubs == 1


def test_the_ratio_of_the_session_decides_what_is_above_and_not_what_a_small_result_is() -> None:
    body = chat(READ, READ)
    tokens = compact(body, AT_ONCE).tokens_before
    settings = with_(token_threshold=tokens + 1, min_tool_output_tokens=len(LONG) // 4)
    assert compact(body, settings).stubs == 0
    assert compact(body, settings, characters_per_token=2.0).stubs == 1
    assert compact(body, settings, characters_per_token=9.0, always=True).stubs == 1
    assert compact(body, with_(min_tool_output_tokens=len(LONG) // 4 + 1)).stubs == 0


@pytest.mark.parametrize(
    ("settings", "stubs"),
    [
        ({}, [0, 1]),
        ({"denied_tool_categories": ("list_directory",)}, [0]),
        ({"denied_tool_categories": ("file_read",)}, [1]),
        ({"allowed_tool_categories": ("list_directory",)}, [1]),
        ({"allowed_tool_categories": ("list_directory", "file_read")}, [0, 1]),
        (
            {
                "allowed_tool_categories": ("list_directory", "file_read"),
                "denied_tool_categories": ("list_directory",),
            },
            [0],
        ),
        ({"allowed_tool_categories": ("search",)}, []),
        ({"preserve_last_n_results": 2}, []),
    ],
)
def test_the_settings_say_which_results_may_go(
    settings: dict[str, object], stubs: list[int]
) -> None:
    assert stubbed(compact(chat(READ, LIST, READ, LIST), with_(**settings)).body) == stubs


def test_as_many_of_the_newest_results_stay_as_are_asked_for() -> None:
    body = chat(*[READ] * 5)
    assert stubbed(compact(body, with_(preserve_last_n_results=2)).body) == [0, 1, 2]


def test_it_is_said_when_a_history_is_still_too_long() -> None:
    body = chat(READ, READ)
    after = compact(body, AT_ONCE).tokens_after
    assert compact(body, with_(max_tokens=after - 1)).over_max
    assert not compact(body, with_(max_tokens=after)).over_max


def test_a_template_says_what_the_stub_says() -> None:
    settings = with_(stub_template="see below ({resource}, {size:,})")
    stub = outputs(compact(chat(READ, READ), settings).body)[0]
    assert stub == (f"{STUB_MARK} see below (read /a.py, {len(LONG):,})",)


@pytest.mark.parametrize(
    "template",
    ["{size:>10000000}", "{resource.__class__}", "{resource!r}", "{size:{size}}", "{}", "{", "{x}"],
)
def test_a_template_holds_nothing_but_the_two_names(template: str) -> None:
    with pytest.raises(ValueError, match="all that stands in braces"):
        with_(stub_template=template)


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (READ, "a file"),
        (LIST, "a directory"),
        (("bash", {"command": "cat secret.txt"}, LONG), "a command"),
        (("grep", {"pattern": "secret"}, LONG), "a search"),
        (("bash", {"command": "pytest secret"}, LONG), "a test run"),
        (("secret", {"secret": "secret"}, LONG), "a tool"),
    ],
)
def test_a_stub_names_nothing_where_it_may_not(one: Said, kind: str) -> None:
    settings = with_(redact_resource_identifiers=True, stub_template="{resource}")
    assert outputs(compact(chat(one, one), settings).body)[0] == (f"{STUB_MARK} {kind}",)


def test_a_stub_is_never_larger_than_what_it_replaces() -> None:
    small: Said = ("read", {"path": "a"}, "x" * 60)
    settings = with_(min_tool_output_tokens=0)
    body = chat(small, small)
    assert compact(body, settings).body is body
    fits = compact(body, attrs.evolve(settings, stub_template="{size}"))
    assert outputs(fits.body)[0] == (f"{STUB_MARK} 60",)


def test_a_result_with_an_image_stays() -> None:
    image: JsonObject = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    seen: Said = ("Read", {"file_path": "a"}, [{"type": "input_text", "text": LONG}, image])
    body = responses(seen, seen)
    assert compact(body, AT_ONCE).body is body


def test_parts_of_a_result_become_one_stub() -> None:
    parts: Json = [{"type": "input_text", "text": LONG}, {"type": "input_text", "text": LONG}]
    body = responses(("exec", {}, parts), ("exec", {}, parts))
    stub, whole = outputs(compact(body, AT_ONCE).body)
    assert len(stub) == 1
    assert f"({2 * len(LONG)} bytes)" in stub[0]
    assert whole == (LONG, LONG)


def test_the_clients_own_compaction_is_not_touched() -> None:
    body = responses(READ, READ)
    own: list[Json] = [
        {"type": "compaction", "encrypted_content": LONG},
        {"type": "compaction_summary", "encrypted_content": LONG},
        {"type": "compaction_trigger"},
    ]
    body["input"] = [*own, *get_list(body, "input"), *own]
    done = get_list(compact(body, AT_ONCE).body, "input")
    assert (done[:3], done[-3:]) == (own, own)
    assert compact(body, AT_ONCE).stubs == 1


def test_what_a_request_has_beside_its_history_is_passed_on() -> None:
    body = {**chat(READ, READ), "tools": [{"x": 1}], "unknown": {"y": [2]}}
    done = compact(body, AT_ONCE).body
    assert list(done) == list(body)
    assert all(done[key] is body[key] for key in body if key != "messages")


@pytest.mark.parametrize("profile", ["codex_cli", "opencode", "droid", "pi", "openai_sdk"])
def test_what_real_programs_send_is_compacted_once_they_call_again(profile: str) -> None:
    sent = [one.body for one in recordings_of(profile, "tool") if results_of(one.body)]
    assert sent
    for body in sent:
        key = "messages" if "messages" in body else "input"
        history = [long(item) for item in get_list(body, key)]
        tail = history[-2:]  # the call and its result
        twice: JsonObject = {**body, key: [*history, *tail]}
        done = compact(twice, AT_ONCE)
        assert done.stubs == 1
        place = results_of(body)[-1].place
        assert [
            number
            for number, (then, now) in enumerate(
                zip(get_list(twice, key), get_list(done.body, key), strict=True)
            )
            if then != now
        ] == [place]
        assert dump(compact({**body, key: history}, AT_ONCE).body) == dump({**body, key: history})


def long(item: Json) -> Json:
    """Return a result with a long output, anything else as it is."""
    body: JsonObject = {"input": [item]}
    found = results_of(body)
    texts = {one.place: tuple(LONG for _ in one.texts) for one in found}
    return get_list(with_texts(body, texts), "input")[0]


#: One file of 90 lines, whose tools are those of pi, and other tools.
calls = st.one_of(
    st.tuples(
        st.just("read"),
        st.fixed_dictionaries(
            {"path": st.sampled_from(["a", "b"])},
            optional={"offset": st.integers(1, 90), "limit": st.integers(1, 90)},
        ),
    ),
    st.tuples(
        st.sampled_from(["bash", "Execute"]),
        st.fixed_dictionaries(
            {"command": st.sampled_from(["cat a", "cat b", "npm test"])},
            optional={"summary": st.sampled_from(["one", "two"])},
        ),
    ),
    st.tuples(st.sampled_from(["edit", "LS", "x"]), st.just({"path": "a"})),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Said]:
    """Return calls with their results; some results are notices, some are small."""
    said: list[Said] = []
    for number, (name, arguments) in enumerate(draw(st.lists(calls, max_size=12))):
        output = draw(st.sampled_from(["full", "full", "full", "Error: gone", ""]))
        if output == "full":
            output = shown(name, arguments, f"version {number}")
        said.append((name, dict(arguments), output))
    return said


def shown(name: str, arguments: JsonObject, word: str) -> str:
    """Return what the tool shows; of a file of 90 lines no more than 70 at a time."""
    if name != "read":
        return lines(50, word)
    first = int(arguments.get("offset", 1)) - 1
    count = min(int(arguments.get("limit", 70)), 70, 90 - first)
    return "\n".join(f"{n}: {word} {'x' * 20}" for n in range(first, first + count))


dialects = st.sampled_from([chat, responses])
#: Each example writes and compacts whole histories.
some = hypothesis.settings(max_examples=30)
some_settings = st.builds(
    CompactionSettings,
    enabled=st.booleans(),  # the caller's matter
    token_threshold=st.sampled_from([0, 0, 0, 500, 2000]),
    min_tool_output_tokens=st.sampled_from([0, 50, 250]),
    preserve_last_n_results=st.integers(1, 3),
    denied_tool_categories=st.sampled_from([(), (), ("file_read",), ("other",)]),
    stub_template=st.sampled_from(["{resource} ({size})", "{resource} " + "left out " * 20]),
)


@some
@given(said=histories(), written=dialects, settings=some_settings)
def test_compaction_is_idempotent_deterministic_and_changes_nothing_it_was_given(
    said: list[Said], written: Callable[..., JsonObject], settings: CompactionSettings
) -> None:
    body = written(*said)
    before = copy.deepcopy(body)
    once = compact(body, settings)
    assert body == before
    assert dump(compact(copy.deepcopy(body), settings).body) == dump(once.body)
    # Below the threshold by now, or still above it, as a session that keeps compacting: the same.
    if once.stubs:
        assert compact(once.body, settings).body is once.body
        assert compact(once.body, settings, always=True).body is once.body


@some
@given(said=histories(), written=dialects, settings=some_settings)
def test_calls_stay_paired_with_their_results_and_only_results_change(
    said: list[Said], written: Callable[..., JsonObject], settings: CompactionSettings
) -> None:
    body = written(*said)
    done = compact(body, settings)
    key = "messages" if "messages" in body else "input"
    places = {one.place for one in results_of(body)}
    field = "content" if key == "messages" else "output"
    pairs = zip(get_list(body, key), get_list(done.body, key), strict=True)
    for place, (then, now) in enumerate(pairs):
        if place in places:
            assert {**then, field: None} == {**now, field: None}
        else:
            assert now is then
    assert [one.call for one in results_of(body)] == [one.call for one in results_of(done.body)]


@some
@given(said=histories(), written=dialects, settings=some_settings)
def test_the_figures_are_true_and_nothing_grows(
    said: list[Said], written: Callable[..., JsonObject], settings: CompactionSettings
) -> None:
    body = written(*said)
    done = compact(body, settings)
    assert len(dump(body)) - len(dump(done.body)) == done.saved_bytes >= 0
    assert done.stubs == len(stubbed(done.body))
    assert compact(done.body, settings).tokens_before == done.tokens_after
    pairs = zip(results_of(body), results_of(done.body), strict=True)
    assert all(len(dump([*now.texts])) <= len(dump([*then.texts])) for then, now in pairs)


@some
@given(said=histories(), more=histories(), written=dialects, settings=some_settings)
def test_what_is_appended_changes_no_stub_and_brings_none_back(
    said: list[Said],
    more: list[Said],
    written: Callable[..., JsonObject],
    settings: CompactionSettings,
) -> None:
    earlier = compact(written(*said), settings)
    later = compact(written(*said, *more), settings, always=earlier.stubs > 0)
    changed = 0
    for one, other in zip(outputs(earlier.body), outputs(later.body), strict=False):
        if one != other:
            changed += 1
            assert not one[0].startswith(STUB_MARK)
            assert other[0].startswith(STUB_MARK)
    if earlier.stubs:
        # All else is equal byte for byte: only what the new part made stale differs.
        assert changed <= later.stubs - earlier.stubs


@some
@given(said=histories(), settings=some_settings)
def test_what_a_stub_has_replaced_is_told_again_by_enough_later_results(
    said: list[Said], settings: CompactionSettings
) -> None:
    done = compact(chat(*said), settings)
    gone = set(stubbed(done.body))
    for number in gone:
        assert said[number][0] != "edit"
        later = [one for one in range(number + 1, len(said)) if tells_again(said, number, one)]
        assert len(later) >= settings.preserve_last_n_results
        assert set(later) - gone


def tells_again(said: list[Said], earlier: int, later: int) -> bool:
    """Tell whether an equal call was answered, or all lines of the file were shown again."""
    (name, arguments, before), (other, again, after) = said[earlier], said[later]
    if name != other or not after or str(after).startswith("Error"):
        return False
    if without_prose(name, arguments) == without_prose(other, again):
        return True
    if name != "read" or arguments["path"] != again["path"]:
        return False
    return numbers(str(before)) <= numbers(str(after))


def without_prose(name: str, arguments: JsonObject) -> JsonObject:
    prose = {"summary"} if name in ("bash", "Execute") else set()
    return {key: value for key, value in arguments.items() if key not in prose}


def numbers(text: str) -> set[str]:
    return {line.partition(":")[0] for line in text.splitlines()}
