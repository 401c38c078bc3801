"""Outputs of tools become shorter: which ones, by which compressors, and within which time."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.compaction.compress import HEAD_MARK, Compressed, Compressor
from codexrelay.compaction.compressors import find_compressors
from codexrelay.compaction.compressors.compressor import Compressor as Member
from codexrelay.compaction.compressors.compressor import Context, Role, size_bytes
from codexrelay.compaction.settings import STUB_MARK, CompressionSettings
from tests.compaction.compressors.driven import LEVELS, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from codexrelay.compaction.compressors.compressor import Steps
    from codexrelay.compaction.settings import Level
    from codexrelay.protocol.raw import Json, JsonObject

SAMPLES = samples()
ON = CompressionSettings(enabled=True, time_budget_ms=1e9)
CALL: JsonObject = {"type": "function_call", "call_id": "c"}
#: One that every level makes shorter.
LONG = "\n".join(["begin", *["the very same line, again and again"] * 200, "end"])


class Clock:
    """Moves on by as much each time it is looked at."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def chat(text: Json, *, tool: str = "bash", **arguments: Json) -> JsonObject:
    call: JsonObject = {"name": tool, "arguments": json.dumps(arguments)}
    return {
        "model": "m",
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "c", "content": text},
        ],
    }


def responses(text: Json, *, tool: str = "bash", **arguments: Json) -> JsonObject:
    return {
        "input": [
            {**CALL, "name": tool, "arguments": json.dumps(arguments)},
            {"type": "function_call_output", "call_id": "c", "output": text},
        ]
    }


def done(
    body: JsonObject,
    given: CompressionSettings = ON,
    *,
    compressor: Compressor | None = None,
    clock: Clock | None = None,
) -> Compressed:
    return finished((compressor or Compressor()).steps(body, given, clock or Clock()))


def finished(
    steps: Generator[None, None, Compressed], between: Callable[[], None] = lambda: None
) -> Compressed:
    """Return what the steps come to; `between` is done after each of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Compressed = end.value
            return result
        between()


def output_of(result: Compressed) -> str:
    history = result.body.get("messages") or result.body.get("input")
    assert isinstance(history, list)
    last = history[-1]
    assert isinstance(last, dict)
    text = last.get("content") or last.get("output")
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("body_of", [chat, responses])
def test_a_long_output_becomes_shorter_and_the_request_given_stays(body_of: object) -> None:
    assert callable(body_of)
    body = body_of(LONG)
    before = copy.deepcopy(body)
    result = done(body)
    assert body == before
    assert result.outputs == 1
    assert result.saved_bytes == size_bytes(LONG) - size_bytes(output_of(result)) > 6_000
    assert output_of(result).splitlines() == [
        "[compressed: 7,209 -> 94 bytes: repetitions]",
        "begin",
        "the very same line, again and again",
        "[… 199 repetitions of the line above left out]",
        "end",
    ]


def test_each_text_of_an_output_is_one_by_itself() -> None:
    parts: Json = [{"type": "input_text", "text": "Output:"}, {"type": "input_text", "text": LONG}]
    result = done(responses(parts))
    history = result.body["input"]
    assert isinstance(history, list)
    assert isinstance(history[1], dict)
    shown = history[1]["output"]
    assert isinstance(shown, list)
    assert shown[0] == parts[0]
    assert "199 repetitions" in json.dumps(shown[1], ensure_ascii=False)


def test_a_request_without_long_outputs_is_given_back_itself() -> None:
    body = chat("fine")
    result = done(body)
    assert result.body is body
    assert (result.outputs, result.saved_bytes) == (0, 0)


def test_nothing_below_the_smallest_size_is_touched() -> None:
    size = size_bytes(LONG)
    assert done(chat(LONG), attrs.evolve(ON, min_bytes=size + 1)).outputs == 0
    assert done(chat(LONG), attrs.evolve(ON, min_bytes=size)).outputs == 1


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("read", {"filePath": "a.py"}),
        ("Read", {"file_path": "a.py"}),
        ("bash", {"command": "cat src/a.py"}),
        ("bash", {"command": "cd src && sed -n '1,200p' a.py"}),
        ("shell", {"command": ["bash", "-lc", "head -n 300 a.py; tail -n 20 b.py"]}),
    ],
)
def test_what_reads_files_is_left_alone(tool: str, arguments: dict[str, Json]) -> None:
    assert done(chat(LONG, tool=tool, **arguments)).outputs == 0


def test_what_belongs_to_no_known_call_may_be_a_file_and_is_left_alone() -> None:
    body: JsonObject = {"messages": [{"role": "tool", "tool_call_id": "c", "content": LONG}]}
    assert done(body).outputs == 0
    assert done(body, attrs.evolve(ON, disable_categories=())).outputs == 1


def test_a_script_of_commands_that_reads_files_is_left_alone() -> None:
    script = 'await tools.exec_command({cmd: "cat \\"a b.py\\" && make"})'
    body: JsonObject = {
        "input": [
            {"type": "custom_tool_call", "call_id": "c", "name": "exec", "input": script},
            {"type": "custom_tool_call_output", "call_id": "c", "output": LONG},
        ]
    }
    assert done(body).outputs == 0


@pytest.mark.parametrize(
    "command", ["tail -n 500 server.log", "make", "cat a.py | python", "make | tail -n 500"]
)
def test_what_reads_no_files_is_not(command: str) -> None:
    assert done(chat(LONG, command=command)).outputs == 1


def test_files_are_read_too_where_the_settings_say_so() -> None:
    assert done(chat(LONG, tool="read"), attrs.evolve(ON, disable_categories=())).outputs == 1


def test_tools_and_categories_can_be_left_alone() -> None:
    by_name = attrs.evolve(ON, disable_tools=("BASH",))
    by_category = attrs.evolve(ON, disable_categories=("command_execution",))
    for given_ in (by_name, by_category):
        assert done(chat(LONG, command="make"), given_).outputs == 0
        assert done(chat(LONG, tool="grep"), given_).outputs == 1


@pytest.mark.parametrize(
    "command",
    [
        "git diff --stat",
        "npm ls --json",
        "git log --format=%H",
        "kubectl get pods -o json",
        "x --json",
    ],
)
def test_a_format_that_was_asked_for_stays_but_for_colours(command: str) -> None:
    assert done(chat(LONG, command=command)).outputs == 0
    coloured = output_of(done(chat(f"\x1b[31m{LONG}\x1b[0m" + "\x1b[0m" * 30, command=command)))
    assert coloured.partition("\n")[2] == LONG
    assert done(chat(LONG, command="tool --jsonify")).outputs == 1


def test_stubs_of_the_history_stay() -> None:
    assert done(chat(f"{STUB_MARK} {LONG}")).outputs == 0


def test_what_was_shortened_before_stays() -> None:
    for marked in (LONG, SAMPLES["pytest-verbose.txt"], SAMPLES["server.log"]):
        for head in (True, False):
            given_ = attrs.evolve(ON, level="aggressive", markers=head)
            once = output_of(done(chat(marked), given_))
            assert done(chat(once), given_).outputs == 0


def test_the_head_line_can_be_left_out() -> None:
    text = output_of(done(chat(LONG), attrs.evolve(ON, markers=False)))
    assert text.startswith("begin\n")


def test_the_head_line_counts_for_the_size() -> None:
    barely = "\x1b[0m" + "\n".join(f"line {n} of many" for n in range(100))
    assert done(chat(barely)).outputs == 0
    assert done(chat(barely), attrs.evolve(ON, markers=False)).saved_bytes == 4


def test_json_has_no_line_at_its_head() -> None:
    pretty = json.dumps({"items": [{"id": n, "name": f"item {n}"} for n in range(100)]}, indent=2)
    for level in LEVELS:
        text = output_of(done(chat(pretty), attrs.evolve(ON, level=level)))
        json.loads(text)
    assert '"[… 88 items left out]"' in text


def test_what_codex_puts_before_an_output_stays_before_it() -> None:
    preamble = "Exit code: 0\nWall time: 0.1 seconds\nOutput:\n"
    text = output_of(done(responses(preamble + LONG)))
    assert text.startswith(f"{preamble}{HEAD_MARK}")


def test_an_output_inside_json_is_shortened_there() -> None:
    wrapped = json.dumps({"output": LONG, "metadata": {"exit_code": 1}}, separators=(",", ":"))
    text = json.loads(output_of(done(responses(wrapped))))
    assert text["metadata"] == {"exit_code": 1}
    assert text["output"].startswith(HEAD_MARK)
    assert "199 repetitions" in text["output"]


@pytest.mark.parametrize(
    ("sample", "names"),
    [
        ("pytest-verbose.txt", "ansi, tests"),
        ("unittest-verbose.txt", "tests"),
        ("cargo-test.txt", "tests"),
        ("node-test.txt", "tests"),
        ("node-test-tap.txt", "tests"),
        ("git-diff.txt", "diff"),
        ("git-log-patch.txt", "ansi, diff"),
        ("grep.txt", "search"),
        ("grep-context.txt", "search"),
        ("find.txt", "listing"),
        ("ls-long.txt", "listing"),
        ("npm-ls.txt", "listing"),
        ("server.log", "log"),
        ("docker-pull.txt", "progress"),
    ],
)
def test_the_look_of_an_output_chooses_the_compressors(sample: str, names: str) -> None:
    head, _, _ = output_of(
        done(chat(SAMPLES[sample]), attrs.evolve(ON, level="balanced"))
    ).partition("\n")
    assert head.endswith(f" bytes: {names}]")


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_higher_level_never_leaves_more(sample: str) -> None:
    sizes = [
        size_bytes(
            output_of(done(chat(SAMPLES[sample]), attrs.evolve(ON, level=level, min_bytes=0)))
        )
        for level in LEVELS
    ]
    # The names of compressors at the head may be a few more.
    assert sizes[2] <= sizes[1] + 20 <= sizes[0] + 40 <= size_bytes(SAMPLES[sample]) + 40


def test_in_a_diff_equal_lines_are_not_counted() -> None:
    """Each line counts there: a patch is made of it."""
    same = "+the very same line, added again\n" * 40
    text = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,40 @@\n{same}"
    assert done(chat(text), attrs.evolve(ON, level="aggressive")).outputs == 0


PIECES = st.sampled_from(
    [
        *("\x1b[1mbold\x1b[0m", "a 1%\ra 2%\r", "plain words", "same", "{", "[1,", "é", "\ud83d"),
        *(
            "\n",
            "\n",
            "\n",
            '{"a": [1, 2]}',
            "10:00:00 INFO x",
            "error: y",
            "src/a.py:3:z",
            "./a/b",
        ),
        *("t.py::a PASSED", "test result: ok", "diff --git a/x b/x", "[… 3 items left out]"),
        "x" * 300,
    ]
)


@settings(max_examples=30)
@given(pieces=st.lists(PIECES, max_size=60), level=st.sampled_from(LEVELS), head=st.booleans())
def test_any_output_is_never_larger_and_always_the_same(
    pieces: list[str], level: Level, head: bool
) -> None:
    text = " ".join(pieces).replace(" \n ", "\n") * 2
    given_ = attrs.evolve(ON, level=level, min_bytes=0, markers=head)
    result = done(chat(text), given_)
    if result.outputs:
        shorter = output_of(result)
        assert size_bytes(text) - size_bytes(shorter) == result.saved_bytes > 0
        assert output_of(done(chat(text), given_)) == shorter
        if head or "left out]" in shorter:
            assert done(chat(shorter), given_).outputs == 0
        assert ("error: y" in shorter) == ("error: y" in text)


def counting(seen: list[str], *, step_s: float = 0.0, clock: Clock | None = None) -> Member:
    """Return a compressor that halves a text in ten steps and notes that it was asked to."""

    def steps(text: str, context: Context, level: Level) -> Steps:
        seen.append(text)
        for _ in range(10):
            if clock is not None:
                clock.now_s += step_s
            yield
        return text[: len(text) // 2]

    return Member(name="half", role=Role.SURFACE, order=1, fits=lambda *_: True, steps=steps)


def test_a_history_that_comes_again_costs_a_lookup_and_stays_the_same() -> None:
    seen: list[str] = []
    compressor = Compressor(members=(counting(seen),))
    first, second = (done(chat(LONG), compressor=compressor) for _ in range(2))
    assert len(seen) == 1
    assert first == second
    assert second.saved_bytes > 0


def test_what_was_left_alone_is_remembered_too() -> None:
    seen: list[str] = []
    plain = "\n".join(f"line {n}" for n in range(500))
    half = attrs.evolve(counting(seen), steps=lambda text, *_: nothing(text, seen))
    compressor = Compressor(members=(half,))
    assert [done(chat(plain), compressor=compressor).outputs for _ in range(3)] == [0, 0, 0]
    assert len(seen) == 1


def nothing(text: str, seen: list[str]) -> Steps:
    seen.append(text)
    yield
    return text


@pytest.mark.parametrize(
    "changed", [{"level": "balanced"}, {"markers": False}, {"time_budget_ms": 5e8}]
)
def test_other_settings_are_another_result(changed: dict[str, object]) -> None:
    seen: list[str] = []
    compressor = Compressor(members=(counting(seen),))
    done(chat(LONG), compressor=compressor)
    done(chat(LONG), attrs.evolve(ON, **changed), compressor=compressor)
    assert len(seen) == 2


def test_an_output_over_its_budget_stays_whole_and_is_not_tried_again() -> None:
    seen: list[str] = []
    clock = Clock()
    compressor = Compressor(members=(counting(seen, step_s=0.02, clock=clock),))
    budget = attrs.evolve(ON, time_budget_ms=100)
    first = done(chat(LONG), budget, compressor=compressor, clock=clock)
    assert (first.outputs, first.over_budget) == (0, 1)
    assert clock.now_s == pytest.approx(0.12)  # the step that went over it was the last
    second = done(chat(LONG), budget, compressor=compressor, clock=clock)
    assert (second.outputs, second.over_budget, len(seen)) == (0, 0, 1)


def test_the_time_between_the_steps_does_not_count() -> None:
    clock = Clock()
    compressor = Compressor(members=(counting([], step_s=0.005, clock=clock),))
    steps = compressor.steps(chat(LONG), attrs.evolve(ON, time_budget_ms=100), clock)

    def others() -> None:
        clock.now_s += 10.0

    assert finished(steps, others).outputs == 1


def test_each_output_has_a_budget_of_its_own() -> None:
    clock = Clock()
    compressor = Compressor(members=(counting([], step_s=0.009, clock=clock),))
    body = chat(LONG)
    messages = body["messages"]
    assert isinstance(messages, list)
    other = chat(LONG + "!")["messages"]
    assert isinstance(other, list)
    body["messages"] = messages + other
    result = done(body, attrs.evolve(ON, time_budget_ms=100), compressor=compressor, clock=clock)
    assert (result.outputs, result.over_budget) == (2, 0)


def test_two_turns_at_once_go_on_with_the_same_bytes() -> None:
    """One of them runs out of its time with a text that the other has shortened meanwhile."""
    clock = Clock()
    compressor = Compressor(members=(counting([], step_s=0.0, clock=clock),))
    budget = attrs.evolve(ON, time_budget_ms=100)
    slow = compressor.steps(chat(LONG), budget, Clock(step_s=0.04))
    next(slow)
    next(slow)
    fast = done(chat(LONG), budget, compressor=compressor, clock=clock)
    assert fast.outputs == 1
    assert finished(slow).body == fast.body


def test_a_compressor_that_fails_leaves_the_output_alone_and_is_named_once() -> None:
    def broken(text: str, context: Context, level: Level) -> Steps:
        yield
        raise RuntimeError("no")

    bad = Member(name="bad", role=Role.REST, order=0, fits=lambda *_: True, steps=broken)
    compressor = Compressor(members=(*find_compressors(), bad))
    first = done(chat(LONG), compressor=compressor)
    assert (first.outputs, first.failed) == (0, ("bad",))
    assert done(chat(LONG), compressor=compressor).failed == ()


def test_what_is_remembered_is_bounded() -> None:
    compressor = Compressor(remembered_bytes=5_000)
    for number in range(100):
        done(chat(f"{number}\n{LONG}"), compressor=compressor)
    assert compressor._remembered.size_bytes <= 5_000


def test_no_step_is_long() -> None:
    """Ten thousand lines are never worked on in one piece."""
    text = "\n".join(f"2026-01-05 10:00:00 INFO line {n} of a log" for n in range(10_000))
    steps = Compressor().steps(chat(text), attrs.evolve(ON, level="aggressive"), Clock())
    count: list[None] = []
    finished(steps, lambda: count.append(None))
    assert len(count) > 30


def test_others_run_between_results_however_small_they_are() -> None:
    """A thousand of them take as long as a large one."""
    body: JsonObject = {"messages": chat("ok")["messages"] * 1_000}
    count: list[None] = []
    finished(Compressor().steps(body, ON, Clock()), lambda: count.append(None))
    assert len(count) >= 20
