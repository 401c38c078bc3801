"""What is played next, what was missed, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from codexrelay.protocol.raw import dump
from harness.replay.ledger import Ledger, Miss, Taken
from harness.replay.matching import key_of
from harness.replay.pace import Pace
from tests.fakes.replayed import BACKEND, cassette, ledger_of, recorded
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import Track
    from harness.replay.matching import Key

MODELS = f"{BACKEND}/models"


def asked(value: Json, *, track: Track = "upstream", uri: str = f"{BACKEND}/responses") -> Key:
    return key_of(track, "POST", uri, body=dump(value))


def taken(ledger: Ledger, *keys: Key) -> int:
    got = ledger.take(*keys)
    assert isinstance(got, Taken)
    return got.recording.interaction.number


def test_equal_requests_get_their_answers_in_recorded_order() -> None:
    ledger = ledger_of(*(recorded(number, asked={"n": 0}) for number in (1, 2, 3)))

    assert [taken(ledger, asked({"n": 0})) for _ in range(3)] == [1, 2, 3]
    assert ledger.problems() == ()
    assert ledger.summary == "3 of 3 recordings played, 3 requests answered, no problem"


def test_who_asks_once_more_is_refused_and_told_so() -> None:
    ledger = ledger_of(recorded(1, asked={"n": 0}))
    taken(ledger, asked({"n": 0}))

    missed = ledger.take(asked({"n": 0}))

    told = "POST /backend-api/codex/responses was recorded once and is asked for once more"
    assert missed == Miss(told, is_refresh=False)
    assert ledger.problems() == (told,)


def test_a_loose_ledger_plays_the_last_answer_again_and_misses_nothing() -> None:
    ledger = ledger_of(
        recorded(1, asked={"n": 0}), recorded(2, asked={"n": 0}), recorded(3), repeat=True
    )

    assert [taken(ledger, asked({"n": 0})) for _ in range(4)] == [1, 2, 2, 2]
    assert ledger.problems() == ()
    assert isinstance(ledger.take(asked({"n": 1})), Miss)
    assert len(ledger.problems()) == 1


def test_what_nobody_asked_for_is_a_problem() -> None:
    ledger = ledger_of(recorded(1, asked={"n": 0}), recorded(2, asked={"n": 1}))
    taken(ledger, asked({"n": 1}))

    assert ledger.problems() == (
        "never asked for: tape.yaml number 1 (POST /backend-api/codex/responses)",
    )


def test_how_often_the_models_are_asked_for_does_not_matter() -> None:
    models = recorded(1, method="GET", uri=f"{MODELS}?client_version=1")
    key = key_of("upstream", "GET", f"{MODELS}?client_version=2")

    often, never = ledger_of(models), ledger_of(models, recorded(2, asked={"n": 0}))
    taken(never, asked({"n": 0}))

    assert [taken(often, key) for _ in range(3)] == [1, 1, 1]
    assert often.problems() == ()
    assert never.problems() == ()


def test_a_track_that_nobody_asks_is_not_missed_unless_nobody_asked_at_all() -> None:
    both = (recorded(1, asked={"n": 0}), recorded(2, asked={"n": 0}, track="client"))
    one, none = ledger_of(*both), ledger_of(*both)
    taken(one, asked({"n": 0}, track="client"))

    assert one.problems() == ()
    assert len(none.problems()) == 2


def test_a_request_of_either_track_finds_its_own() -> None:
    ledger = ledger_of(recorded(1, asked={"n": 0}, track="client"))

    assert taken(ledger, asked({"n": 0}), asked({"n": 0}, track="client")) == 1


def test_answers_are_counted_by_method_and_path() -> None:
    ledger = ledger_of(
        recorded(1, asked={"n": 0}),
        recorded(2, uri=f"{BACKEND}/other"),
        recorded(3, asked={"n": 1}),
    )
    keys = (asked({"n": 0}), key_of("upstream", "POST", f"{BACKEND}/other"), asked({"n": 1}))

    counts = [got.count for key in keys if isinstance(got := ledger.take(key), Taken)]

    assert counts == [1, 1, 2]


def test_a_miss_names_the_nearest_recording_and_what_differs() -> None:
    tools: Json = [{"type": "function", "name": "bash"}]
    ledger = Ledger.of(
        {
            "a/text.yaml": cassette(recorded(1, asked={"model": "gpt-5.5", "input": "hello"})),
            "a/tool.yaml": cassette(
                recorded(7, asked={"model": "gpt-5.5", "input": "hello", "tools": tools})
            ),
        }
    )

    missed = ledger.take(asked({"model": "gpt-5.5", "input": "hallo", "tools": tools, "n": 2}))

    assert isinstance(missed, Miss)
    assert missed.text == "\n".join(
        (
            "no recording matches POST /backend-api/codex/responses",
            "the nearest is a/tool.yaml number 7 (POST /backend-api/codex/responses), "
            "of the upstream track:",
            '  input: recorded "hello" asked "hallo"',
            "  n: recorded nothing asked 2",
        )
    )
    assert ledger.problems()[0] == missed.text


def test_without_recordings_a_miss_says_that() -> None:
    missed = ledger_of().take(asked({}))

    assert isinstance(missed, Miss)
    assert missed.text.endswith("there are no recordings")


@in_virtual_time
async def test_an_answer_waits_for_every_request_that_had_begun_before_it() -> None:
    ledger = ledger_of(
        recorded(1, asked={"n": 1}, began_at_s=0.0),
        recorded(2, asked={"n": 2}, began_at_s=0.5),
        recorded(3, asked={"n": 3}, began_at_s=2.0),
        recorded(4, method="GET", uri=MODELS, began_at_s=0.1),
    )
    first = ledger.take(asked({"n": 1}))
    assert isinstance(first, Taken)
    await ledger.until_begun(first.recording, 0.4)
    went_on = trio.Event()

    async def go_on() -> None:
        await ledger.until_begun(first.recording, 1.0)
        went_on.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await trio.testing.wait_all_tasks_blocked()
        assert not went_on.is_set()
        ledger.take(asked({"n": 2}))
        await went_on.wait()


@in_virtual_time
async def test_a_request_that_comes_in_another_form_is_waited_for_no_longer() -> None:
    ledger = ledger_of(
        recorded(1, asked={"n": 1}), recorded(2, asked={"n": 2, "m": 2}, began_at_s=0.5)
    )
    first = ledger.take(asked({"n": 1}))
    assert isinstance(first, Taken)

    ledger.take(asked({"n": 3, "m": 2}))

    await ledger.until_begun(first.recording, 1.0)


@pytest.mark.parametrize("text", ["1", "2", "0.5", "instant", "causal"])
def test_a_pace_is_written_as_it_is_read(text: str) -> None:
    assert str(Pace.parse(text)) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "nan", "inf"])
def test_what_is_no_pace_is_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(ValueError, match="a number above 0, instant or causal"):
        Pace.parse(text)


def test_recorded_times_are_divided_by_the_speed() -> None:
    assert Pace.parse("4").offset_s(10.0) == 2.5
    assert Pace.parse("instant").offset_s(10.0) == 0.0
